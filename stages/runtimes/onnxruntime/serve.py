"""What a server must know of an ONNX file."""

from pathlib import Path
from typing import TYPE_CHECKING

from ..contract import Interface, Tensor
from .session import FILE

if TYPE_CHECKING:
    from onnx import ValueInfoProto


def describe(folder: Path) -> Interface:
    """The graph's only input and output; -1 where a size is open, as in a SavedModel."""
    import onnx

    graph = onnx.load(folder / FILE).graph
    ((source,), (result,)) = graph.input, graph.output
    return Interface(_tensor(source), _tensor(result))


def _tensor(value: "ValueInfoProto") -> Tensor:
    import onnx

    kind = value.type.tensor_type
    shape = tuple(dim.dim_value or -1 for dim in kind.shape.dim)
    return Tensor(value.name, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name, shape)
