from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stages.contracts import codec
from stages.contracts.model import WEIGHTS
from stages.contracts.preprocessing import Preprocessing
from stages.contracts.status import OK, Status
from stages.contracts.training import TRAIN, TRAINED, Run, Training, TrainRecord
from stages.core import files
from stages.model.chosen import ChosenModel
from stages.params import load
from stages.params.model import CustomParams, ModelParams
from tests.fixtures.errors import named, refused

Edit = Callable[..., None]
PREPARED = Preprocessing(6, 8, "stretch", 1.0, (1 / 51,) * 3, (-2.0,) * 3, "bgr")


def chosen() -> ChosenModel:
    """What params.yaml names now."""
    return ChosenModel(load.read(ModelParams), load.read(CustomParams))


@pytest.fixture(scope="module")
def network(tf: Any) -> Any:
    layers = tf.keras.layers
    pixels = layers.Input((6, 8, 3))
    x = layers.Dropout(0.5)(layers.Flatten()(pixels))
    return tf.keras.Model(pixels, layers.Dense(3, "softmax")(x))


def example() -> Any:
    return np.random.default_rng(0).uniform(0, 1, (5, 6, 8, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("file", "layers"),
    [("custom.keras", True), ("custom.h5", True), ("custom.onnx", False), ("custom/saved_model.pb", False)],
)
def test_only_files_of_keras_have_layers(checkout: Any, edit: Edit, file: str, layers: bool) -> None:
    files.write_text(WEIGHTS / file, "a model")
    files.write_text(WEIGHTS / "labels.csv", "")
    edit(("model.name", "custom"), ("model.path", "mine"))
    assert chosen().path == WEIGHTS / file.split("/")[0]
    assert chosen().has_layers is layers


@pytest.mark.parametrize(
    ("name", "file"), [("mobilenet_v2", "weights.h5"), ("efficientnet_lite0", "weights.pth"), ("VGG16", "weights.h5")]
)
def test_a_model_of_the_zoo_has_layers_and_a_file_of_weights(edit: Edit, name: str, file: str) -> None:
    edit(("model.name", name))
    assert chosen().path == WEIGHTS / file
    assert chosen().has_layers


def test_what_was_trained_is_opened_with_the_preprocessing_that_it_was_trained_with(
    edit: Edit, tf: Any, network: Any
) -> None:
    edit(
        ("model.name", "custom"), ("model.path", "trained"), ("split.source", "photos"), ("evaluation.source", "split"),
        ("custom.size", [6, 8]),
    )  # fmt: skip
    TRAINED.parent.mkdir(parents=True)
    network.save(TRAINED)
    training = Training("small", 0, 8, 2, PREPARED, (Run(0, 1, 0.5, 0.9, 7.0),))
    codec.write(TrainRecord(OK, training), TRAIN)
    assert chosen().path == TRAINED
    assert chosen().has_layers
    found = chosen().classifier(tf)
    assert (found.preprocessing, found.classes, found.parameters) == (PREPARED, 3, network.count_params())
    np.testing.assert_allclose(found.call(example()).numpy(), network(example()).numpy(), atol=1e-6)


def test_a_record_of_a_run_without_training_is_refused(edit: Edit, tf: Any, network: Any) -> None:
    edit(("model.name", "custom"), ("model.path", "trained"))
    codec.write(TrainRecord(Status("skipped", "model.path is not trained")), TRAIN)
    assert named(refused(chosen().classifier_of, tf, network), "file") == ("not-trained", str(TRAIN))


def test_a_custom_model_is_a_classifier_as_its_block_describes_it(edit: Edit, tf: Any, network: Any) -> None:
    WEIGHTS.mkdir(parents=True)
    network.save(WEIGHTS / "custom.h5")
    edit(("model.name", "custom"), ("model.path", "mine.h5"), ("custom.mean", 0.5), ("custom.channels", "bgr"))
    found = chosen().classifier(tf)
    assert (found.preprocessing.channels, found.preprocessing.offset) == ("bgr", (-0.5,) * 3)
    np.testing.assert_allclose(found.call(example()).numpy(), network(example()).numpy(), atol=1e-6)


def test_a_network_in_place_of_a_models_layers_is_the_same_classifier_while_training_too(
    edit: Edit, tf: Any, network: Any
) -> None:
    edit(("model.name", "custom"), ("model.path", "mine.keras"))
    tf.keras.utils.set_random_seed(0)
    still, learning = (chosen().classifier_of(tf, network, training) for training in (False, True))
    assert still.preprocessing == learning.preprocessing
    np.testing.assert_allclose(still.call(example()).numpy(), network(example()).numpy(), atol=1e-6)
    assert np.abs(learning.call(example()).numpy() - network(example()).numpy()).max() > 1e-3  # by its dropout
