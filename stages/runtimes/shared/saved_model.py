"""SavedModels: what they hold, and a session on their serving signature."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...contracts.preprocessing import Floats
from ...core import files
from ...core.tensorflow import nodes, tensorflow
from ..contract import Array, Interface, Session, Tensor
from . import tensors
from .tensors import Flow, Weights

# In the folder `assets` of one that TF-TRT converted, before the name of an op: its engines.
ENGINES = "trt-serialized-engine."


def part_sizes(folder: Path) -> dict[str, int]:
    """Bytes of a SavedModel's variables, of its graph and of TensorRT's engines inside it."""
    sizes = files.sizes(folder)

    def share(prefix: str) -> int:
        return sum(size for name, size in sizes.items() if name.startswith(prefix))

    return {
        "variables_bytes": share("variables/"),
        "graph_bytes": share("saved_model.pb"),
        "engine_bytes": share(f"assets/{ENGINES}"),
    }


def weights(folder: Path) -> list[Weights]:
    """Floating-point weights of a SavedModel, variables and constants."""
    tf = tensorflow()
    model = tf.saved_model.load(str(folder))
    signature = model.signatures["serving_default"]
    variables = [variable for variable in signature.variables if variable.dtype.is_floating]
    every = nodes(signature.graph)
    constants = [node for node in every if node.op == "Const" and tf.as_dtype(node.attr["dtype"].type).is_floating]
    found = [Weights(variable.name, variable.numpy()) for variable in variables]
    found += [Weights(node.name, tf.make_ndarray(node.attr["value"].tensor)) for node in constants]
    return [one for one in found if one.values.size > 1]


def flow(folder: Path) -> Flow:
    """The values between the layers of a SavedModel."""
    model = tensorflow().saved_model.load(str(folder))
    return tensors.of_signature(model.signatures["serving_default"])


def interface(folder: Path) -> Interface:
    """The only input and output of the serving signature, read without loading the model: engines would need a GPU."""
    tf = tensorflow()
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    signature = saved.meta_graphs[0].signature_def["serving_default"]
    ((source, images),) = signature.inputs.items()
    ((result, answers),) = signature.outputs.items()
    types = [str(tf.as_dtype(tensor.dtype).name) for tensor in (images, answers)]
    shape = tuple(dim.size for dim in images.tensor_shape.dim)
    return Interface(Tensor(source, types[0], shape), Tensor(result, types[1], None))  # TF-TRT forgets its shape


class SavedModelSession(Session):
    """The serving signature, called with a tensor; `predict()` of Keras would add its own loop to every call."""

    def __init__(self, folder: Path, threads: int | None, tf32: bool) -> None:
        """Load the signature; its tensors live on the GPU if TensorFlow has one."""
        self._tf = tensorflow(threads, tf32)
        self._model = self._tf.saved_model.load(str(folder))
        self._signature = self._model.signatures["serving_default"]
        (self._output,) = self._signature.structured_outputs  # TF-TRT gives the only output a name of its own
        self.on_gpu = self.asynchronous = bool(self._tf.config.list_logical_devices("GPU"))
        self._images: Any = None

    def put(self, images: Floats) -> None:
        """Make a tensor on the device; on a GPU the copy may still be under way when this returns."""
        self._images = self._tf.identity(self._tf.constant(images))

    def run(self) -> Array:
        """Call the signature and fetch its output."""
        output: Array = self._signature(images=self._images)[self._output].numpy()
        return output

    def probabilities(self, output: Array) -> npt.NDArray[np.float32]:
        """Nothing to do."""
        return output

    def first_not_finite(self, image: Floats) -> str:
        """As the frozen graph computes it."""
        return tensors.first_not_finite(tensors.of_signature(self._signature), image)

    def gpu_peak_bytes(self) -> int | None:
        """TensorFlow's allocator knows, and TF-TRT's engines use it too."""
        return int(self._tf.config.experimental.get_memory_info("GPU:0")["peak"]) if self.on_gpu else None
