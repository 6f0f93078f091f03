"""ONNX Runtime: the exported graph as it is, on the GPU or the CPU, or on the CPU with INT8 in it as Q/DQ pairs."""

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contracts.preprocessing import Floats
from ..core.cores import cores
from ..core.errors import PipelineError
from .contract import Job, Session
from .shared import gpu_requirements, onnx_precision

FILE = "model.onnx"
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# What the layers that have weights are called in an optimised graph.
INT8_LAYERS = ("QLinearConv", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat", "MatMulInteger")
FP32_LAYERS = ("Conv", "FusedConv", "MatMul", "FusedMatMul", "Gemm", "FusedGemm")


def unavailable(precision: str, environment: dict[str, Any]) -> str | None:
    """ONNX Runtime runs on every CPU it installs on, but has INT8 layers there alone."""
    if not environment["onnxruntime"]:
        return "ONNX Runtime is not installed: `pip install onnxruntime`"
    if not environment["gpus"] or not environment["onnxruntime_gpu"]:
        return None
    if reason := gpu_requirements.too_old(environment["driver"], gpu_requirements.CUDA_12_DRIVER, "CUDA 12"):
        return reason
    if precision == "int8":
        return (
            "ONNX Runtime's CUDA provider has no QLinearConv and would compute in FP32 between Q/DQ pairs; the INT8 of "
            "a GPU is tensorrt-int8"
        )
    return None


def convert(job: Job) -> dict[str, Any]:
    """Copy the exported graph, or quantise it; PipelineError if no layer then computes in INT8."""
    path = job.target / FILE
    if job.precision == "fp32":
        shutil.copy(job.onnx, path)
        return layers(path)
    onnx_precision.quantise_for_cpu(job, path)
    found = layers(path)
    if not found["int8_layers"]:
        raise PipelineError("ONNX Runtime computes no layer of the quantised graph in INT8: its FP32 row says as much")
    return job.options | found


def provider() -> str:
    """CUDA's where ONNX Runtime was built with it and there is a GPU."""
    import onnxruntime

    if CUDA not in onnxruntime.get_available_providers():
        return CPU
    from ..core.gpu import first_gpu  # a champion on a CPU does without NVML's bindings

    with first_gpu() as gpu:
        return CUDA if gpu else CPU


def layers(path: Path) -> dict[str, Any]:
    """Proof of precision: the operations that are left when ONNX Runtime has optimised the graph for this device."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = f"{folder}/optimised.onnx"
        session = _session(path, options)
        graph = onnx.load(options.optimized_model_filepath).graph
    operations = Counter(node.op_type for node in graph.node)
    return {
        "provider": session.get_providers()[0],
        "int8_layers": sum(operations[name] for name in INT8_LAYERS),
        "fp32_layers": sum(operations[name] for name in FP32_LAYERS),
        "operations": dict(sorted(operations.items())),
    }


def _session(path: Path, options: Any) -> Any:
    """An inference session; PipelineError if it would run on another device than it should, which is not said aloud."""
    import onnxruntime

    wanted = provider()
    if wanted == CUDA:
        onnxruntime.preload_dlls()  # CUDA 12 from its wheels, which it would not look for otherwise
    options.log_severity_level = 3  # that an optimised graph fits this machine only is known here
    session = onnxruntime.InferenceSession(path, options, list(dict.fromkeys([wanted, CPU])))
    if session.get_providers()[0] != wanted:
        raise PipelineError(
            f"ONNX Runtime fell back to the CPU: {wanted} did not load, since a library of CUDA 12 or cuDNN 9 is "
            "missing; install the extra `gpu`"
        )
    return session


class ONNXRuntimeSession(Session):
    """One inference session, with its input bound on the device that computes."""

    asynchronous = False

    def __init__(self, path: Path, threads: int) -> None:
        """Load the file, with so many threads on a CPU."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._tensor = onnxruntime.OrtValue.ortvalue_from_numpy
        self._session = _session(path, options)
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

    def run(self) -> npt.NDArray[Any]:
        """Run the graph."""
        if not self.on_gpu:
            return np.asarray(self._session.run([self._output.name], self._feed)[0])
        self._session.run_with_iobinding(self._binding)
        return np.asarray(self._binding.copy_outputs_to_cpu()[0])

    def probabilities(self, output: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Nothing to do."""
        return output


def load(folder: Path, precision: str, options: dict[str, Any], threads: int | None) -> Session:
    """A session on the ONNX file in `folder`."""
    return ONNXRuntimeSession(folder / FILE, threads or cores())
