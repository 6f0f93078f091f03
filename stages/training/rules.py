"""What INT8 makes of each call in a flat Keras network: where a range stands, and what is folded or left in float.

A range stands where INT8 writes values: batch normalisation is folded into the weights before it, and ReLU is a part of
what it follows.
"""

from collections import Counter, defaultdict
from types import ModuleType
from typing import TYPE_CHECKING

from stages.training import calls
from stages.training.calls import Call

if TYPE_CHECKING:
    from keras import Model as Network
    from keras import Operation

WEIGHTED = {"Conv2D", "DepthwiseConv2D", "Dense"}
# What makes new values.
MAKING = {
    "Add", "AveragePooling1D", "AveragePooling2D", "Concatenate", "GlobalAveragePooling1D", "GlobalAveragePooling2D",
    "GlobalAveragePooling3D", "LeakyReLU", "ReLU", "Relu", "Relu6", "UpSampling2D",
}  # fmt: skip
# What hands values on, or has a range in TFLite that is always the same.
MOVING = {
    "ActivityRegularization", "Cropping1D", "Cropping2D", "Cropping3D", "Dropout", "Flatten", "GlobalMaxPooling1D",
    "GlobalMaxPooling2D", "GlobalMaxPooling3D", "MaxPooling2D", "Permute", "Reshape", "Softmax", "SpatialDropout1D",
    "SpatialDropout2D", "SpatialDropout3D", "ZeroPadding1D", "ZeroPadding2D",
}  # fmt: skip
# The same of activations.
MAKING_ACTIVATIONS = {"relu", "relu6", "silu", "swish", "gelu"}
MOVING_ACTIVATIONS = {"linear", "softmax", "sigmoid", "tanh"}
ACTIVATIONS = MAKING_ACTIVATIONS | MOVING_ACTIVATIONS
# What INT8 computes together with the layer before it.
FUSED = {"relu", "relu6"}
# Where channels stand.
LAST = "channels_last"


class Rules:
    """What becomes of the calls of one network."""

    def __init__(self, tf: ModuleType, network: "Network") -> None:
        """Find who reads what, and which batch normalisation can be folded."""
        found = calls.of(tf, network)
        self._times = Counter(id(call.operation) for call in found)
        self._makers = {id(tensor): call for call in found for tensor in call.outputs}
        self._readers: dict[int, list[Call | None]] = defaultdict(list)
        for call in found:
            for tensor in call.input_tensors:
                self._readers[id(tensor)].append(call)
        for tensor in network.outputs:
            self._readers[id(tensor)].append(None)  # whoever runs the network
        # What is folded into the weights of a layer, by the identity of that.
        self.norms = {id(layer): call.operation for call in found if (layer := self._foldable_into(call))}
        self._folded = {id(norm) for norm in self.norms.values()}
        operations = {id(call.operation): call.operation for call in found}.values()
        unknown = Counter(type(operation).__name__ for operation in operations if not self._is_known(operation))
        self.left_in_float = dict(sorted(unknown.items()))

    def is_folded(self, operation: "Operation") -> bool:
        """Whether it is batch normalisation that is a part of the weights before it."""
        return id(operation) in self._folded

    def has_range(self, call: Call) -> bool:
        """Whether INT8 writes what the call gives with a range of its own: what is concatenated has one in common."""
        operation = call.operation
        if id(operation) in self.norms or not self._is_known(operation) or not self._makes_values(call):
            return False
        return {_kind(reader) for reader in self._readers[id(call.outputs[0])]} != {"Concatenate"}

    def _makes_values(self, call: Call) -> bool:
        """Whether it does, and nothing behind it changes them before they are written."""
        operation, kind = call.operation, _kind(call)
        activation = activation_of(operation)
        if kind == "Add" or self.is_folded(operation) or (kind in WEIGHTED and activation == "linear"):
            return not _is_fused(self._only_reader(call))
        return kind in MAKING or activation in MAKING_ACTIVATIONS

    def _is_known(self, operation: "Operation") -> bool:
        kind = _kind_of(operation)
        known = kind == "Activation" and activation_of(operation) in ACTIVATIONS
        return known or kind in MAKING | MOVING or is_weighted(operation) or self.is_folded(operation)

    def _only_reader(self, call: Call) -> Call | None:
        readers = self._readers[id(call.outputs[0])]
        return readers[0] if len(readers) == 1 else None

    def _foldable_into(self, call: Call) -> "Operation | None":
        """The layer whose weights this batch normalisation can be folded into: one that nothing else reads."""
        before = self._makers.get(id(call.input_tensors[0]))
        if before is None or not _normalizes_channels(call) or not is_weighted(before.operation):
            return None
        plain = activation_of(before.operation) == "linear" and self._only_reader(before) is call
        once = self._times[id(call.operation)] == self._times[id(before.operation)] == 1
        return before.operation if plain and once else None


def is_weighted(operation: "Operation") -> bool:
    """Whether its weights are rounded."""
    plain = getattr(operation, "data_format", LAST) == LAST and not getattr(operation, "quantization_mode", None)
    return _kind_of(operation) in WEIGHTED and plain and activation_of(operation) in ACTIVATIONS


def activation_of(operation: "Operation") -> str:
    """The name of the function that a layer ends with; one without any is linear."""
    function = getattr(operation, "activation", None)
    return getattr(function, "__name__", type(function).__name__) if function else "linear"


def _kind(call: Call | None) -> str | None:
    return _kind_of(call.operation) if call else None


def _kind_of(operation: "Operation") -> str | None:
    """The name of a class of Keras; a user's may have the same and do something else."""
    kind = type(operation)
    return kind.__name__ if kind.__module__.startswith("keras.") else None


def _normalizes_channels(call: Call) -> bool:
    """Whether it is batch normalisation as in inference, of the last axis."""
    if _kind(call) != "BatchNormalization" or call.arguments.kwargs.get("training"):
        return False
    return bool(call.operation.axis in (-1, len(call.input_tensors[0].shape) - 1))


def _is_fused(call: Call | None) -> bool:
    """Whether it is a ReLU that INT8 computes together with what it follows."""
    if call is None:
        return False
    kind, operation = _kind(call), call.operation
    if kind == "ReLU":
        return operation.max_value in (None, 6) and not operation.negative_slope and not operation.threshold
    return kind in ("Relu", "Relu6") or (kind == "Activation" and activation_of(operation) in FUSED)
