"""TFLite files, converted by TensorFlow and run on the CPU by LiteRT, which imports in a hundredth of the time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contracts.preprocessing import Floats
from ..core.cores import cores
from ..core.tensorflow import tensorflow
from .contract import Job, Session

FILE = "model.tflite"


def unavailable(precision: str, environment: dict[str, Any]) -> str | None:
    """LiteRT runs on every CPU it installs on."""
    return None if environment["litert"] else "LiteRT is not installed: `pip install ai-edge-litert`"


def convert(job: Job) -> dict[str, Any]:
    """Convert with TensorFlow; `int8` is full integer, its input and output tensors too."""
    tf = tensorflow()
    converter = tf.lite.TFLiteConverter.from_saved_model(str(job.saved_model), signature_keys=["serving_default"])
    if job.precision != "fp32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if job.precision == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    if job.precision == "int8":
        converter.representative_dataset = lambda: _samples(job)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    (job.target / FILE).write_bytes(converter.convert())
    return {"xnnpack": job.options["xnnpack"]} | _tensor_types(job.target / FILE)


def _samples(job: Job) -> Iterator[list[Floats]]:
    for batch in job.calibration(1):
        yield [batch]


def _tensor_types(path: Path) -> dict[str, Any]:
    """Proof of precision: element types of the interface and of the stored weights, read from the file itself."""
    interpreter = _interpreter(path, xnnpack=False, threads=1)
    types: dict[str, int] = {}
    for tensor in interpreter.get_tensor_details():
        name = np.dtype(tensor["dtype"]).name
        types[name] = types.get(name, 0) + 1
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    interface = {"input_type": np.dtype(source["dtype"]).name, "output_type": np.dtype(result["dtype"]).name}
    return interface | {"tensors_by_type": dict(sorted(types.items()))}


def _interpreter(path: Path, xnnpack: bool, threads: int | None) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return Interpreter(str(path), num_threads=threads, experimental_op_resolver_type=resolver)


class TFLiteSession(Session):
    """An interpreter whose input tensor is resized when the batch size changes."""

    asynchronous = on_gpu = False

    def __init__(self, path: Path, xnnpack: bool, threads: int) -> None:
        """Load the file; LiteRT's own default is a single thread, so the number is always given."""
        self._interpreter = _interpreter(path, xnnpack, threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]
        self._batch_size = int(self._input["shape"][0])

    def put(self, images: Floats) -> None:
        """Quantise if the interface is int8, and set the input tensor."""
        if len(images) != self._batch_size:
            self._batch_size = len(images)
            self._interpreter.resize_tensor_input(self._input["index"], images.shape)
            self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(self._input["index"], _quantise(images, self._input))

    def run(self) -> npt.NDArray[Any]:
        """Invoke and copy the output tensor."""
        self._interpreter.invoke()
        output: npt.NDArray[Any] = self._interpreter.get_tensor(self._output["index"])
        return output

    def probabilities(self, output: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Dequantise if the interface is int8."""
        if output.dtype == np.float32:
            return output
        scale, zero = self._output["quantization"]
        real: Floats = (output.astype(np.float32) - np.float32(zero)) * np.float32(scale)
        return real


def _quantise(images: Floats, tensor: dict[str, Any]) -> npt.NDArray[Any]:
    if tensor["dtype"] == np.float32:
        return images
    scale, zero = tensor["quantization"]
    scaled = images * np.float32(1 / scale)
    scaled += np.float32(zero)
    limits = np.iinfo(tensor["dtype"])
    np.clip(np.rint(scaled, out=scaled), limits.min, limits.max, out=scaled)
    return scaled.astype(tensor["dtype"])


def load(folder: Path, precision: str, options: dict[str, Any], threads: int | None) -> Session:
    """A session on the TFLite file in `folder`."""
    return TFLiteSession(folder / FILE, options["xnnpack"], threads or cores())
