"""The floating-point values in a graph: its weights, and what flows between its layers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...contracts.preprocessing import Floats
from ...core.tensorflow import scopes_of

if TYPE_CHECKING:
    from tensorflow.types.experimental import ConcreteFunction as Signature

# Of model input, the tensors in the order of their computation, each by its name.
Flow = Callable[[Floats], Iterator[tuple[str, Floats]]]
# What only passes values on.
PASSING = ("Const", "Identity", "Placeholder")


class Weights(NamedTuple):
    """Those of one tensor [any shape]."""

    tensor: str
    values: npt.NDArray[Any]

    @property
    def layer(self) -> str:
        """That it is of."""
        return layer(self.tensor)


def of_signature(signature: "Signature") -> Flow:
    """Those of a SavedModel's signature, functions inside it included."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(signature, lower_control_flow=False)
    operations = [one for one in frozen.graph.get_operations() if one.type not in PASSING]
    tensors = [tensor for one in operations for tensor in one.outputs if tensor.dtype.is_floating]
    every = frozen.prune(frozen.inputs, tensors)

    def flow(images: Floats) -> Iterator[tuple[str, Floats]]:
        values = every(tf.constant(images))
        return ((tensor.name, value.numpy()) for tensor, value in zip(tensors, values, strict=True))

    return flow


def of_onnx(path: Path) -> Flow:
    """Those of an ONNX file with one input, as it stands."""
    import onnx
    import onnxruntime

    model = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
    typed = [*model.graph.value_info, *model.graph.output]
    floats = {one.name for one in typed if one.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    names = [name for node in model.graph.node for name in node.output if name in floats]
    ends = {result.name for result in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in ends)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()

    def flow(images: Floats) -> Iterator[tuple[str, Floats]]:
        return zip(names, session.run(names, {source.name: images}), strict=True)

    return flow


def layer(tensor: str) -> str:
    """The layer that a tensor is of, by its name, without TensorFlow's own parts of it."""
    *around, own = tensor.partition(":")[0].split("/")
    return "/".join(scopes_of([part for part in around if "PartitionedCall" not in part], own)) or own


def first_not_finite(flow: Flow, image: Floats) -> str:
    """The first layer that gives NaN or infinity for an image [1, height, width, channels]; empty where none does."""
    return next((layer(name) for name, values in flow(image) if not np.isfinite(values).all()), "")


def largest(flow: Flow, images: Floats) -> dict[str, float]:
    """By tensor the largest finite magnitude on these images, which are asked one by one: all tensors at once."""
    found: dict[str, float] = {}
    for place in range(len(images)):
        for name, values in flow(images[place : place + 1]):
            most = np.max(np.abs(values), where=np.isfinite(values), initial=0)
            found[name] = max(found.get(name, 0.0), float(most))
    return found
