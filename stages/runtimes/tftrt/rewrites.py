"""Writes operations that TF-TRT leaves in TensorFlow as others that it takes, where both provably give the same."""

from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

from ...core import erfc

if TYPE_CHECKING:
    from tensorflow import Graph, Operation
    from tensorflow.core.framework.attr_value_pb2 import AttrValue
    from tensorflow.core.framework.graph_pb2 import GraphDef
    from tensorflow.core.framework.node_def_pb2 import NodeDef

# tensorflow.DataType: int32.
INT32 = 3
# Of a node and its operation, which knows shapes: what stands for it, the first under its own name; nothing: it stays.
Rule = Callable[["NodeDef", "Operation"], "list[NodeDef]"]


def rewrite(tf: ModuleType, graph: "GraphDef") -> Counter[str]:
    """Apply the rules to a graph without variables, in place; how many operations of each name had one that fits."""
    done = Counter({"Erfc": count}) if (count := erfc.without(graph)) else Counter[str]()
    operations = shaped(tf, graph)
    for node in [*graph.node]:
        rule = RULES.get(node.op)
        if rule and (others := rule(node, operations.get_operation_by_name(node.name))):
            done[node.op] += 1
            node.CopyFrom(others[0])
            graph.node.extend(others[1:])
    return done


def shaped(tf: ModuleType, graph: "GraphDef") -> "Graph":
    """The same with the shapes that TensorFlow infers."""
    with tf.Graph().as_default() as operations:
        tf.graph_util.import_graph_def(graph, name="")
    return operations


def has_other_groups(tf: ModuleType, graph: "GraphDef") -> bool:
    """Whether a convolution of groups is left: TF-TRT takes it for one without, whose engine then cannot be built."""
    return any(_groups(one) != 1 for one in shaped(tf, graph).get_operations() if one.type == "Conv2D")


def _constant_shape(node: "NodeDef", operation: "Operation") -> "list[NodeDef]":
    """A shape that is computed while the model runs, as [-1, ...] with the sizes that TensorFlow infers.

    Where an image keeps its number of values, any shape that fits begins with the batch of the tensor itself: n * rest
    = batch * rest. So Keras reshapes by [tf.shape(x)[0], 1, 1, C], and TF-TRT takes constant shapes alone, as long as
    the batch is open.
    """
    (tensor, shape), (result,) = operation.inputs, operation.outputs
    if shape.op.type == "Const" or not tensor.shape.rank or not result.shape.rank:
        return []
    sizes, images = result.shape[1:], tensor.shape[1:]
    if not sizes.num_elements() or sizes.num_elements() != images.num_elements():
        return []
    constant = _constant(_new(node, "shape"), [-1, *sizes], node.attr["Tshape"].type)
    inputs = node.input[0], constant.name, *node.input[2:]
    return [_node("Reshape", node.name, *inputs, **_kept(node, "T", "Tshape")), constant]


def _depthwise(node: "NodeDef", operation: "Operation") -> "list[NodeDef]":
    """A convolution of as many groups as channels, which Keras has no other name for, as a depthwise one.

    Its kernel [height, width, 1, C * m] becomes [height, width, C, m]: output c * m + i is of channel c in both.
    """
    kernel = operation.inputs[1].shape
    groups = _groups(operation)
    if groups == 1 or kernel[2] != 1 or not _fits_depthwise(operation):
        return []
    shape = _constant(_new(node, "kernel_shape"), [*kernel[:2], groups, kernel[3] // groups], INT32)
    kinds = {"T": node.attr["T"], "Tshape": shape.attr["dtype"]}
    reshaped = _node("Reshape", _new(node, "kernel"), node.input[1], shape.name, **kinds)
    inputs = node.input[0], reshaped.name, *node.input[2:]
    kept = _kept(node, "T", "strides", "padding", "data_format", "dilations")
    return [_node("DepthwiseConv2dNative", node.name, *inputs, **kept), reshaped, shape]


def _groups(convolution: "Operation") -> int:
    """Of a Conv2D, by the channels of its input and of its kernel; 1 where the former are not known."""
    channels = convolution.inputs[0].shape[3 if _is_nhwc(convolution) else 1]
    own = convolution.inputs[1].shape[2]
    return int(channels // own) if channels and own else 1


def _fits_depthwise(convolution: "Operation") -> bool:
    """What TensorFlow's depthwise convolution demands on every device: NHWC, one stride, no dilation."""
    _, height, width, _ = convolution.get_attr("strides")
    named = convolution.get_attr("padding") in (b"SAME", b"VALID")
    return _is_nhwc(convolution) and named and height == width and set(convolution.get_attr("dilations")) == {1}


def _is_nhwc(convolution: "Operation") -> bool:
    return bool(convolution.get_attr("data_format") == b"NHWC")


def _new(node: "NodeDef", name: str) -> str:
    """In a scope of its own: Keras calls the shape of Reshape Reshape/shape too."""
    return f"prepared/{node.name}/{name}"


def _kept(node: "NodeDef", *names: str) -> "dict[str, AttrValue]":
    return {name: node.attr[name] for name in names if name in node.attr}


def _constant(name: str, value: int | list[int], kind: int) -> "NodeDef":
    import tensorflow as tf
    from tensorflow.core.framework.attr_value_pb2 import AttrValue

    tensor = tf.make_tensor_proto(value, dtype=kind)
    return _node("Const", name, dtype=AttrValue(type=kind), value=AttrValue(tensor=tensor))


def _node(kind: str, node_name: str, *inputs: str, **attributes: "AttrValue") -> "NodeDef":
    from tensorflow.core.framework.node_def_pb2 import NodeDef

    return NodeDef(op=kind, name=node_name, input=inputs, attr=attributes)


RULES: dict[str, Rule] = {"Conv2D": _depthwise, "Reshape": _constant_shape}
