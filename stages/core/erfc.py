"""Writes Erfc(x) as 1 - Erf(x): TensorFlow 2.21 makes the former of an exact GELU, ONNX and TF-TRT know the latter."""

from collections.abc import MutableSequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensorflow.core.framework.function_pb2 import FunctionDef
    from tensorflow.core.framework.graph_pb2 import GraphDef
    from tensorflow.core.framework.node_def_pb2 import NodeDef


def without(graph: "GraphDef") -> int:
    """Rewrite all in a graph and in its functions, in place; how many there were."""
    within = sum(_rewritten_function(function) for function in graph.library.function)
    if within:
        _rename_functions(graph)
    return within + _rewritten(graph.node, "", "")


def _rewritten_function(function: "FunctionDef") -> int:
    """Nodes of a function are read by the names of their outputs: y of Erfc and Erf, z of what it becomes."""
    names = {f"{node.name}:y:0": f"{node.name}:z:0" for node in function.node_def if node.op == "Erfc"}
    if names:
        _rewritten(function.node_def, ":output:0", ":y:0")
        for node in function.node_def:
            node.input[:] = [names.get(name, name) for name in node.input]
        for key, name in function.ret.items():
            function.ret[key] = names.get(name, name)
    return len(names)


def _rename_functions(graph: "GraphDef") -> None:
    """All of them: this process may know one by its name already, and refuses another of the same."""
    library = graph.library.function
    others = {function.signature.name: f"{function.signature.name}_prepared" for function in library}
    for function in library:
        function.signature.name = others[function.signature.name]
    for node in (*graph.node, *(node for function in library for node in function.node_def)):
        node.op = others.get(node.op, node.op)
        for value in node.attr.values():
            for called in (*([value.func] if value.HasField("func") else []), *value.list.func):
                called.name = others.get(called.name, called.name)


def _rewritten(nodes: "MutableSequence[NodeDef]", constant: str, result: str) -> int:
    found = [node for node in nodes if node.op == "Erfc"]
    for node in found:
        one, erf = _one(node), _erf(node)
        # What it waits for stays behind its one input.
        node.op, node.input[:] = "Sub", [one.name + constant, erf.name + result, *node.input[1:]]
        nodes.extend([one, erf])
    return len(found)


def _one(node: "NodeDef") -> "NodeDef":
    import tensorflow as tf
    from tensorflow.core.framework.attr_value_pb2 import AttrValue
    from tensorflow.core.framework.node_def_pb2 import NodeDef

    kind = node.attr["T"].type
    value = AttrValue(tensor=tf.make_tensor_proto(1, dtype=kind))
    return NodeDef(op="Const", name=_new(node, "one"), attr={"dtype": node.attr["T"], "value": value})


def _erf(node: "NodeDef") -> "NodeDef":
    from tensorflow.core.framework.node_def_pb2 import NodeDef

    return NodeDef(op="Erf", name=_new(node, "erf"), input=node.input[:1], attr={"T": node.attr["T"]})


def _new(node: "NodeDef", name: str) -> str:
    """In a scope of its own."""
    return f"prepared/{node.name}/{name}"
