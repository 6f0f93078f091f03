"""Makes of a flat Keras network one that computes in floats as its INT8 will: put together from the rounded layers."""

import re
from collections import Counter
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from stages.core.errors import PipelineError, describe
from stages.training import calls, rounding, rules
from stages.training.calls import Call
from stages.training.rules import Rules

if TYPE_CHECKING:
    from keras import Model as Network
    from keras.layers import Layer
    from tensorflow import Tensor


def simulate(tf: ModuleType, network: "Network") -> tuple["Network", dict[str, int]]:
    """The flat network as INT8 computes it, of the same layers, and how many of each kind it leaves as they are.

    PipelineError if it cannot be put together.
    """
    for layer in network._flatten_layers():
        # All learn, also what was frozen, but batch normalisation: folded into weights, it should not move while they
        # learn what becomes of them.
        layer.trainable = not isinstance(layer, tf.keras.layers.BatchNormalization)
    found = Rules(tf, network)
    try:
        simulated = _Simulation(tf, found).of(network)
    except Exception as error:
        raise PipelineError(
            f"its INT8 cannot be simulated: {_reason(error)}; leave the variants out that end in -int8-qat, or change "
            "the layer",
            code="qat-not-simulated",
        ) from None
    return simulated, found.left_in_float


def _reason(error: Exception) -> str:
    """What went wrong, which Keras prints in bold between other lines."""
    bold = re.search(r"\x1b\[1m(.*?)\x1b\[0m", str(error), re.DOTALL)
    return f"{type(error).__name__}: {' '.join(bold[1].split())[:300]}" if bold else describe(error)


class _Simulation:
    """Calls the layers of a network anew, with what INT8 rounds between them."""

    def __init__(self, tf: ModuleType, found: Rules) -> None:
        self._tf, self._rules = tf, found
        self._weighted = dict[int, "Layer"]()
        self._names = Counter[str]()

    def of(self, network: "Network") -> "Network":
        inputs = calls.inputs(self._tf, network)
        given = [self._input(tensor) for tensor in inputs]
        outputs = calls.replay(self._tf, network, given, self._answer)
        return calls.like(self._tf, network, inputs, outputs)

    def _input(self, tensor: "Tensor") -> "Tensor":
        is_float = self._tf.as_dtype(tensor.dtype).is_floating
        return self._ranged(tensor, tensor.name, widest=True) if is_float else tensor

    def _answer(self, call: Call, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
        operation = call.operation
        if self._rules.is_folded(operation):
            (results,) = arguments
        elif rules.is_weighted(operation):
            results = self._weigh(operation, *arguments)
        else:
            results = operation(*arguments, **options)
        return self._ranged(results, operation.name) if self._rules.has_range(call) else results

    def _weigh(self, layer: "Layer", images: "Tensor") -> "Tensor":
        """What the layer makes with rounded weights; a range stands before an activation that is not fused with it."""
        if id(layer) not in self._weighted:
            norm = self._rules.norms.get(id(layer))
            self._weighted[id(layer)] = rounding.weighted(self._tf, layer, norm)
        results, activation = self._weighted[id(layer)](images), rules.activation_of(layer)
        if activation == "linear":
            return results
        results = results if activation in rules.FUSED else self._ranged(results, layer.name)
        return self._tf.keras.layers.Activation(layer.activation)(results)

    def _ranged(self, images: "Tensor", name: str, widest: bool = False) -> "Tensor":
        self._names[name] += 1
        number = "" if self._names[name] == 1 else f"_{self._names[name]}"
        return rounding.ranged(self._tf, f"{name}_range{number}", widest)(images)
