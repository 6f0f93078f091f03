import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from stages import qat as stage
from stages import save
from stages.contracts import codec, labels
from stages.contracts.conversion import ConvertJob
from stages.contracts.images import CALIBRATION, TABLE, TRAINING
from stages.contracts.labels import Labels
from stages.contracts.model import ONNX, SAVED_MODEL, WEIGHTS
from stages.contracts.preprocessing import Floats, Preprocessing
from stages.contracts.reference import ANSWERS, Reference
from stages.contracts.status import OK, Status
from stages.contracts.training import (
    QAT,
    QAT_CURVE,
    QAT_ONNX,
    QAT_RECORD,
    QAT_SAVED_MODEL,
    QatRecord,
    QatTraining,
)  # fmt: skip
from stages.contracts.variant import Variant
from stages.core import files
from stages.data import batches
from stages.params import load
from stages.runtimes import comparison, registry
from stages.runtimes.contract import infer
from stages.training import qat
from stages.training.curves import COLUMNS
from tests.fixtures.coloured import COLOURS, paint
from tests.fixtures.errors import named, refused
from tests.fixtures.models import read_table
from tests.fixtures.tiny import UNASKED

REPOSITORY = Path(__file__).parents[2]
Edit = Callable[..., None]
VARIANTS = ["savedmodel-fp32", "tflite-int8", "tflite-int8-qat", "onnxruntime-int8-qat", "tensorrt-int8-qat"]
QAT_VARIANTS = VARIANTS[2:]
STILL = {"flip": False, "rotate_degrees": 0, "shift": 0, "zoom": 0}
CUSTOM: dict[str, dict[str, Any]] = {
    "model": {"name": "custom", "path": "mine.keras"},
    "train": {"source": "photos", "batch_size": 8, "validation": 0.2, "augment": STILL},
    "evaluation": {"source": "evaluation"},
    "qat": {"epochs": 3, "learning_rate": 0.003},
}
PREPARED = Preprocessing(8, 8, "crop", 0.875, (1 / 255,) * 3, (0.0,) * 3, "rgb")


def network(tf: Any) -> Any:
    layers = tf.keras.layers
    given = x = layers.Input((8, 8, 3))
    for _ in range(2):
        x = layers.Conv2D(24, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.5)(x))
    return tf.keras.Model(given, layers.Dense(len(COLOURS), "softmax")(layers.GlobalAveragePooling2D()(x)))


def skew(tf: Any, model: Any) -> None:
    """Give channels ranges far apart, which cost INT8 the narrow ones; in FP32 the answers stay the same.

    What batch normalisation multiplies a channel by, the next layer's weights are divided by: ReLU does not mind.
    """
    rng, layers = np.random.default_rng(0), tf.keras.layers
    weighted = [layer for layer in model.layers if isinstance(layer, (layers.Conv2D, layers.Dense))]
    scaled = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    for layer, after in zip(scaled, weighted[1:], strict=True):
        gamma, beta, *statistics = layer.get_weights()
        factor = 2.0 ** rng.uniform(-7, 7, gamma.shape).astype(np.float32)
        layer.set_weights([gamma * factor, beta * factor, *statistics])
        kernel, *bias = after.get_weights()
        after.set_weights([kernel / factor[:, None], *bias])


def images() -> tuple[Floats, Any]:
    """All images of data/train as the model takes them, and their classes."""
    rows = [row for _, row in files.read_csv(TRAINING / TABLE, "file", "label", "group")]
    found = np.stack([batches.load(TRAINING / row["file"], PREPARED) for row in rows])
    return found, np.array([int(row["label"]) for row in rows])


