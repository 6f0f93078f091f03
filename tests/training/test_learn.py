import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from stages import save, train
from stages.contracts import codec, labels
from stages.contracts.labels import Labels
from stages.contracts.model import MODEL, SAVED_MODEL, ModelRecord
from stages.contracts.preprocessing import Preprocessing
from stages.contracts.status import OK, Status
from stages.contracts.training import CURVES, TRAIN, TRAINED, Run, Training, TrainRecord
from stages.core import files
from stages.data import batches
from stages.data.image_file import ImageFile
from stages.model import keras_zoo
from stages.params import load
from stages.training import curves as curves_file
from stages.training import dataset, fit, learn
from stages.training.dataset import Sets
from stages.training.learn import Job, Result
from tests.fixtures.coloured import COLOURED, COLOURS, paint
from tests.fixtures.errors import named, refused
from tests.fixtures.models import read_table

Jobs = Callable[..., Job]
PREPARED = Preprocessing(8, 12, "stretch", 1.0, (1 / 255,) * 3, (0.0,) * 3, "rgb")
REPOSITORY = Path(__file__).parents[2]


def cross_entropy(answers: Any, images: list[ImageFile]) -> float:
    right = answers[np.arange(len(images)), [image.label for image in images]]
    return float(-np.log(np.clip(right, 1e-7, 1)).mean())


def prepared_batch(images: list[ImageFile], prepared: Preprocessing) -> Any:
    return np.stack([batches.load(image.path, prepared) for image in images])


def sets_of(job: Job) -> Sets:
    return dataset.read(job.train.validation, job.split_seed)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Training]:
    """The record of a training with two seeds, in the current folder: in BGR with a mean of its own."""
    folder = tmp_path_factory.mktemp("trained")
    values = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    own = (
        ("custom.channels", "bgr"),
        ("custom.mean", [0.4, 0.5, 0.6]),
        ("custom.std", 0.2),
        ("train.seeds", [5, 0]),
    )
    for key, value in (*COLOURED, *own):
        block, name = key.split(".")
        values[block][name] = value
    before = Path.cwd()
    os.chdir(folder)
    load.PARAMS.write_text(yaml.safe_dump(values))
    paint(dict.fromkeys(COLOURS, 20))
    train.main()
    record = codec.read(TrainRecord, TRAIN)
    assert record.status == OK and record.training
    yield record.training
    os.chdir(before)


curves = partial(read_table, CURVES)


def test_the_record_tells_of_every_seed_and_the_curves_of_every_epoch(trained: Training) -> None:
    assert trained.backbone == "small"
    assert (trained.train_images, trained.validation_images) == (48, 12)
    assert [run.seed for run in trained.runs] == [5, 0]
    assert [(row["seed"], row["epoch"]) for row in curves()] == [
        (seed, epoch) for seed in ("5", "0") for epoch in ("1", "2")
    ]
    for run in trained.runs:
        own = [row for row in curves() if row["seed"] == str(run.seed)]
        best = min(own, key=lambda row: float(row["val_loss"]))
        assert (run.best_epoch, run.best_val_loss) == (int(best["epoch"]), float(best["val_loss"]))
        assert run.best_val_accuracy == float(best["val_accuracy"])
        assert run.train_s > 0
    assert all(float(row["epoch_s"]) > 0 and float(row["learning_rate"]) >= 0 for row in curves())


def test_the_kept_model_is_the_best_epoch_of_the_best_seed_with_the_recorded_preprocessing(
    trained: Training, tf: Any
) -> None:
    best = min(trained.runs, key=lambda run: run.best_val_loss)
    assert trained.seed == best.seed
    assert len({run.best_val_loss for run in trained.runs}) == 2
    assert sorted(files.sizes(TRAINED.parent)) == ["model.keras"]
    network = tf.keras.models.load_model(TRAINED)
    images = sets_of(train.job()).validation
    answers = network(prepared_batch(images, trained.preprocessing)).numpy()
    assert cross_entropy(answers, images) == pytest.approx(best.best_val_loss, rel=1e-3)


@pytest.mark.parametrize("losses", [(0.1, 0.2, 0.3), (0.3, 0.1, 0.2), (0.2, 0.3, 0.1)])
def test_the_model_of_the_seed_with_the_lowest_loss_is_kept_and_no_other(
    job: Jobs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, losses: tuple[float, ...]
) -> None:
    def run(seed: int) -> Run:
        return Run(seed, 1, losses[seed - 7], 0.5, 1.0)

    def call(_: Any, own: Job, seed: int, target: Path) -> Result:
        target.write_text(f"weights of seed {seed}")
        curve = [dict.fromkeys(curves_file.COLUMNS, 1.0) | {"seed": seed}]
        return Result(run(seed), 8, 2, PREPARED, curve)

    monkeypatch.setattr(learn.isolate, "call", call)
    training, curve = learn.train(job(("train.seeds", [7, 8, 9])), tmp_path)
    best = 7 + losses.index(0.1)
    assert training == Training("small", best, 8, 2, PREPARED, (run(7), run(8), run(9)))
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir() if path.is_file()] == [
        ("model.keras", f"weights of seed {best}")
    ]
    assert [row["seed"] for row in curve] == [7, 8, 9]


