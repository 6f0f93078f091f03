"""Runs ONNX files, on CUDA's provider where there is one and a GPU, else on the CPU's."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...contracts.preprocessing import Floats
from ...core.cores import cores
from ...core.errors import PipelineError
from ..contract import Array, Session
from ..shared import tensors
from .options import Options

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

FILE = "model.onnx"
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def provider() -> str:
    """CUDA's where ONNX Runtime was built with it and there is a GPU."""
    import onnxruntime

    if CUDA not in onnxruntime.get_available_providers():
        return CPU
    from ...core.gpu import first_gpu  # a champion on a CPU does without NVML's bindings

    with first_gpu() as gpu:
        return CUDA if gpu else CPU


def inference_session(path: Path, options: "SessionOptions") -> "InferenceSession":
    """ONNX Runtime's own; PipelineError if it would run on another device, to which it falls back without a word."""
    import onnxruntime

    expected = provider()
    if expected == CUDA:
        onnxruntime.preload_dlls()  # CUDA from its wheels, which it would not look for otherwise
    options.log_severity_level = 3  # that an optimized graph fits this machine only is known here
    session = onnxruntime.InferenceSession(path, options, list(dict.fromkeys([expected, CPU])))
    if session.get_providers()[0] != expected:
        raise PipelineError(
            f"ONNX Runtime fell back to the CPU: {expected} did not load, since a library of CUDA or cuDNN is "
            "missing; see which by `python -m stages env check`",
            code="onnxruntime-fallback",
            provider=expected,
        )
    return session


class ONNXRuntimeSession(Session):
    """One inference session, with its input bound on the device that computes."""

    asynchronous = False

    def __init__(self, path: Path, threads: int) -> None:
        """Load the file, with so many threads on a CPU."""
        import onnxruntime

        self._path = path
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._tensor = onnxruntime.OrtValue.ortvalue_from_numpy
        self._session = inference_session(path, options)
        self.on_gpu = self._session.get_providers()[0] == CUDA
        ((self._input,), (self._output,)) = self._session.get_inputs(), self._session.get_outputs()
        self._binding = self._session.io_binding()
        self._feed: dict[str, Floats] = {}

    def put(self, images: Floats) -> None:
        """Copy to the GPU; on a CPU the runtime reads NumPy's memory as it is."""
        if not self.on_gpu:
            self._feed = {self._input.name: images}
            return
        self._binding.bind_ortvalue_input(self._input.name, self._tensor(images, "cuda", 0))
        self._binding.bind_output(self._output.name, "cpu")

    def run(self) -> Array:
        """Run the graph."""
        if not self.on_gpu:
            return np.asarray(self._session.run([self._output.name], self._feed)[0])
        self._session.run_with_iobinding(self._binding)
        return np.asarray(self._binding.copy_outputs_to_cpu()[0])

    def probabilities(self, output: Array) -> npt.NDArray[np.float32]:
        """Nothing to do."""
        return output

    def first_not_finite(self, image: Floats) -> str:
        """As the file says it, without what the optimiser makes of it."""
        return tensors.first_not_finite(tensors.of_onnx(self._path), image)


def open_session(folder: Path, precision: str, options: Options, threads: int | None) -> ONNXRuntimeSession:
    """A session on the ONNX file in `folder`."""
    return ONNXRuntimeSession(folder / FILE, threads or cores())
