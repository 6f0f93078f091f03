"""EfficientNet-Lite0 as a Keras graph, filled from the torch state dict in which its ImageNet weights are published.

Architecture: tensorflow/tpu, models/official/efficientnet/lite (no squeeze-and-excite, ReLU6, fixed stem and head).
"""

from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from stages.core.errors import PipelineError
from stages.model.checkpoints import Array

if TYPE_CHECKING:
    from keras import Model as Network
    from keras.layers import Layer
    from tensorflow import Tensor

# Repeats, kernel, stride of the first, expansion, output channels: the block table of EfficientNet-B0.
BLOCKS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
BATCHNORM = ("weight", "bias", "running_mean", "running_var")


def lite0(tf: ModuleType, size: int = 224, classes: int = 1000) -> "Network":
    """Untrained Keras model: float32 [n, size, size, 3] to probabilities [n, classes].

    Layers are named as in torch, less the underscores.
    """
    layers = tf.keras.layers

    def normalized(x: "Tensor", layer: "Layer", norm: str, active: bool = True) -> "Tensor":
        x = layers.BatchNormalization(epsilon=1e-3, name=norm)(layer(x))
        return layers.ReLU(6.0, name=f"{norm}.relu6")(x) if active else x

    def convolution(filters: int, kernel: int, stride: int, name: str) -> "Layer":
        return layers.Conv2D(filters, kernel, stride, "same", use_bias=False, name=name)

    def block(x: "Tensor", index: int, kernel: int, stride: int, expansion: int, filters: int) -> "Tensor":
        name, entry, channels = f"blocks.{index}.", x, x.shape[-1]
        if expansion > 1:
            x = normalized(x, convolution(channels * expansion, 1, 1, f"{name}expand_conv"), f"{name}bn0")
        depthwise = layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False, name=f"{name}depthwise_conv")
        x = normalized(x, depthwise, f"{name}bn1")
        x = normalized(x, convolution(filters, 1, 1, f"{name}project_conv"), f"{name}bn2", active=False)
        return layers.Add(name=f"{name}add")([x, entry]) if stride == 1 and channels == filters else x

    image = layers.Input((size, size, 3))
    x = normalized(image, convolution(32, 3, 2, "conv_stem"), "bn0")
    index = 0
    for repeats, kernel, stride, expansion, filters in BLOCKS:
        for repeat in range(repeats):
            x = block(x, index, kernel, stride if repeat == 0 else 1, expansion, filters)
            index += 1
    x = normalized(x, convolution(1280, 1, 1, "conv_head"), "bn1")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return tf.keras.Model(image, layers.Dense(classes, activation="softmax", name="fc")(x))


def fill(model: "Network", state: dict[str, Array]) -> None:
    """Set every weight of `model` from the state dict; PipelineError names one that is missing or left over."""
    left = {name for name in state if not name.endswith("num_batches_tracked")}
    for layer in (layer for layer in model.layers if layer.weights):
        names = [f"{_torch_name(layer.name)}.{part}" for part in _parts(layer)]
        missing = [name for name in names if name not in state]
        if missing:
            raise _other_weights(
                f"the weights hold no {', '.join(missing)}: they are not EfficientNet-Lite0's", missing
            )
        values = [_transposed(state[name], layer) for name in names]
        for name, value, place in zip(names, values, layer.weights, strict=True):
            if value.shape != tuple(place.shape):
                raise _other_weights(
                    f"{name} has the shape {value.shape} where EfficientNet-Lite0 has {tuple(place.shape)}", [name]
                )
        layer.set_weights(values)
        left -= set(names)
    if left:
        raise _other_weights(f"the weights hold {', '.join(sorted(left))}, unknown to EfficientNet-Lite0", sorted(left))


def _other_weights(reason: str, names: list[str]) -> PipelineError:
    return PipelineError(
        f"{reason}; take others in model.weights, or set imagenet",
        code="weights-not-of-model",
        key="model.weights",
        names=names,
    )


def _torch_name(name: str) -> str:
    """`blocks.0.bn1` is `_blocks.0._bn1` there; TensorFlow allows no underscore in front."""
    return ".".join(part if part.isdigit() else f"_{part}" for part in name.split("."))


def _parts(layer: "Layer") -> tuple[str, ...]:
    kind = type(layer).__name__
    return {"BatchNormalization": BATCHNORM, "Dense": ("weight", "bias")}.get(kind, ("weight",))


def _transposed(value: Array, layer: "Layer") -> Array:
    """Torch keeps kernels as [out, in, h, w] and [out, in]; Keras as [h, w, in, out] and [in, out]."""
    if value.ndim == 4:
        order = (2, 3, 0, 1) if type(layer).__name__ == "DepthwiseConv2D" else (2, 3, 1, 0)
        return np.transpose(value, order)
    return value.T if value.ndim == 2 else value
