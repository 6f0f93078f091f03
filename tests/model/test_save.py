from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import save
from stages.contracts import codec, labels, reference
from stages.contracts.images import CALIBRATION
from stages.contracts.labels import Labels
from stages.contracts.model import MODEL, SAVED_MODEL, WEIGHTS, ModelRecord
from stages.contracts.preprocessing import Preprocessing
from stages.core import files, wall
from stages.data import batches
from stages.model import saved_model
from stages.model.classifier import Classifier
from tests.fixtures import tiny
from tests.fixtures.errors import named, refused

Edit = Callable[..., None]
NAMES = ("cat", "dog", "cow")


@pytest.fixture
def custom(checkout: Path, edit: Edit, tf: Any, here: None) -> Callable[..., Any]:
    """Put a Keras network [n, 6, 8, 3] to so many outputs where `download` leaves it; returns the network."""

    def write(name: str, outputs: int, activation: str, classes: tuple[str, ...] = NAMES) -> Any:
        layers = tf.keras.layers
        pixels = layers.Input((6, 8, 3))
        network = tf.keras.Model(pixels, layers.Dense(outputs, activation)(layers.Flatten()(pixels)))
        WEIGHTS.mkdir(parents=True)
        network.save(WEIGHTS / name) if Path(name).suffix else network.export(WEIGHTS / name, verbose=False)
        labels.write(Labels(classes, ("",) * len(classes)))
        edit(("model.name", "custom"), ("model.path", "mine"))
        return network

    return write


Custom = Callable[..., Any]


def served(tf: Any, images: Any) -> Any:
    signature = tf.saved_model.load(str(SAVED_MODEL)).signatures["serving_default"]
    return signature(images=tf.constant(images))["probabilities"].numpy()


@pytest.mark.parametrize(("name", "trusted"), [("custom.keras", False), ("custom", True)])
def test_a_custom_model_is_saved_as_any_other(custom: Custom, tf: Any, edit: Edit, name: str, trusted: bool) -> None:
    network = custom(name, 3, "softmax")
    edit(("custom.resize", "pad"), ("custom.mean", 0.5), ("model.trusted", trusted))
    save.main()
    images = np.random.default_rng(0).uniform(-1, 1, (5, 6, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(served(tf, images), network(images).numpy(), atol=1e-6)
    record = codec.read(ModelRecord, MODEL)
    assert (record.name, record.classes, record.parameters) == ("custom", 3, 6 * 8 * 3 * 3 + 3)
    assert record.input_shape == (6, 8, 3)
    assert record.preprocessing == Preprocessing(6, 8, "pad", 0.875, (1 / 255,) * 3, (-0.5,) * 3, "rgb")
    assert record.weights_sha256 == files.digest(WEIGHTS / name)
    assert record.training is None
    assert (record.trusted, record.unguarded) == (trusted, wall.missing())
    assert record.size_bytes == sum(files.sizes(SAVED_MODEL).values())
    assert record.allowed_difference == 1e-4


def test_what_it_answers_to_calibration_images_is_written_for_the_conversions(custom: Custom, tf: Any) -> None:
    network = custom("custom.keras", 3, "softmax")
    tiny.calibration_images(CALIBRATION, (6, 8, 3), 5)
    save.main()
    prepared = codec.read(ModelRecord, MODEL).preprocessing
    images = np.stack([batches.load(path, prepared) for path in sorted(CALIBRATION.iterdir())])
    np.testing.assert_allclose(reference.read(), network(images).numpy(), atol=1e-6)


def test_a_single_sigmoid_is_saved_as_two_classes(custom: Custom, tf: Any) -> None:
    network = custom("custom.keras", 1, "sigmoid", ("no", "yes"))
    save.main()
    images = np.random.default_rng(0).uniform(0, 1, (5, 6, 8, 3)).astype(np.float32)
    sure = network(images).numpy()
    np.testing.assert_allclose(served(tf, images), np.hstack([1 - sure, sure]), atol=1e-6)


@pytest.mark.parametrize("classes", [("cat", "dog"), ("cat", "dog", "cow", "hen")])
def test_more_or_fewer_names_than_outputs_are_refused(custom: Custom, classes: tuple[str, ...]) -> None:
    custom("custom.keras", 3, "softmax", classes)
    error = refused(save.main)
    assert named(error, "outputs", "classes") == ("classes-differ", 3, len(classes))
    assert not SAVED_MODEL.exists() and not MODEL.exists()


def test_the_wrong_kind_of_answer_is_refused_before_anything_is_written(custom: Custom) -> None:
    custom("custom.keras", 3, "linear")
    assert named(refused(save.main), "key") == ("output-no-probabilities", "custom.answers")
    assert not SAVED_MODEL.exists() and not MODEL.exists()


def test_a_savedmodel_that_answers_otherwise_is_refused(
    custom: Custom, tf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    custom("custom.keras", 3, "softmax")
    write = saved_model.save

    def spoilt(tf: Any, model: Classifier, folder: Path) -> None:
        write(tf, model, folder)
        for variable in model.tracked:
            variable.assign(variable + 1.0 * np.arange(3))

    monkeypatch.setattr(saved_model, "save", spoilt)
    assert named(refused(save.main), "model") == ("saved-model-differs", "custom")
    assert not SAVED_MODEL.exists() and not MODEL.exists()