def test_the_saved_model_answers_like_the_trained_network(trained: Training, tf: Any, here: None) -> None:
    save.main()
    record = codec.read(ModelRecord, MODEL)
    prepared = record.preprocessing
    assert record.training == trained and prepared == trained.preprocessing
    assert (prepared.height, prepared.width, prepared.resize, prepared.channels) == (8, 12, "stretch", "bgr")
    assert prepared.scale == pytest.approx([1 / 51] * 3) and prepared.offset == pytest.approx([-2, -2.5, -3])
    assert (record.name, record.input_shape, record.classes) == ("custom", (8, 12, 3), 3)
    assert record.save_difference <= 1e-4
    network = tf.keras.models.load_model(TRAINED)
    assert record.parameters == network.count_params()
    batch = prepared_batch(sets_of(train.job()).train[:5], prepared)
    served = tf.saved_model.load(str(SAVED_MODEL)).signatures["serving_default"]
    answers = served(images=tf.constant(batch))["probabilities"].numpy()
    np.testing.assert_allclose(answers, network(batch).numpy(), atol=1e-5)


def test_other_models_leave_an_empty_folder_and_say_why(checkout: Path) -> None:
    files.write_text(TRAINED, "of an earlier run")
    train.main()
    assert codec.read(TrainRecord, TRAIN) == TrainRecord(Status("skipped", "model.path is not trained"))
    assert list(TRAINED.parent.iterdir()) == []
    assert CURVES.read_text() == ",".join(curves_file.COLUMNS) + "\n"


def test_class_weights_do_not_mind_a_class_without_images(job: Jobs, tmp_path: Path) -> None:
    labels.write(Labels(("red", "green", "blue", "white"), ("",) * 4))
    found = learn.learn(job(("train.class_weights", True)), 0, tmp_path / "a.keras")
    assert len(found.curve) == 2
    assert (tmp_path / "a.keras").exists()


def test_class_weights_change_what_is_learned(job: Jobs, tmp_path: Path) -> None:
    paint({"red": 30, "green": 10})
    losses = [
        learn.learn(job(("train.class_weights", weighted)), 0, tmp_path / "a.keras").curve[0]["loss"]
        for weighted in (False, True)
    ]
    assert losses[0] != losses[1]


def test_the_same_seed_learns_the_same(job: Jobs, tmp_path: Path) -> None:
    found = [learn.learn(job(), 1, tmp_path / "a.keras").run.best_val_loss for _ in range(2)]
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_colours_are_learned(job: Jobs, tmp_path: Path) -> None:
    changes = (("train.epochs", 15), ("train.learning_rate", 0.01), ("train.augment", {
        "flip": True, "rotate_degrees": 5, "shift": 0.05, "zoom": 0.05
    }))  # fmt: skip
    found = learn.learn(job(*changes), 0, tmp_path / "a.keras")
    assert found.run.best_val_accuracy == 1
    assert found.run.best_val_loss == min(row["val_loss"] for row in found.curve)


def test_training_ends_once_it_does_not_get_better(job: Jobs, tmp_path: Path) -> None:
    # At such a rate the weights do not move, and so neither does the loss on the validation images get lower for long.
    changes = (("train.epochs", 50), ("train.patience", 1), ("train.learning_rate", 1e-30))
    found = learn.learn(job(*changes), 0, tmp_path / "a.keras")
    assert len(found.curve) < 50
    last, before = found.curve[-1], found.curve[:-1]
    assert last["val_loss"] >= min(row["val_loss"] for row in before)


def test_a_loss_that_is_no_number_ends_the_training_with_the_key_to_change(
    job: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learn.isolate, "call", lambda function, *arguments: function(*arguments))
    job(("custom.scale", 1e38), ("custom.std", 1e-3))
    files.write_text(TRAINED, "of an earlier run")
    error = refused(train.main)
    assert named(error, "key", "epoch") == ("training-not-finite", "train.learning_rate", 1)
    assert TRAINED.read_text() == "of an earlier run"
    assert not TRAIN.exists()
    assert not CURVES.exists()
    assert [path.name for path in Path("models").iterdir()] == ["trained"]


