"""One answer to an image: a model that draws lots or looks at the neighbours in its batch is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.contracts.preprocessing import Preprocessing
from stages.data import examples
from stages.model import formats, steady
from stages.model.classifier import Classifier
from tests.fixtures.errors import assert_helps, named, refused

PREPARED = Preprocessing(16, 16, "stretch", 1.0, (1 / 255,) * 3, (0.0,) * 3, "rgb")
IMAGES = examples.read(PREPARED, Path("nowhere")).few


def of_layers(tf: Any, *layers: Any, training: bool = True) -> Classifier:
    """The mean colour after these layers, sharpened."""
    stack = tf.keras.Sequential([tf.keras.Input((16, 16, 3)), *layers])

    def call(images: Any) -> Any:
        return tf.nn.softmax(5 * tf.reduce_mean(stack(images, training=training), [1, 2]))

    return Classifier(call, formats.held(stack), PREPARED, 3, 0)


RANDOM = {
    "Dropout": ("dropout", lambda keras: keras.Dropout(0.5)),
    "GaussianNoise": ("gaussian_noise", lambda keras: keras.GaussianNoise(1.0)),
    "RandomBrightness": ("random_brightness", lambda keras: keras.RandomBrightness(0.9, value_range=(0, 1))),
}


@pytest.mark.parametrize("kind", RANDOM)
def test_a_random_layer_is_refused_by_its_name_and_not_in_inference(tf: Any, kind: str) -> None:
    scope, layer = RANDOM[kind]
    error = refused(steady.refuse, tf, "mine", of_layers(tf, layer(tf.keras.layers)), IMAGES)
    assert error.code == "model-random"
    (drawn,) = error.values["layers"]
    assert drawn.startswith(scope)
    assert_helps(error, "training=False")
    steady.refuse(tf, "mine", of_layers(tf, layer(tf.keras.layers), training=False), IMAGES)


def test_a_random_savedmodel_names_its_layer_too(tf: Any, tmp_path: Path) -> None:
    """Where no Keras is left to ask."""
    model = of_layers(tf, tf.keras.layers.Dropout(0.5))
    module = tf.Module()
    module.kept = model.tracked
    module.serve = tf.function(model.call, input_signature=[tf.TensorSpec([None, 16, 16, 3], tf.float32)])
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    error = refused(steady.refuse, tf, "mine", Classifier(loaded.serve, [loaded], PREPARED, 3, 0), IMAGES)
    assert error.code == "model-random"
    assert any("dropout" in layer for layer in error.values["layers"])


def test_batch_normalization_in_training_mode_is_refused(tf: Any) -> None:
    error = refused(steady.refuse, tf, "mine", of_layers(tf, tf.keras.layers.BatchNormalization()), IMAGES)
    code, gap = named(error, "difference")
    assert code == "model-batch-mates" and gap > 0.1
    assert_helps(error, "other images of the batch")
    steady.refuse(tf, "mine", of_layers(tf, tf.keras.layers.BatchNormalization(), training=False), IMAGES)


def test_a_batch_in_another_order_is_told(tf: Any) -> None:
    """Each image has the answer of the first."""

    def call(images: Any) -> Any:
        means = tf.reduce_mean(images, [1, 2])
        return tf.nn.softmax(5 * tf.repeat(means[:1], tf.shape(images)[0], axis=0))

    assert refused(steady.refuse, tf, "mine", Classifier(call, [], PREPARED, 3, 0), IMAGES).code == "model-batch-mates"


def test_an_image_without_an_answer_is_no_reason(tf: Any) -> None:
    """The evaluation counts those."""

    def call(images: Any) -> Any:
        means = tf.reduce_mean(images, [1, 2])
        return tf.where(means[:, :1] > 0.5, tf.constant(np.nan), tf.nn.softmax(means))

    steady.refuse(tf, "mine", Classifier(call, [], PREPARED, 3, 0), IMAGES)