@pytest.fixture(scope="module")
def trained(tf: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[QatRecord]:
    """The record of a training in the current folder, of a network that knows its colours but loses by INT8."""
    folder, before = tmp_path_factory.mktemp("trained"), Path.cwd()
    values = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    for block, changes in CUSTOM.items():
        values[block] |= changes
    values["variants"] = VARIANTS
    os.chdir(folder)
    load.PARAMS.write_text(yaml.safe_dump(values))
    paint(dict.fromkeys(COLOURS, 40))
    tf.keras.utils.set_random_seed(0)
    model = network(tf)
    model.compile(tf.keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    inputs, classes = images()
    model.fit(inputs, classes, epochs=20, batch_size=16, verbose=0)
    answers = model(inputs).numpy()
    skew(tf, model)
    np.testing.assert_allclose(model(inputs).numpy(), answers, atol=1e-4)
    assert (answers.argmax(axis=1) == classes).mean() > 0.98
    WEIGHTS.mkdir(exist_ok=True, parents=True)
    model.save(WEIGHTS / "custom.keras")
    shutil.copytree(TRAINING, CALIBRATION, ignore=shutil.ignore_patterns("labels.csv", "[3-9]*", "??.png"))
    save.main()
    stage.main()
    yield record()
    os.chdir(before)


curve = partial(read_table, QAT_CURVE)


def record() -> QatRecord:
    return codec.read(QatRecord, QAT_RECORD)


def training_of(written: QatRecord) -> QatTraining:
    assert written.status == OK and written.training
    return written.training


def test_the_record_tells_of_the_best_epoch_and_the_curve_begins_before_the_first(trained: QatRecord) -> None:
    training = training_of(trained)
    assert (training.run.seed, training.train_images, training.validation_images) == (0, 96, 24)
    assert training.layers_not_simulated == {}
    assert training.run.train_s > 0
    assert [row["epoch"] for row in curve()] == [str(epoch) for epoch in range(4)]
    best = min(curve(), key=lambda row: float(row["val_loss"]))
    assert (training.run.best_epoch, training.run.best_val_loss) == (int(best["epoch"]), float(best["val_loss"]))
    assert training.run.best_val_accuracy == float(best["val_accuracy"])
    first = curve()[0]
    assert training.first_val_accuracy == float(first["val_accuracy"]) < training.run.best_val_accuracy
    assert first["loss"] == first["accuracy"] == first["learning_rate"] == first["epoch_s"] == ""
    assert max(float(row["learning_rate"]) for row in curve()[1:]) <= 0.003


def test_the_record_has_a_digest_of_what_is_converted(trained: QatRecord) -> None:
    assert trained.digest == files.tree_digest(QAT)


def accuracy(name: str, folder: Path) -> float:
    """Of a variant that is converted and run in this process, with weights of eight bits, as they were trained for."""
    variant, target = Variant.parse(name), folder / name
    target.mkdir()
    source, onnx = (QAT_SAVED_MODEL, QAT_ONNX) if variant.qat else (SAVED_MODEL, ONNX)
    options = registry.module(variant.runtime, "options").Options()
    options = replace(options, reduce_range=False) if hasattr(options, "reduce_range") else options
    job = ConvertJob(str(source), str(onnx), str(target), "int8", (1,), str(CALIBRATION), PREPARED, {}, UNASKED)
    registry.module(variant.runtime, "convert").convert(job, options)
    session = registry.module(variant.runtime, "session").open_session(target, "int8", options, 1)
    if variant.qat:  # held against the model before that training, as all variants are
        comparison.compare(replace(job, reference=Reference(str(ANSWERS), 0, 1e-4)), session)
    inputs, classes = images()
    return float((infer(session, inputs).argmax(axis=1) == classes).mean())


def test_training_wins_back_what_int8_loses(trained: QatRecord, tmp_path: Path) -> None:
    assert accuracy("tflite-int8", tmp_path) < 0.8
    assert accuracy("tflite-int8-qat", tmp_path) > 0.95
    assert accuracy("onnxruntime-int8-qat", tmp_path) > 0.95


def weights(tf: Any, folder: Path) -> list[Any]:
    found = tf.saved_model.load(str(folder / QAT_SAVED_MODEL.name)).weights
    return [variable.numpy() for variable in found]


def test_the_same_seed_learns_the_same(trained: QatRecord, tf: Any, tmp_path: Path) -> None:
    _, again = qat.learn(stage.job(), tmp_path)
    assert [epoch["val_accuracy"] for epoch in again] == [float(row["val_accuracy"]) for row in curve()]
    before, after = weights(tf, QAT), weights(tf, tmp_path)
    assert len(before) > 20
    for first, second in zip(before, after, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-3 * max(1e-3, float(np.abs(first).max())))


def test_without_a_variant_that_asks_for_it_nothing_is_trained(checkout: Path) -> None:
    files.write_text(QAT / "saved_model/saved_model.pb", "of an earlier run")
    stage.main()
    expected = Status("skipped", "no variant ends in -int8-qat")
    assert record() == QatRecord(expected, expected.reason)
    assert list(QAT.iterdir()) == []
    assert QAT_CURVE.read_text() == ",".join(COLUMNS) + "\n"


@pytest.mark.parametrize(("path", "kept"), [("mine", "custom/saved_model.pb"), ("net.onnx", "custom.onnx")])
def test_a_graph_without_layers_is_not_trained_and_says_what_would_be(
    checkout: Path, edit: Edit, path: str, kept: str
) -> None:
    files.write_text(WEIGHTS / kept, "a graph")
    edit(
        ("model.name", "custom"), ("model.path", path), ("variants", ["tflite-int8-qat"]), ("train.source", "photos")
    )  # fmt: skip
    stage.main()
    reason = qat.NO_KERAS.format(path)
    assert record() == QatRecord(Status("skipped", reason), reason)
    assert path in reason and "set model.path" in reason
    assert list(QAT.iterdir()) == []


@pytest.fixture
def custom(checkout: Path, edit: Edit, tf: Any, here: None) -> Callable[[Any], None]:
    """Put a network where `download` leaves it, save it, and ask for one QAT variant; training is in this process."""
    paint(dict.fromkeys(COLOURS, 8))
    changes = [(f"{block}.{key}", value) for block, values in CUSTOM.items() for key, value in values.items()]
    edit(*changes, ("variants", ["tflite-int8-qat"]), ("qat.epochs", 1))

    def write(model: Any) -> None:
        WEIGHTS.mkdir(exist_ok=True, parents=True)
        model.save(WEIGHTS / "custom.keras")
        save.main()

    return write


def test_a_training_that_is_not_finite_names_its_own_learning_rate(custom: Callable[[Any], None], tf: Any) -> None:
    layers = tf.keras.layers
    given = layers.Input((8, 8, 3))
    endless = tf.keras.regularizers.L2(3e38)  # of every weight: the loss overflows
    custom(tf.keras.Model(given, layers.Dense(3, "softmax", kernel_regularizer=endless)(layers.Flatten()(given))))
    error = refused(stage.main)
    status = record().status
    assert (error.code, str(error)) == ("not-trained", status.reason)  # so that the next run tries again
    assert status.state == "failed" and status.reason and status.reason.startswith("qat: after epoch 0 ")
    assert "qat.learning_rate" in status.reason
    assert record().digest == status.reason
    assert list(QAT.iterdir()) == []
    assert curve() == []


def test_layers_that_answer_otherwise_than_the_saved_model_are_refused(custom: Callable[[Any], None], tf: Any) -> None:
    custom(network(tf))
    network(tf).save(WEIGHTS / "custom.keras")  # other weights than were saved
    assert named(refused(qat.flat, tf, stage.job().chosen))[0] == "qat-layers-differ"


def test_labels_of_the_model_are_those_that_are_learned(custom: Callable[[Any], None], tf: Any) -> None:
    """As many as its outputs, of which some may have no image."""
    layers = tf.keras.layers
    given = layers.Input((8, 8, 3))
    labels.write(Labels(("red", "green", "blue", "none"), ("",) * 4))
    custom(tf.keras.Model(given, layers.Dense(4, "softmax")(layers.GlobalAveragePooling2D()(given))))
    stage.main()
    assert record().status == OK
    shapes = {tuple(value.shape) for value in weights(tf, QAT)}
    assert {(3, 4), (4,)} <= shapes
