"""Runs TFLite files by LiteRT, without TensorFlow."""

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import numpy.typing as npt

from ...contracts.preprocessing import Floats
from ...core.cores import cores
from ..contract import Array, Session
from .options import Options

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter

FILE = "model.tflite"


def interpreter(path: Path, xnnpack: bool, threads: int | None) -> "Interpreter":
    """LiteRT's interpreter, before it has allocated any tensor."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return Interpreter(str(path), num_threads=threads, experimental_op_resolver_type=resolver)


class Details(TypedDict):
    """What the interpreter tells of a tensor, as far as it is used here; of floats the scale is 0."""

    index: int
    name: str
    dtype: npt.DTypeLike
    quantization: tuple[float, int]
    shape: npt.NDArray[np.int32]
    shape_signature: npt.NDArray[np.int32]


class TFLiteSession(Session):
    """An interpreter whose input tensor is resized when the batch size changes."""

    asynchronous = on_gpu = False

    def __init__(self, path: Path, xnnpack: bool, threads: int) -> None:
        """Load the file; LiteRT's own default is a single thread, so the number is always given."""
        self._interpreter = interpreter(path, xnnpack, threads)
        self._interpreter.allocate_tensors()
        self._input: Details = self._interpreter.get_input_details()[0]
        self._output: Details = self._interpreter.get_output_details()[0]
        self._batch_size = int(self._input["shape"][0])

    def put(self, images: Floats) -> None:
        """Quantize if the interface is int8, and set the input tensor."""
        if len(images) != self._batch_size:
            self._batch_size = len(images)
            self._interpreter.resize_tensor_input(self._input["index"], images.shape)
            self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(self._input["index"], quantize(images, self._input))

    def run(self) -> Array:
        """Invoke and copy the output tensor."""
        self._interpreter.invoke()
        output: Array = self._interpreter.get_tensor(self._output["index"])
        return output

    def probabilities(self, output: Array) -> npt.NDArray[np.float32]:
        """Dequantize if the interface is int8."""
        if output.dtype == np.float32:
            return output
        scale, zero = self._output["quantization"]
        real: Floats = (output.astype(np.float32) - np.float32(zero)) * np.float32(scale)
        return real


def quantize(images: Floats, tensor: Details) -> Array:
    """Images as the tensor that the interpreter so describes takes them."""
    if tensor["dtype"] == np.float32:
        return images
    scale, zero = tensor["quantization"]
    scaled = images * np.float32(1 / scale)
    scaled += np.float32(zero)
    limits = np.iinfo(np.dtype(tensor["dtype"]))
    np.clip(np.rint(scaled, out=scaled), limits.min, limits.max, out=scaled)
    integers: Array = scaled.astype(tensor["dtype"])
    return integers


def open_session(folder: Path, precision: str, options: Options, threads: int | None) -> TFLiteSession:
    """A session on the TFLite file in `folder`."""
    return TFLiteSession(folder / FILE, options.xnnpack, threads or cores())
