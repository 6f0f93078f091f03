import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from stages import save, train
from stages.contracts import labels, paths
from stages.contracts.labels import Labels
from stages.contracts.preprocessing import Preprocessing
from stages.core import files
from stages.core.errors import PipelineError
from stages.data import batches
from stages.data.image_file import Photo
from stages.model import keras_zoo, saved_model
from stages.params import document
from stages.params.document import Params
from stages.training import fit
from tests.fixtures.models import COLOURED, COLOURS, Setting, paint, read_table

REPOSITORY = Path(__file__).parents[2]


def cross_entropy(answers: Any, photos: list[Photo]) -> float:
    right = answers[np.arange(len(photos)), [photo.label for photo in photos]]
    return float(-np.log(np.clip(right, 1e-7, 1)).mean())


def prepared_batch(photos: list[Photo], record: dict[str, Any]) -> Any:
    prepared = Preprocessing.from_json(record["preprocessing"])
    return np.stack([batches.load(photo.path, prepared) for photo in photos])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The record of a training with three seeds, in the current folder: in BGR with a mean of its own."""
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
    paths.PARAMS.write_text(yaml.safe_dump(values))
    paint(dict.fromkeys(COLOURS, 20))
    train.main()
    yield files.read_json(paths.TRAIN)
    os.chdir(before)


curves = partial(read_table, paths.CURVES)


def test_the_record_tells_of_every_seed_and_the_curves_of_every_epoch(trained: dict[str, Any]) -> None:
    assert (trained["status"], trained["backbone"]) == ("ok", "small")
    assert (trained["train_images"], trained["validation_images"]) == (48, 12)
    assert [run["seed"] for run in trained["runs"]] == [5, 0]
    assert [(row["seed"], row["epoch"]) for row in curves()] == [
        (seed, epoch) for seed in ("5", "0") for epoch in ("1", "2")
    ]
    for run in trained["runs"]:
        own = [row for row in curves() if row["seed"] == str(run["seed"])]
        best = min(own, key=lambda row: float(row["val_loss"]))
        assert (run["best_epoch"], run["best_val_loss"]) == (int(best["epoch"]), float(best["val_loss"]))
        assert run["best_val_accuracy"] == float(best["val_accuracy"])
    assert all(float(row["epoch_s"]) > 0 and float(row["learning_rate"]) >= 0 for row in curves())


def test_the_kept_model_is_the_best_epoch_of_the_best_seed_with_the_recorded_preprocessing(
    trained: dict[str, Any], tf: Any
) -> None:
    best = min(trained["runs"], key=lambda run: run["best_val_loss"])
    assert trained["seed"] == best["seed"]
    assert len({run["best_val_loss"] for run in trained["runs"]}) == 2
    assert sorted(files.sizes(paths.TRAINED.parent)) == ["model.keras"]
    network = tf.keras.models.load_model(paths.TRAINED)
    photos = fit.photographs(document.load()).validation
    answers = network(prepared_batch(photos, trained)).numpy()
    assert cross_entropy(answers, photos) == pytest.approx(best["best_val_loss"], rel=1e-3)


@pytest.mark.parametrize("losses", [(0.1, 0.2, 0.3), (0.3, 0.1, 0.2), (0.2, 0.3, 0.1)])
def test_the_model_of_the_seed_with_the_lowest_loss_is_kept_and_no_other(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, losses: tuple[float, ...]
) -> None:
    def call(_: Any, own: Params, seed: int, target: Path) -> dict[str, Any]:
        target.write_text(f"weights of seed {seed}")
        curve = [dict.fromkeys(fit.COLUMNS, 1) | {"seed": seed}]
        told = {"train_images": 8, "validation_images": 2, "preprocessing": {}}
        return {"seed": seed, "best_val_loss": losses[own.train.seeds.index(seed)], "curve": curve} | told

    monkeypatch.setattr(train.isolate, "call", call)
    found = train.train(setting(("train.seeds", [7, 8, 9])), tmp_path)
    best = 7 + losses.index(0.1)
    assert found == {
        "backbone": "small", "seed": best, "train_images": 8, "validation_images": 2, "preprocessing": {},
        "runs": [{"seed": seed, "best_val_loss": loss} for seed, loss in zip((7, 8, 9), losses, strict=True)],
    }  # fmt: skip
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir() if path.is_file()] == [
        ("model.keras", f"weights of seed {best}")
    ]
    assert [row["seed"] for row in curves()] == ["7", "8", "9"]


def test_the_saved_model_answers_like_the_trained_network(trained: dict[str, Any], tf: Any) -> None:
    save.main()
    record = files.read_json(paths.MODEL)
    prepared = record["preprocessing"]
    assert prepared == trained["preprocessing"]
    assert (prepared["height"], prepared["width"], prepared["resize"], prepared["channels"]) == (
        8,
        12,
        "stretch",
        "bgr",
    )
    assert prepared["scale"] == pytest.approx([1 / 51] * 3) and prepared["offset"] == pytest.approx([-2, -2.5, -3])
    assert (record["name"], record["input_shape"], record["classes"]) == ("custom", [8, 12, 3], 3)
    assert record["save_difference"] <= saved_model.TOLERANCE
    network = tf.keras.models.load_model(paths.TRAINED)
    assert record["parameters"] == network.count_params()
    batch = prepared_batch(fit.photographs(document.load()).train[:5], trained)
    served = tf.saved_model.load(str(paths.SAVED_MODEL)).signatures["serving_default"]
    found = served(images=tf.constant(batch))["probabilities"].numpy()
    np.testing.assert_allclose(found, network(batch).numpy(), atol=1e-5)


def test_other_models_leave_an_empty_folder_and_say_why(checkout: Path) -> None:
    files.write_text(paths.TRAINED, "of an earlier run")
    train.main()
    assert files.read_json(paths.TRAIN) == {"status": "skipped", "reason": "model.path is not trained"}
    assert list(paths.TRAINED.parent.iterdir()) == []
    assert paths.CURVES.read_text() == ",".join(fit.COLUMNS) + "\n"


def test_class_weights_do_not_mind_a_class_without_images(setting: Setting, tmp_path: Path) -> None:
    labels.write(Labels(("red", "green", "blue", "white"), ("",) * 4))
    found = train.learn(setting(("train.class_weights", True)), 0, tmp_path / "a.keras")
    assert len(found["curve"]) == 2
    assert (tmp_path / "a.keras").exists()


def test_class_weights_change_what_is_learned(setting: Setting, tmp_path: Path) -> None:
    paint({"red": 30, "green": 10})
    losses = [
        train.learn(setting(("train.class_weights", weighted)), 0, tmp_path / "a.keras")["curve"][0]["loss"]
        for weighted in (False, True)
    ]
    assert losses[0] != losses[1]


def test_the_same_seed_learns_the_same(setting: Setting, tmp_path: Path) -> None:
    found = [train.learn(setting(), 1, tmp_path / "a.keras")["best_val_loss"] for _ in range(2)]
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_colours_are_learned(setting: Setting, tmp_path: Path) -> None:
    changes = (("train.epochs", 15), ("train.learning_rate", 0.01), ("train.augment", {
        "flip": True, "rotate_degrees": 5, "shift": 0.05, "zoom": 0.05
    }))  # fmt: skip
    found = train.learn(setting(*changes), 0, tmp_path / "a.keras")
    assert found["best_val_accuracy"] == 1
    assert found["best_val_loss"] == min(row["val_loss"] for row in found["curve"])


def test_training_ends_once_it_does_not_get_better(setting: Setting, tmp_path: Path) -> None:
    # At such a rate the weights do not move, and so neither does the loss on the validation images get lower for long.
    changes = (("train.epochs", 50), ("train.patience", 1), ("train.learning_rate", 1e-30))
    found = train.learn(setting(*changes), 0, tmp_path / "a.keras")
    assert len(found["curve"]) < 50
    last, before = found["curve"][-1], found["curve"][:-1]
    assert last["val_loss"] >= min(row["val_loss"] for row in before)


def test_a_loss_that_is_no_number_ends_the_training_with_the_key_to_change(setting: Setting) -> None:
    setting(("custom.scale", 1e38), ("custom.std", 1e-3))
    files.write_text(paths.TRAINED, "of an earlier run")
    with pytest.raises(PipelineError, match=r"^after epoch 1 the loss or a weight is not finite: lower train\."):
        train.main()
    assert paths.TRAINED.read_text() == "of an earlier run"
    assert not paths.TRAIN.exists()
    assert not paths.CURVES.exists()
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
    setting: Setting, backbone: str, epochs: int, frozen: int, expected: list[tuple[bool, int, float]]
) -> None:
    own = replace(setting().train, backbone=backbone, epochs=epochs, frozen_epochs=frozen, learning_rate=0.01)
    found = train.phases(own)
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
    return {variable.name: variable.numpy() for variable in backbone.variables}


def changed(tf: Any, path: Path, before: dict[str, Any]) -> tuple[set[str], set[str]]:
    """Names of the backbone's variables, and of those that are others now."""
    body = tf.keras.models.load_model(path, compile=False).get_layer("backbone")
    names = {variable.name for variable in body.variables}
    return names, {
        variable.name for variable in body.variables if not np.array_equal(variable.numpy(), before[variable.name])
    }