@pytest.mark.parametrize(
    ("backbone", "epochs", "frozen", "expected"),
    [
        ("small", 5, 3, [(True, 5, 0.01)]),
        ("mobilenet_v2", 5, 3, [(False, 3, 0.01), (True, 2, 0.001)]),
        ("mobilenet_v2", 2, 3, [(False, 2, 0.01)]),
        ("mobilenet_v2", 2, 0, [(True, 2, 0.001)]),
    ],
)
def test_a_backbone_is_frozen_first(
    job: Jobs, backbone: str, epochs: int, frozen: int, expected: list[tuple[bool, int, float]]
) -> None:
    own = replace(job().train, backbone=backbone, epochs=epochs, frozen_epochs=frozen, learning_rate=0.01)
    found = learn.phases(own)
    assert [phase[:2] for phase in found] == [phase[:2] for phase in expected]
    assert [phase[2] for phase in found] == pytest.approx([phase[2] for phase in expected])


@pytest.fixture
def tiny_backbone(tf: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A network in place of the zoo's, which would take half a minute; returns its weights by name, as they begin."""
    layers = tf.keras.layers
    inputs = layers.Input((32, 32, 3))
    x = layers.BatchNormalization()(layers.Conv2D(8, 3, 2, name="stem")(inputs))
    x = layers.BatchNormalization()(layers.Conv2D(8, 3, 2, activation="tanh")(x))
    x = layers.Dense(1000, "softmax", name="top")(layers.GlobalAveragePooling2D()(x))
    backbone = tf.keras.Model(inputs, x)
    prepared = Preprocessing(32, 32, "crop", 0.875, (1 / 127.5,) * 3, (-1.0,) * 3, "rgb")
    monkeypatch.setattr(keras_zoo, "build", lambda *_: backbone)
    monkeypatch.setattr(keras_zoo, "preprocessing", lambda *_: prepared)
    # What the last epoch leaves, whether or not it is the best.
    monkeypatch.setattr(fit.Best, "restore", lambda _: None)
    return by_layer(backbone)


def by_layer(model: Any) -> dict[str, Any]:
    return {f"{layer.name}/{variable.name}": variable.numpy() for layer in model.layers for variable in layer.variables}


def changed(tf: Any, path: Path, before: dict[str, Any]) -> tuple[set[str], set[str]]:
    """Names of the backbone's variables, and of those that are others now."""
    found = by_layer(tf.keras.models.load_model(path, compile=False).get_layer("backbone"))
    return {*found}, {name for name, value in found.items() if not np.array_equal(value, before[name])}


BACKBONE = (("train.backbone", "mobilenet_v2"), ("custom.size", None), ("custom.crop_fraction", 1.0))


def test_a_frozen_backbone_stays_as_it_is(job: Jobs, tf: Any, tiny_backbone: dict[str, Any], tmp_path: Path) -> None:
    own = job(*BACKBONE, ("train.frozen_epochs", 2), ("train.learning_rate", 0.05))
    found = learn.learn(own, 0, tmp_path / "a.keras")
    names, others = changed(tf, tmp_path / "a.keras", tiny_backbone)
    assert len(names) == 12 and "top/kernel" not in names
    assert others == set()
    assert found.curve[1]["loss"] != found.curve[0]["loss"]  # the new layer learns
    assert (found.preprocessing.crop_fraction, found.preprocessing.resize) == (1.0, "stretch")
    assert found.preprocessing.scale == pytest.approx([1 / 127.5] * 3)


def test_fine_tuning_changes_the_backbone_but_not_its_statistics(
    job: Jobs, tf: Any, tiny_backbone: dict[str, Any], tmp_path: Path
) -> None:
    own = job(*BACKBONE, ("train.frozen_epochs", 1), ("train.epochs", 3), ("train.learning_rate", 0.05))
    found = learn.learn(own, 0, tmp_path / "a.keras")
    names, others = changed(tf, tmp_path / "a.keras", tiny_backbone)
    statistics = {name for name in names if "moving_" in name}
    assert len(statistics) == 4
    assert others == names - statistics
    rates = [row["learning_rate"] for row in found.curve]
    assert [row["epoch"] for row in found.curve] == [1, 2, 3]
    assert max(rates[1:]) < 0.05 * learn.FINE_TUNING


def test_ctrl_c_leaves_nothing_half_written(job: Jobs, heeded: None) -> None:
    job(("train.epochs", 100_000), ("train.patience", 100_000))
    files.write_text(TRAINED, "of an earlier run")
    search = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-m", "stages.train"], env=os.environ | {"PYTHONPATH": search}, start_new_session=True,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 60
        while not list(Path("models").glob(".trained.*.tmp")) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(6)  # into its work
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: interrupted: run the same command again, and it goes on where it stopped" in errors.splitlines()
    assert "Traceback" not in errors
    assert [path.name for path in Path("models").iterdir()] == ["trained"]
    assert TRAINED.read_text() == "of an earlier run"
    assert not (TRAIN.exists() or CURVES.exists())
