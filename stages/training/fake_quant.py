"""Keras models whose INT8 arithmetic is simulated by fake quantisation, by tensorflow-model-optimization.

The scheme is that of TFLite ("8-bit quantization specification"): weights symmetric, those of convolutions by channel,
activations asymmetric.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

from stages.core.errors import PipelineError, describe

if TYPE_CHECKING:
    from keras import Model as Network
    from keras.layers import Layer
    from tensorflow import Tensor, TensorShape, Variable
    from tensorflow_model_optimization.python.core.quantization.keras.quantize_registry import QuantizeRegistry
    from tensorflow_model_optimization.python.core.quantization.keras.quantize_scheme import QuantizeScheme


def flatten(tf: ModuleType, model: "Network") -> "Network":
    """The same network without models inside it, and with softmax in a layer by itself; `model` is used up.

    What simulates INT8 takes no nested models, and it would round probabilities more than the loss's logarithm bears.
    """
    inputs = [
        tf.keras.layers.Input(tensor.shape[1:], dtype=tensor.dtype, name=name)
        for tensor, name in zip(model.inputs, model.input_names, strict=True)
    ]
    _name_apart(tf, model)
    parted = [_part_softmax(tf, tensor) for tensor in model.outputs]
    outputs = [
        tf.keras.layers.Softmax()(tensor) if softmax else tensor
        for tensor, softmax in zip(_inline(tf, model, inputs), parted, strict=True)
    ]
    flat = tf.keras.Model(inputs, outputs)
    # Variables that are named after layers, as those of every copy will be.
    clone = tf.keras.models.clone_model(flat)
    clone.set_weights(flat.get_weights())
    clone.output_names = model.output_names
    return clone


def _name_apart(tf: ModuleType, model: "Network") -> None:
    """Name the layers of models inside after these too: two of them may have layers of one name."""
    for inner in {id(layer): layer for layer in model.layers if isinstance(layer, tf.keras.Model)}.values():
        for layer in inner.layers:
            layer._name = f"{inner.name}_{layer.name}"
        _name_apart(tf, inner)


def _part_softmax(tf: ModuleType, tensor: "Tensor") -> bool:
    """Take softmax from the layer that an output comes from; whether it had one."""
    layer, _, place = tensor._keras_history
    while isinstance(layer, tf.keras.Model):
        layer, _, place = layer.outputs[place]._keras_history
    if getattr(layer, "activation", None) is not tf.keras.activations.softmax:
        return False
    layer.activation = tf.keras.activations.linear
    return True


def _inline(tf: ModuleType, model: "Network", inputs: list["Tensor"]) -> list["Tensor"]:
    """What the model makes of `inputs`, layer by layer; their order has no public name in Keras."""
    known = {id(old): new for old, new in zip(model.inputs, inputs, strict=True)}

    def current(value: object) -> object:
        return known.get(id(value), value)

    nodes = [node for depth in sorted(model._nodes_by_depth, reverse=True) for node in model._nodes_by_depth[depth]]
    for node in nodes:
        if node.is_input:
            continue
        arguments, options = tf.nest.map_structure(current, (node.call_args, node.call_kwargs))
        inner = isinstance(node.layer, tf.keras.Model)
        results = _inline(tf, node.layer, tf.nest.flatten(arguments)) if inner else node.layer(*arguments, **options)
        outputs = zip(tf.nest.flatten(node.outputs), tf.nest.flatten(results), strict=True)
        known.update((id(old), new) for old, new in outputs)
    return [current(tensor) for tensor in model.outputs]


def simulate(tf: ModuleType, network: "Network") -> tuple["Network", dict[str, int]]:
    """A copy of a flat network that computes as its INT8 will, and how many layers of each kind it leaves as they are.

    PipelineError if the library cannot make one.
    """
    from tensorflow_model_optimization.quantization.keras import quantize_annotate_layer, quantize_apply

    for layer in network.layers:
        # All learn, also what was frozen, but batch normalisation: folded into weights, it should not move while they
        # learn what becomes of them.
        layer.trainable = not isinstance(layer, tf.keras.layers.BatchNormalization)
    not_simulated: Counter[str] = Counter()
    scheme, registry = _scheme(tf)

    def annotated(layer: "Layer") -> "Layer":
        if isinstance(layer, tf.keras.layers.InputLayer):
            return layer
        if _is_known(tf, registry, layer):
            return quantize_annotate_layer(layer)
        not_simulated[type(layer).__name__] += 1
        return layer

    try:
        simulated = quantize_apply(tf.keras.models.clone_model(network, clone_function=annotated), scheme)
    except Exception as error:
        raise PipelineError(
            f"its INT8 cannot be simulated: tensorflow-model-optimization says {describe(error)}; leave the variants "
            "out that end in -int8-qat, or change the layer",
            code="qat-not-simulated",
        ) from None
    simulated.output_names = network.output_names
    return simulated, dict(sorted(not_simulated.items()))


def _scheme(tf: ModuleType) -> tuple["QuantizeScheme", "QuantizeRegistry"]:
    """The library's scheme and rules for layers, with a range for each channel of depthwise weights too."""
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit.default_8bit_quantize_scheme import (
        Default8BitQuantizeScheme,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.quantize_aware_activation import (
        QuantizeAwareActivation as Aware,
    )

    scheme = Default8BitQuantizeScheme()
    registry = scheme.get_quantize_registry()
    scheme.get_quantize_registry = lambda: registry
    known, names = registry.supports, Aware._PRE_QUANT_ACTIVATIONS | Aware._POST_QUANT_ACTIVATIONS
    # It fails at a layer with an activation of another kind, even where that is left in float.
    registry.supports = lambda layer: known(layer) and _activation(layer) in names | Aware._NO_QUANTIZE_ACTIVATIONS
    depthwise = registry.get_quantize_config(tf.keras.layers.DepthwiseConv2D(1))
    depthwise.weight_quantizer = DepthwiseQuantizer(tf)
    return scheme, registry


def _activation(layer: "Layer") -> str:
    """The name of the function that a layer ends with; one without any is linear."""
    function = getattr(layer, "activation", None)
    return getattr(function, "__name__", type(function).__name__) if function else "linear"


class DepthwiseQuantizer:
    """Rounds depthwise weights [height, width, channels, multiplier] with a range for each channel.

    The library's own takes the last axis for the channels, and so has one range for all: MobileNetV2 started from 44 %
    of right answers where it had 92 %.
    """

    def __init__(self, tf: ModuleType) -> None:
        """Compute with this TensorFlow."""
        self._tf = tf

    def build(self, shape: "TensorShape", name: str, layer: "Layer") -> dict[str, "Variable"]:
        """The variable that holds the largest weight of each channel."""
        return {"peak": layer.add_weight(f"{name}_peak", (shape[2] * shape[3],), initializer="ones", trainable=False)}

    def __call__(self, inputs: "Tensor", training: bool, weights: dict[str, "Variable"]) -> "Tensor":
        """`inputs` as INT8 has them; while training the ranges in `weights` follow them."""
        tf, peak = self._tf, weights["peak"]
        channels_last = tf.reshape(inputs, [1, *inputs.shape[:2], -1])
        if training:
            peak.assign(tf.reduce_max(tf.abs(channels_last), axis=[0, 1, 2]))
        rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            channels_last, -peak, peak, narrow_range=True
        )
        return tf.reshape(rounded, inputs.shape)


