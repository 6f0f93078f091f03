from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import save
from stages.contracts import labels, paths
from stages.contracts.labels import Labels
from stages.contracts.preprocessing import Preprocessing
from stages.core import files
from stages.core.errors import PipelineError
from stages.model import saved_model
from stages.model.classifier import Classifier

Edit = Callable[..., None]
NAMES = ("cat", "dog", "cow")


@pytest.fixture
def own(checkout: Path, edit: Edit, tf: Any) -> Callable[..., Any]:
    """Put a Keras network [n, 6, 8, 3] to so many outputs where `download` leaves it; returns the network."""

    def write(name: str, outputs: int, activation: str, classes: tuple[str, ...] = NAMES) -> Any:
        layers = tf.keras.layers
        pixels = layers.Input((6, 8, 3))
        network = tf.keras.Model(pixels, layers.Dense(outputs, activation)(layers.Flatten()(pixels)))
        paths.WEIGHTS.mkdir(parents=True)
        network.save(paths.WEIGHTS / name)
        labels.write(Labels(classes, ("",) * len(classes)))
        edit(("model.name", "custom"), ("model.path", "mine"))
        return network

    return write


Own = Callable[..., Any]


def served(tf: Any, images: Any) -> Any:
    signature = tf.saved_model.load(str(paths.SAVED_MODEL)).signatures["serving_default"]
    return signature(images=tf.constant(images))["probabilities"].numpy()


@pytest.mark.parametrize("name", ["own.keras", "own"])
def test_a_model_of_ones_own_is_saved_as_any_other(own: Own, tf: Any, edit: Edit, name: str) -> None:
    network = own(name, 3, "softmax")
    edit(("custom.resize", "pad"), ("custom.mean", 0.5))
    save.main()
    images = np.random.default_rng(0).uniform(-1, 1, (5, 6, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(served(tf, images), network(images).numpy(), atol=1e-6)
    record = files.read_json(paths.MODEL)
    assert (record["name"], record["classes"], record["parameters"]) == ("custom", 3, 6 * 8 * 3 * 3 + 3)
    assert record["input_shape"] == [6, 8, 3]
    assert Preprocessing.from_json(record["preprocessing"]) == Preprocessing(
        6, 8, "pad", 0.875, (1 / 255,) * 3, (-0.5,) * 3, "rgb"
    )
    assert record["weights_sha256"] == files.digest(paths.WEIGHTS / name)
    assert record["training"] is None
    assert record["size_bytes"] == sum(files.sizes(paths.SAVED_MODEL).values())


def test_a_single_sigmoid_is_saved_as_two_classes(own: Own, tf: Any) -> None:
    network = own("own.keras", 1, "sigmoid", ("no", "yes"))
    save.main()
    images = np.random.default_rng(0).uniform(0, 1, (5, 6, 8, 3)).astype(np.float32)
    sure = network(images).numpy()
    np.testing.assert_allclose(served(tf, images), np.hstack([1 - sure, sure]), atol=1e-6)


@pytest.mark.parametrize("classes", [("cat", "dog"), ("cat", "dog", "cow", "hen")])
def test_more_or_fewer_names_than_outputs_are_refused(own: Own, classes: tuple[str, ...]) -> None:
    own("own.keras", 3, "softmax", classes)
    with pytest.raises(PipelineError) as caught:
        save.main()
    assert str(caught.value) == (
        f"custom has 3 outputs, but its label set has {len(classes)} classes ({', '.join(classes[:3])}, ...): correct "
        "custom.labels"
    )
    assert not paths.SAVED_MODEL.exists() and not paths.MODEL.exists()


def test_the_wrong_kind_of_answer_is_told_before_anything_is_written(own: Own) -> None:
    own("own.keras", 3, "linear")
    with pytest.raises(PipelineError, match=r"set custom\.answers to logits"):
        save.main()
    assert not paths.SAVED_MODEL.exists() and not paths.MODEL.exists()


def test_a_savedmodel_that_answers_otherwise_is_refused(own: Own, tf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    own("own.keras", 3, "softmax")
    write = saved_model.save

    def spoilt(tf: Any, model: Classifier, folder: Path) -> None:
        write(tf, model, folder)
        for variable in model.tracked:
            variable.assign(variable + 1.0 * np.arange(3))

    monkeypatch.setattr(saved_model, "save", spoilt)
    with pytest.raises(PipelineError, match=r"^the SavedModel of custom answers .* away from the model itself"):
        save.main()
    assert not paths.SAVED_MODEL.exists() and not paths.MODEL.exists()
