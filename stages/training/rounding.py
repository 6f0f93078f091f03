"""Layers that compute in floats as INT8 does: their weights, and what flows between them, are on 256 steps.

The scheme is that of TFLite ("8-bit quantization specification"): weights symmetric, those of convolutions by channel,
activations asymmetric.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from keras.layers import Layer
    from tensorflow import Tensor

Shape = tuple[int | None, ...]
# The ends of a range before anything passed, and how much of them a training step keeps.
START = 6.0
_KEPT = ContextVar("kept", default=0.999)
# The smallest range of a channel's weights, as a share of its bias: the bias has steps of that range too, and a channel
# that passes nothing on would need more of them than INT32 has.
SMALLEST = 1e-5


@contextmanager
def first_ranges() -> Iterator[None]:
    """While it lasts, each training step sets the ranges to those of its batch, from the first layer to the last.

    Else they move by a thousandth a step: longer than a small data set lasts.
    """
    before = _KEPT.set(0.0)
    try:
        yield
    finally:
        _KEPT.reset(before)


def ranged(tf: ModuleType, name: str, widest: bool = False) -> "Layer":
    """A layer that rounds what passes; in training its range follows that, or where `widest` takes all of it in."""
    return _ranged(tf)(name, widest)


def weighted(tf: ModuleType, layer: "Layer", norm: "Layer | None") -> "Layer":
    """A layer that computes as `layer` with rounded weights and without its activation; `norm` behind it is folded."""
    return _weighted(tf)(layer, norm)


@cache
def _ranged(tf: ModuleType) -> type:
    base: type = tf.keras.layers.Layer

    class Ranged(base):  # type: ignore[misc]
        def __init__(self, name: str, widest: bool) -> None:
            super().__init__(name=name, dtype="float32")
            self.widest, start = widest, 0.0 if widest else START
            self.low, self.high = (
                self.add_weight((), tf.keras.initializers.Constant(end), trainable=False, name=side)
                for side, end in (("low", -start), ("high", start))
            )

        def call(self, images: "Tensor", training: bool = False) -> "Tensor":
            if training:
                _follow(tf, self, images)
            return tf.quantization.fake_quant_with_min_max_vars(images, self.low.value, self.high.value)

        def compute_output_shape(self, shape: Shape) -> Shape:
            return shape

    return Ranged


def _follow(tf: ModuleType, layer: "Layer", images: "Tensor") -> None:
    """Move the range of a layer towards these values; it always has 0, as INT8 does."""
    low, high = tf.minimum(tf.reduce_min(images), 0.0), tf.maximum(tf.reduce_max(images), 0.0)
    if layer.widest:
        layer.low.assign(tf.minimum(layer.low.value, low))
        layer.high.assign(tf.maximum(layer.high.value, high))
        return
    kept = _KEPT.get()
    layer.low.assign(kept * layer.low.value + (1 - kept) * low)
    layer.high.assign(kept * layer.high.value + (1 - kept) * high)


@cache
def _weighted(tf: ModuleType) -> type:
    base: type = tf.keras.layers.Layer

    class Weighted(base):  # type: ignore[misc]
        def __init__(self, layer: "Layer", norm: "Layer | None") -> None:
            super().__init__(name=f"rounded_{layer.name}", dtype="float32")
            self.layer, self.norm = layer, norm

        def call(self, images: "Tensor") -> "Tensor":
            kernel, bias = folded(tf, self.layer, self.norm)
            answer = _apply(tf, self.layer, images, rounded(tf, self.layer, kernel, bias))
            return answer if bias is None else answer + bias

        def compute_output_shape(self, shape: Shape) -> Shape:
            return tuple(self.layer.compute_output_shape(shape))

    return Weighted


class Weights(NamedTuple):
    """What a layer multiplies by and adds."""

    kernel: "Tensor"
    bias: "Tensor | None"


def folded(tf: ModuleType, layer: "Layer", norm: "Layer | None") -> Weights:
    """The weights of the layer that does what `layer` and the batch normalisation behind it do in inference."""
    kernel = tf.convert_to_tensor(layer.kernel)
    bias = tf.convert_to_tensor(layer.bias) if layer.use_bias else None
    if norm is None:
        return Weights(kernel, bias)
    factor = tf.math.rsqrt(norm.moving_variance.value + norm.epsilon)
    factor = factor * norm.gamma.value if norm.scale else factor
    bias = ((0.0 if bias is None else bias) - norm.moving_mean.value) * factor
    by_channel = tf.reshape(factor, kernel.shape[2:]) if _is_depthwise(layer) else factor
    return Weights(kernel * by_channel, bias + norm.beta.value if norm.center else bias)


def rounded(tf: ModuleType, layer: "Layer", kernel: "Tensor", bias: "Tensor | None") -> "Tensor":
    """The kernel of the layer on its 255 steps; those of a depthwise one are [height, width, channels, multiplier]."""
    if kernel.shape.rank == 2:
        peak = _peak(tf, tf.abs(kernel), None, None if bias is None else tf.reduce_max(tf.abs(bias)))
        return tf.quantization.fake_quant_with_min_max_vars(kernel, -peak, peak, narrow_range=True)
    last = tf.reshape(kernel, [1, *kernel.shape[:2], -1]) if _is_depthwise(layer) else kernel
    peak = _peak(tf, tf.abs(last), [0, 1, 2], None if bias is None else tf.abs(bias))
    found = tf.quantization.fake_quant_with_min_max_vars_per_channel(last, -peak, peak, narrow_range=True)
    return tf.reshape(found, kernel.shape) if _is_depthwise(layer) else found


def _peak(tf: ModuleType, sizes: "Tensor", axes: list[int] | None, bias: "Tensor | None") -> "Tensor":
    """The largest of these sizes, or enough for the bias; where there is nothing at all, any range would do."""
    largest = tf.reduce_max(sizes, axes)
    largest = largest if bias is None else tf.maximum(largest, SMALLEST * bias)
    return tf.where(largest > 0, largest, 1.0)


def _is_depthwise(layer: "Layer") -> bool:
    return hasattr(layer, "depth_multiplier")


def _apply(tf: ModuleType, layer: "Layer", images: "Tensor", kernel: "Tensor") -> "Tensor":
    """What the layer computes, with another kernel."""
    if kernel.shape.rank == 2:
        return tf.keras.ops.matmul(images, kernel)
    if not _is_depthwise(layer):
        return layer.convolution_op(images, kernel)
    return tf.keras.ops.depthwise_conv(
        images, kernel, layer.strides, layer.padding, layer.data_format, layer.dilation_rate
    )