def _is_known(tf: ModuleType, registry: "QuantizeRegistry", layer: "Layer") -> bool:
    """Whether the library has a rule for this layer; it fails at one that it has none for."""
    layers = tf.keras.layers
    if isinstance(layer, layers.BatchNormalization):  # right after what it is folded into, where nothing else is
        before = [source for node in layer.inbound_nodes for source in tf.nest.flatten(node.inbound_layers)]
        weighted = (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)
        alone = len(before) == 1 and isinstance(before[0], weighted) and len(before[0].outbound_nodes) == 1
        return alone and bool(before[0].activation is tf.keras.activations.linear)
    if not registry.supports(layer):
        return False
    try:
        registry.get_quantize_config(layer).get_output_quantizers(layer)
    except ValueError:  # an activation of another kind
        return False
    return True


@contextmanager
def first_ranges() -> Iterator[None]:
    """While it lasts, each training step sets the ranges to those of its batch, from the first layer to the last.

    The library's start at -6 and 6, and move by a thousandth a step: longer than a small data set lasts.
    """
    from tensorflow_model_optimization.python.core.quantization.keras import quant_ops

    def assign(variable: "Variable", value: "Tensor", decay: float, **_: object) -> "Tensor":
        return variable.assign(value)

    library = quant_ops.moving_averages
    quant_ops.moving_averages = SimpleNamespace(assign_moving_average=assign)
    try:
        yield
    finally:
        quant_ops.moving_averages = library