BACKBONE = (("train.backbone", "mobilenet_v2"), ("custom.size", None), ("custom.crop_fraction", 1.0))


def test_a_frozen_backbone_stays_as_it_is(
    setting: Setting, tf: Any, tiny_backbone: dict[str, Any], tmp_path: Path
) -> None:
    own = setting(*BACKBONE, ("train.frozen_epochs", 2), ("train.learning_rate", 0.05))
    found = train.learn(own, 0, tmp_path / "a.keras")
    names, others = changed(tf, tmp_path / "a.keras", tiny_backbone)
    assert len(names) == 12 and "top/kernel:0" not in names
    assert others == set()
    assert found["curve"][1]["loss"] != found["curve"][0]["loss"]  # the new layer learns
    assert found["preprocessing"]["crop_fraction"] == 1.0 and found["preprocessing"]["resize"] == "stretch"
    assert found["preprocessing"]["scale"] == pytest.approx([1 / 127.5] * 3)


def test_fine_tuning_changes_the_backbone_but_not_its_statistics(
    setting: Setting, tf: Any, tiny_backbone: dict[str, Any], tmp_path: Path
) -> None:
    own = setting(*BACKBONE, ("train.frozen_epochs", 1), ("train.epochs", 3), ("train.learning_rate", 0.05))
    found = train.learn(own, 0, tmp_path / "a.keras")
    names, others = changed(tf, tmp_path / "a.keras", tiny_backbone)
    statistics = {name for name in names if "moving_" in name}
    assert len(statistics) == 4
    assert others == names - statistics
    rates = [row["learning_rate"] for row in found["curve"]]
    assert [row["epoch"] for row in found["curve"]] == [1, 2, 3]
    assert max(rates[1:]) < 0.05 * train.FINE_TUNING


def test_ctrl_c_leaves_nothing_half_written(setting: Setting, heeded: None) -> None:
    setting(("train.epochs", 100_000), ("train.patience", 100_000))
    files.write_text(paths.TRAINED, "of an earlier run")
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
    assert paths.TRAINED.read_text() == "of an earlier run"
    assert not (paths.TRAIN.exists() or paths.CURVES.exists())
