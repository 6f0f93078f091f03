import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from stages import qat, save
from stages.contracts import labels, paths
from stages.contracts.labels import Labels
from stages.contracts.preprocessing import Floats, Preprocessing
from stages.contracts.variant import Variant
from stages.core import files
from stages.data import batches
from stages.measurement import conversion
from stages.params import document
from stages.runtimes import runtime
from stages.runtimes.contract import infer
from stages.runtimes.registry import VALID
from stages.training import fit
from tests.fixtures.models import COLOURS, paint, read_table

REPOSITORY = Path(__file__).parents[2]
Edit = Callable[..., None]
QAT_VARIANTS = ["tflite-int8-qat", "onnxruntime-int8-qat", "tensorrt-int8-qat"]
STILL = {"flip": False, "rotate_degrees": 0, "shift": 0, "zoom": 0}
OWN: dict[str, dict[str, Any]] = {
    "model": {"name": "custom", "path": "mine.keras"},
    "train": {"source": "photos", "batch_size": 8, "validation": 0.2, "augment": STILL},
    "evaluation": {"source": "exam"},
    "qat": {"epochs": 3, "learning_rate": 0.003},
    # Weights of eight bits, as they were trained for.
    "onnxruntime": {"reduce_range": False},
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


def photographs() -> tuple[Floats, Any]:
    """All images of data/train as the model takes them, and their classes."""
    rows = [row for _, row in files.read_csv(paths.TRAINING / "labels.csv", "file", "label", "group")]
    found = np.stack([batches.load(paths.TRAINING / row["file"], PREPARED) for row in rows])
    return found, np.array([int(row["label"]) for row in rows])


@pytest.fixture(scope="module")
def taught(tf: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The record of a training in the current folder, of a network that knows its colours but loses by INT8."""
    folder, before = tmp_path_factory.mktemp("taught"), Path.cwd()
    values = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    for block, changes in OWN.items():
        values[block] |= changes
    values["variants"] = ["savedmodel-fp32", "tflite-int8", *QAT_VARIANTS]
    os.chdir(folder)
    paths.PARAMS.write_text(yaml.safe_dump(values))
    paint(dict.fromkeys(COLOURS, 40))
    tf.keras.utils.set_random_seed(0)
    model = network(tf)
    model.compile(tf.keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    given, classes = photographs()
    model.fit(given, classes, epochs=20, batch_size=16, verbose=0)
    answers = model(given).numpy()
    skew(tf, model)
    np.testing.assert_allclose(model(given).numpy(), answers, atol=1e-4)
    assert (answers.argmax(axis=1) == classes).mean() > 0.98
    paths.WEIGHTS.mkdir(exist_ok=True, parents=True)
    model.save(paths.WEIGHTS / "own.keras")
    shutil.copytree(paths.TRAINING, paths.CALIBRATION, ignore=shutil.ignore_patterns("labels.csv", "[3-9]*", "??.png"))
    save.main()
    qat.main()
    yield files.read_json(paths.QAT_RECORD)
    os.chdir(before)


curve = partial(read_table, paths.QAT_CURVE)


def test_the_record_tells_of_the_best_epoch_and_the_curve_begins_before_the_first(taught: dict[str, Any]) -> None:
    assert (taught["status"], taught["reason"], taught["seed"]) == ("ok", None, 0)
    assert (taught["train_images"], taught["validation_images"]) == (96, 24)
    assert taught["layers_not_simulated"] == {}
    assert taught["train_s"] > 0
    assert [row["epoch"] for row in curve()] == [str(epoch) for epoch in range(4)]
    best = min(curve(), key=lambda row: float(row["val_loss"]))
    assert (taught["best_epoch"], taught["best_val_loss"]) == (int(best["epoch"]), float(best["val_loss"]))
    assert taught["best_val_accuracy"] == float(best["val_accuracy"])
    first = curve()[0]
    assert taught["first_val_accuracy"] == float(first["val_accuracy"]) < taught["best_val_accuracy"]
    assert first["loss"] == first["accuracy"] == first["learning_rate"] == first["epoch_s"] == ""
    assert max(float(row["learning_rate"]) for row in curve()[1:]) <= 0.003


def test_every_valid_variant_has_a_source_that_is_null_without_qat(taught: dict[str, Any]) -> None:
    digest = files.tree_digest(paths.QAT)
    assert taught["sources"] == {name: digest if name in QAT_VARIANTS else None for name in VALID}


def accuracy(name: str, folder: Path) -> float:
    setting = document.load()
    job = conversion.job_for(name, setting, folder / name)
    job.target.mkdir()
    chosen = runtime(Variant.parse(name).runtime)
    chosen.convert(job)
    given, classes = photographs()
    found = infer(chosen.load(job.target, job.precision, job.options, 1), given)
    return float((found.argmax(axis=1) == classes).mean())


def test_training_wins_back_what_int8_loses(taught: dict[str, Any], tmp_path: Path) -> None:
    assert accuracy("tflite-int8", tmp_path) < 0.8
    assert accuracy("tflite-int8-qat", tmp_path) > 0.95
    assert accuracy("onnxruntime-int8-qat", tmp_path) > 0.95


def weights(tf: Any, folder: Path) -> list[Any]:
    found = tf.saved_model.load(str(folder / paths.QAT_SAVED_MODEL.name)).weights
    return [variable.numpy() for variable in found]


def test_the_same_seed_learns_the_same(taught: dict[str, Any], tf: Any, tmp_path: Path) -> None:
    again = qat.learn(document.load(), tmp_path)
    assert [row["val_accuracy"] for row in again["curve"]] == [float(row["val_accuracy"]) for row in curve()]
    before, after = weights(tf, paths.QAT), weights(tf, tmp_path)
    assert len(before) > 20
    for first, second in zip(before, after, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-3 * max(1e-3, float(np.abs(first).max())))


def test_without_a_variant_that_asks_for_it_nothing_is_trained(checkout: Path) -> None:
    files.write_text(paths.QAT / "saved_model/saved_model.pb", "of an earlier run")
    qat.main()
    assert files.read_json(paths.QAT_RECORD) == {
        "status": "skipped", "reason": "no variant ends in -int8-qat", "sources": dict.fromkeys(VALID)
    }  # fmt: skip
    assert list(paths.QAT.iterdir()) == []
    assert paths.QAT_CURVE.read_text() == ",".join(fit.COLUMNS) + "\n"


@pytest.mark.parametrize(("path", "kept"), [("mine", "own/saved_model.pb"), ("net.onnx", "own.onnx")])
def test_a_graph_without_layers_is_not_trained_and_says_what_would_be(
    checkout: Path, edit: Edit, path: str, kept: str
) -> None:
    files.write_text(paths.WEIGHTS / kept, "a graph")
    edit(
        ("model.name", "custom"), ("model.path", path), ("variants", ["tflite-int8-qat"]), ("train.source", "photos")
    )  # fmt: skip
    qat.main()
    record = files.read_json(paths.QAT_RECORD)
    reason = (
        f"quantisation-aware training needs the layers of a Keras model, which {path} does not have: set model.path to "
        "a .keras or .h5 file, or to trained"
    )
    assert (record["status"], record["reason"]) == ("skipped", reason)
    assert record["sources"] == {name: reason if name in QAT_VARIANTS else None for name in VALID}
    assert list(paths.QAT.iterdir()) == []


@pytest.fixture
def own(checkout: Path, edit: Edit, tf: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Put a network where `download` leaves it, save it, and ask for one QAT variant; training is in this process."""
    monkeypatch.setattr(qat.isolate, "call", lambda function, *arguments: function(*arguments))
    paint(dict.fromkeys(COLOURS, 8))
    changes = [(f"{block}.{key}", value) for block, values in OWN.items() for key, value in values.items()]
    edit(*changes, ("variants", ["tflite-int8-qat"]), ("qat.epochs", 1))

    def write(model: Any) -> None:
        paths.WEIGHTS.mkdir(exist_ok=True, parents=True)
        model.save(paths.WEIGHTS / "own.keras")
        save.main()

    return write


def test_a_training_that_is_not_finite_names_its_own_learning_rate(own: Callable[[Any], None], tf: Any) -> None:
    layers = tf.keras.layers
    given = layers.Input((8, 8, 3))
    endless = tf.keras.regularizers.L2(3e38)  # of every weight: the loss overflows
    own(tf.keras.Model(given, layers.Dense(3, "softmax", kernel_regularizer=endless)(layers.Flatten()(given))))
    qat.main()
    record = files.read_json(paths.QAT_RECORD)
    reason = (
        "qat: after epoch 0 the loss or a weight is not finite: lower qat.learning_rate, or check custom.scale, mean "
        "and std"
    )
    assert (record["status"], record["reason"]) == ("failed", reason)
    assert record["sources"]["tflite-int8-qat"] == reason
    assert list(paths.QAT.iterdir()) == []
    assert curve() == []


def test_layers_that_answer_otherwise_than_the_saved_model_are_refused(own: Callable[[Any], None], tf: Any) -> None:
    own(network(tf))
    network(tf).save(paths.WEIGHTS / "own.keras")  # other weights than were saved
    qat.main()
    record = files.read_json(paths.QAT_RECORD)
    assert record["status"] == "failed"
    assert record["reason"].startswith("qat: its layers, called one by one, answer 0.")
    assert record["reason"].endswith(" away from the model itself")


def test_labels_of_the_model_are_those_that_are_learned(own: Callable[[Any], None], tf: Any) -> None:
    """As many as its outputs, of which some may have no image."""
    layers = tf.keras.layers
    given = layers.Input((8, 8, 3))
    labels.write(Labels(("red", "green", "blue", "none"), ("",) * 4))
    own(tf.keras.Model(given, layers.Dense(4, "softmax")(layers.GlobalAveragePooling2D()(given))))
    qat.main()
    assert files.read_json(paths.QAT_RECORD)["status"] == "ok"
    shapes = {tuple(value.shape) for value in weights(tf, paths.QAT)}
    assert {(3, 4), (4,)} <= shapes
