"""What in an ONNX file is more than data: operators of other makers, engines, and files outside its folder."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from stages.model.signatures import readable

if TYPE_CHECKING:
    from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto

HINT = "export it again with an operator set of at most 22, an IR version of at most 10 and no custom operators"
# ONNX's own, and those of ONNX Runtime whose operators compute.
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc")
# Of ONNX Runtime, but it loads the program of another compiler.
ENGINES = ("EPContext",)


def findings(path: Path) -> Iterator[str]:
    """Each part that is more than data."""
    import onnx

    with readable(path, HINT):
        model = onnx.load(path, load_external_data=False)
    own = {(function.domain, function.name) for function in model.functions}
    for node in _nodes([model.graph, *model.functions]):
        yield from _foreign(node, own)
    for tensor in tensors(model):
        yield from _outside(path.parent, tensor)


def tensors(model: "ModelProto") -> Iterator["TensorProto"]:
    """All of a model that may lie in files of their own: weights, and constants of nodes."""
    for graph in _graphs([model.graph]):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in _nodes([model.graph, *model.functions]):
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)


def _graphs(graphs: Iterable["GraphProto | FunctionProto"]) -> Iterator["GraphProto"]:
    """These and all that their nodes hold."""
    waiting = list(graphs)
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else []
                waiting += attribute.graphs


def _nodes(graphs: Iterable["GraphProto | FunctionProto"]) -> Iterator["NodeProto"]:
    return (node for graph in _graphs(graphs) for node in graph.node)


def _foreign(node: "NodeProto", own: set[tuple[str, str]]) -> Iterator[str]:
    if node.op_type in ENGINES:
        yield f"node {node.name or node.op_type} is the program of a compiler ({node.op_type})"
    elif node.domain not in DOMAINS and (node.domain, node.op_type) not in own:
        yield f"node {node.name or node.op_type} is the custom operator {node.domain}.{node.op_type}"


def _outside(folder: Path, tensor: "TensorProto") -> Iterator[str]:
    """A file of weights that is not in the model's own folder, by its path or by a link."""
    for entry in tensor.external_data:
        place = (folder / entry.value).resolve()
        if entry.key == "location" and not place.is_relative_to(folder.resolve()):
            yield f"the weights {tensor.name} lie outside its folder, in {entry.value}"
