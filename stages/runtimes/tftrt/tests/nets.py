"""Networks as SavedModels with the one signature that `save` writes, for what TF-TRT is given to convert."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stages.contracts.preprocessing import Floats
from stages.core.tensorflow import tensorflow

SHAPE = (8, 8, 3)


def save(
    folder: Path,
    call: Callable[[Any], Any],
    shape: tuple[int, int, int] = SHAPE,
    holds: Any = None,
    gradients: bool = False,
) -> Path:
    """Of images to probabilities; `holds` has the variables, and `gradients`: with those of swish."""
    tf = tensorflow()

    @tf.function(input_signature=[tf.TensorSpec([None, *shape], tf.float32, name="images")])  # type: ignore[untyped-decorator]
    def serve(images: Any) -> dict[str, Any]:
        return {"probabilities": call(images)}

    module = tf.Module()
    module.holds = holds
    # Gradients of swish would take half a minute in EfficientNet.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=gradients)
    tf.saved_model.save(module, str(folder), {"serving_default": serve}, options)
    return folder


def save_keras(folder: Path, name: str, size: int, classes: int = 10) -> Path:
    """One of tf.keras.applications on pixels, with random weights, whose answers differ from image to image."""
    tf = tensorflow()
    tf.keras.utils.set_random_seed(1)
    shape = (size, size, 3)
    model = getattr(tf.keras.applications, name)(weights=None, input_shape=shape, classes=classes)

    def call(images: Any, training: bool = False) -> Any:
        return model(127.5 * (images + 1), training=training)

    enliven(model)
    call(tf.constant(example(16, shape)), training=True)
    return save(folder, call, shape, model)


def enliven(model: Any) -> None:
    """Let the next images set the statistics of batch normalisation, and each layer count."""
    rng = np.random.default_rng(2)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.momentum = 0.0
        if type(layer).__name__ == "LayerScale":  # ConvNeXt begins with blocks that do nothing
            layer.gamma.assign(rng.normal(0, 0.3, layer.gamma.shape))
    last = next(layer.kernel for layer in reversed(model.layers) if hasattr(layer, "kernel"))
    last.assign(rng.normal(0, 0.03, last.shape))


def save_convnext(folder: Path, groups: int = 8) -> Path:
    """A block of ConvNeXt: a grouped convolution, which Keras has XLA compile, normalisation and an exact GELU."""
    tf = tensorflow()
    tf.keras.utils.set_random_seed(1)
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            layers.Input(SHAPE),
            layers.Conv2D(8, 2, 2),
            layers.Conv2D(16, 7, padding="same", groups=groups),
            layers.LayerNormalization(epsilon=1e-6),
            layers.Dense(32),
            layers.Activation(tf.nn.gelu),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, "softmax"),
        ]
    )
    return save(folder, lambda images: model(images, training=False), holds=model)


def pooled(images: Any, spread: float = 3) -> Any:
    """Probabilities [batch, C] of the mean of each channel."""
    tf = tensorflow()
    return tf.nn.softmax(spread * tf.reduce_mean(images, [1, 2]))


def example(count: int, shape: tuple[int, int, int] = SHAPE) -> Floats:
    """Seeded images that differ in brightness and in contrast."""
    rng = np.random.default_rng(count)
    light = rng.uniform(-1, 1, (count, 1, 1, shape[2]))
    return (light + rng.normal(0, 1, (count, *shape))).astype(np.float32)
