"""Makes factors and summands behind a convolution part of it, as converters leave them of batch normalisation."""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stages.model import door_onnx

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto


def fold(model: "ModelProto") -> int:
    """Fold each Mul and Add of a constant per channel that follows a Conv alone, in place; how many there were.

    tf2onnx does so behind plain convolutions, but not behind depthwise ones.
    """
    from onnx import numpy_helper

    graph = model.graph
    constants = {constant.name: numpy_helper.to_array(constant) for constant in graph.initializer}
    uses = Counter(name for node in door_onnx.nodes(model) for name in node.input)
    uses.update(output.name for output in graph.output)
    folding = _Folding(graph, constants, uses)
    for node in [*graph.node]:
        folding.see(node)
    return folding.count


@dataclass
class _Folding:
    """A graph, walked from its inputs on."""

    graph: "GraphProto"
    constants: dict[str, Any]
    uses: Counter[str]
    convolutions: "dict[str, NodeProto]" = field(default_factory=dict)
    count: int = 0

    def see(self, node: "NodeProto") -> None:
        """Remember a convolution, or fold what follows one."""
        if node.op_type == "Conv" and self._is_constant(node):
            self.convolutions[node.output[0]] = node
        elif node.op_type in ("Mul", "Add"):
            source = next((name for name in node.input if name in self.convolutions), "")
            (other,) = [name for name in node.input if name != source][:1] or [source]
            if source and self.uses[source] == 1 and self._is_by_channel(other, self.convolutions[source]):
                self._fold(node, self.convolutions.pop(source), self.constants[other])

    def _is_constant(self, convolution: "NodeProto") -> bool:
        return all(name in self.constants for name in convolution.input[1:])

    def _is_by_channel(self, name: str, convolution: "NodeProto") -> bool:
        """Whether it is a value for each channel of an output [batch, channels, ...], or one for all."""
        kernel, values = self.constants[convolution.input[1]], self.constants.get(name)
        if values is None or values.dtype != kernel.dtype:
            return False
        ones = (1,) * (kernel.ndim - 2)
        alike = values.shape in ((len(kernel), *ones), (1, len(kernel), *ones))
        return bool(alike or (values.size == 1 and values.ndim <= kernel.ndim))

    def _fold(self, node: "NodeProto", convolution: "NodeProto", values: Any) -> None:
        kernel, *rest = (self.constants[name] for name in convolution.input[1:])
        values = values.reshape(-1)
        bias = rest[0] if rest else 0 * kernel.reshape(len(kernel), -1)[:, 0]
        if node.op_type == "Mul":
            kernel = kernel * values.reshape(-1, *(1,) * (kernel.ndim - 1))
        weights = [kernel, bias * values if node.op_type == "Mul" else bias + values]
        del convolution.input[1:]
        convolution.input.extend(self._added(node, place, value) for place, value in enumerate(weights))
        convolution.output[0] = node.output[0]
        self.convolutions[node.output[0]] = convolution
        self.graph.node.remove(node)
        self.count += 1

    def _added(self, node: "NodeProto", place: int, value: Any) -> str:
        from onnx import numpy_helper

        name = f"{node.name or node.output[0]}/folded{place}"
        self.constants[name] = value
        self.graph.initializer.append(numpy_helper.from_array(value, name))
        return name
