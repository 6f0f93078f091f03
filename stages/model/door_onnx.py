"""What in an ONNX file is more than data: operators of other makers, engines, and files outside its folder."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from stages.model.signatures import readable

if TYPE_CHECKING:
    from onnx import (
        AttributeProto,
        FunctionProto,
        GraphProto,
        ModelProto,
        NodeProto,
        SparseTensorProto,
        TensorProto,
    )

HINT = "export it again with an operator set that ONNX Runtime has, such as 17, and no custom operators"
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
        for node in nodes(model):
            yield from _foreign(node, own)
        for tensor in tensors(model):
            yield from _outside(path.parent, tensor)


def tensors(model: "ModelProto") -> Iterator["TensorProto"]:
    """All of a model that may lie in files of their own: weights, and constants of nodes."""
    for graph in _graphs([model.graph, *model.functions]):
        yield from getattr(graph, "initializer", ())  # a function has none
        yield from _dense(getattr(graph, "sparse_initializer", ()))
        for attribute in _attributes(graph):
            yield from (attribute.t, *attribute.tensors)
            yield from _dense((attribute.sparse_tensor, *attribute.sparse_tensors))


def _dense(tensors: Iterable["SparseTensorProto"]) -> Iterator["TensorProto"]:
    for sparse in tensors:
        yield from (sparse.values, sparse.indices)


def _attributes(graph: "GraphProto | FunctionProto") -> Iterator["AttributeProto"]:
    """Of its nodes, and what a function takes where a caller gives nothing."""
    for node in graph.node:
        yield from node.attribute
    yield from getattr(graph, "attribute_proto", ())


def _graphs(graphs: Iterable["GraphProto | FunctionProto"]) -> Iterator["GraphProto | FunctionProto"]:
    """These and all that their attributes hold."""
    waiting = list(graphs)
    while waiting:
        graph = waiting.pop()
        yield graph
        for attribute in _attributes(graph):
            waiting += [attribute.g] if attribute.HasField("g") else []
            waiting += attribute.graphs


def nodes(model: "ModelProto") -> Iterator["NodeProto"]:
    """All of a model, those of its functions and of what nodes hold too."""
    return (node for graph in _graphs([model.graph, *model.functions]) for node in graph.node)


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
