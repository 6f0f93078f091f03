"""A SavedModel's signature as one graph without variables and calls, and such a graph as a SavedModel."""

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from .tensorflow import CALLS

if TYPE_CHECKING:
    from tensorflow import Tensor
    from tensorflow.core.framework.graph_pb2 import GraphDef
    from tensorflow.types.experimental import ConcreteFunction

# What keeps TensorFlow from inlining a function that XLA is to compile (tf.function with jit_compile=True).
MARKS = ("_XlaMustCompile", "_noinline")


def freeze(function: "ConcreteFunction", lower: bool = True) -> "ConcreteFunction":
    """As TF-TRT itself begins: variables become constants, and functions are inlined where nothing marks them.

    `lower` is whether loops and branches are taken apart too.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    return convert_variables_to_constants_v2(function, lower_control_flow=lower)


def inline(function: "ConcreteFunction", lower: bool = True) -> "tuple[ConcreteFunction, int]":
    """Of a frozen function, one with the calls inlined that only a mark has kept; how many those were."""
    graph, calls = function.graph.as_graph_def(), 0
    while marked := unmark(graph):  # a body may call in turn
        calls += marked
        function = freeze(of_graph(graph, function), lower)
        graph = function.graph.as_graph_def()
    return function, calls


def unmark(graph: "GraphDef") -> int:
    """Let the calls of marked functions call copies without marks, in place; how many were marked."""
    bodies = {body.signature.name: body for body in graph.library.function}
    calls = [node for node in graph.node if node.op in CALLS]
    marked = [node for node in calls if any(mark in bodies[node.attr["f"].func.name].attr for mark in MARKS)]
    # Copies, since this process may know the function by its name already, and then keeps it as it was.
    for name in {node.attr["f"].func.name for node in marked}:
        copy = graph.library.function.add()
        copy.CopyFrom(bodies[name])
        copy.signature.name = _unmarked(name)
        for mark in MARKS:
            copy.attr.pop(mark, None)
    for node in marked:
        node.attr["f"].func.name = _unmarked(node.attr["f"].func.name)
        for mark in MARKS:
            node.attr.pop(mark, None)
    return len(marked)


def _unmarked(name: str) -> str:
    return f"{name}_unmarked"


def of_graph(graph: "GraphDef", like: "ConcreteFunction") -> "ConcreteFunction":
    """A function of a graph with the inputs and outputs of another, of which it has what these need.

    It has no gradients of its own, such as Keras has of swish: TensorFlow could not save them, and warns of it.
    """
    from tensorflow.python.eager.wrap_function import function_from_graph_def

    for node in graph.node:
        node.attr.pop("_gradient_op_type", None)
    return function_from_graph_def(
        graph, [tensor.name for tensor in like.inputs], [tensor.name for tensor in like.outputs]
    )


def save(tf: ModuleType, function: "ConcreteFunction", like: "ConcreteFunction", folder: Path) -> None:
    """Save a frozen function with the one signature of `like`: its input and output keep their names."""
    ((name, source),) = like.structured_input_signature[1].items()
    (key,) = like.structured_outputs

    @tf.function(input_signature=[tf.TensorSpec(source.shape, source.dtype, name)])  # type: ignore[untyped-decorator]
    def serve(images: "Tensor") -> dict[str, "Tensor"]:
        (answers,) = function(images)
        return {key: answers}

    tf.saved_model.save(tf.Module(), str(folder), signatures={"serving_default": serve})
