"""ONNX Runtime on the CPU: the exported graph as it is, or with INT8 written into it as Q/DQ pairs."""

import io
import logging
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.common.errors import PipelineError
from stages.common.images import Floats
from stages.runtimes.protocol import Job, Session

FILE = "model.onnx"
CPU = ["CPUExecutionProvider"]
CALIBRATORS = {"minmax": "MinMax", "percentile": "Percentile", "entropy": "Entropy"}
# What the layers that have weights are called in an optimised graph.
INT8_LAYERS = ("QLinearConv", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat", "MatMulInteger")
FP32_LAYERS = ("Conv", "FusedConv", "MatMul", "FusedMatMul", "Gemm", "FusedGemm")


def unavailable(precision: str, environment: dict[str, Any]) -> str | None:
    """ONNX Runtime runs on every CPU it installs on."""
    return None if environment["onnxruntime"] else "ONNX Runtime is not installed: `pip install onnxruntime`"


def convert(job: Job) -> dict[str, Any]:
    """Copy the exported graph, or quantise it; PipelineError if no layer then computes in INT8."""
    path = job.target / FILE
    if job.precision == "fp32":
        shutil.copy(job.onnx, path)
        return layers(path)
    quantise(job, path)
    found = layers(path)
    if not found["int8_layers"]:
        raise PipelineError("ONNX Runtime computes no layer of the quantised graph in INT8: its FP32 row says as much")
    return job.options | found


def quantise(job: Job, path: Path) -> None:
    """Write Q/DQ pairs with ranges from the calibration set: asymmetric activations and weights for each channel.

    That is what ONNX Runtime's guide advises for CPUs ("Quantize ONNX models").
    """
    from onnxruntime import quantization
    from onnxruntime.quantization import CalibrationMethod, QuantType

    logging.getLogger().setLevel(logging.ERROR)  # it advises its own optimiser, which tf2onnx has made needless
    with redirect_stdout(io.StringIO()):
        quantization.quantize_static(
            job.onnx,
            path,
            CalibrationSet(lambda: job.calibration(1)),
            per_channel=True,
            reduce_range=job.options["reduce_range"],
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[CALIBRATORS[job.options["calibrator"]]],
            # Image by image: it would keep every activation of the whole set in memory.
            extra_options={"CalibStridedMinMax": 1},
        )


class CalibrationSet:
    """The calibration images as ONNX Runtime's quantiser asks for them: a range of so many, then one by one."""

    def __init__(self, images: Callable[[], Iterator[Floats]]) -> None:
        """Count them first, since the quantiser wants to know."""
        from tqdm import tqdm  # this module travels with the champion, which needs no more than it runs

        self._count = sum(1 for _ in images())
        self._images = iter(tqdm(images(), "calibration", self._count, unit="image", leave=False, disable=None))
        self._left = 0

    def __len__(self) -> int:
        return self._count

    def set_range(self, start_index: int, end_index: int) -> None:
        """From here on so many more."""
        self._left = end_index - start_index

    def get_next(self) -> dict[str, Floats] | None:
        """The next input, or None at the end of the range."""
        if self._left == 0:
            return None
        self._left -= 1
        return {"images": next(self._images)}


def layers(path: Path) -> dict[str, Any]:
    """Proof of precision: the operations that are left when ONNX Runtime has optimised the graph for this CPU."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = f"{folder}/optimised.onnx"
        options.log_severity_level = 3  # that such a file fits this machine only is known here
        onnxruntime.InferenceSession(path, options, CPU)
        graph = onnx.load(options.optimized_model_filepath).graph
    operations = Counter(node.op_type for node in graph.node)
    return {
        "int8_layers": sum(operations[name] for name in INT8_LAYERS),
        "fp32_layers": sum(operations[name] for name in FP32_LAYERS),
        "operations": dict(sorted(operations.items())),
    }


class ONNXRuntimeSession:
    """One inference session."""

    asynchronous = False

    def __init__(self, path: Path, threads: int) -> None:
        """Load the file, with so many threads."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(path, options, CPU)
        ((self._input,), (self._output,)) = self._session.get_inputs(), self._session.get_outputs()
        self._feed: dict[str, Floats] = {}

    def put(self, images: Floats) -> None:
        """The runtime reads NumPy's memory as it is."""
        self._feed = {self._input.name: images}

    def run(self) -> npt.NDArray[Any]:
        """Run the graph."""
        output: npt.NDArray[Any] = self._session.run([self._output.name], self._feed)[0]
        return output

    def probabilities(self, output: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Nothing to do."""
        return output

    def verify(self) -> None:
        """The CPU provider runs the file or fails: it has nothing to fall back to."""

    def gpu_peak_bytes(self) -> int | None:
        """A CPU runtime."""
        return None


def load(folder: Path, precision: str, options: dict[str, Any], threads: int | None) -> Session:
    """A session on the ONNX file in `folder`."""
    return ONNXRuntimeSession(folder / FILE, threads or len(os.sched_getaffinity(0)))
