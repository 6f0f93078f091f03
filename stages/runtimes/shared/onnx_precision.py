"""Writes a precision into an ONNX graph: FP16 by casting, INT8 as Q/DQ pairs.

Their ranges are those of the calibration set, or what the graph's own pairs learned in quantization-aware training.
"""

import io
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...contracts.conversion import ConvertJob
from ...contracts.preprocessing import Floats
from . import calibration
from .tensors import Weights

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData

# By the tensor that they are for.
Ranges = dict[str, "TensorData"]
CALIBRATORS = {"minmax": "MinMax", "percentile": "Percentile", "entropy": "Entropy"}
# Layers with weights: TensorRT fuses what is between them into their INT8 kernels, or computes it in FP16.
WEIGHTED = ["Conv", "MatMul", "Gemm"]
# Layers that move values, or take the largest of some, and so have one range before and behind them.
MOVING = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "MaxPool")
PAIR = ("QuantizeLinear", "DequantizeLinear")
# The first operator set with FP16 scales in Q/DQ (ONNX's changelog, QuantizeLinear-19), and its file format.
FP16_SCALES_OPSET, FP16_SCALES_IR = 19, 9


def weights(path: Path) -> list[Weights]:
    """Floating-point weights of an ONNX file."""
    import onnx

    tensors = onnx.load(str(path)).graph.initializer
    found = [Weights(tensor.name, onnx.numpy_helper.to_array(tensor)) for tensor in tensors]
    return [one for one in found if one.values.dtype.kind == "f" and one.values.size > 1]


def quantize_for_cpu(job: ConvertJob, path: Path, calibrator: str, reduce_range: bool) -> None:
    """Asymmetric activations and weights for each channel: ONNX Runtime's advice for CPUs ("Quantize ONNX models")."""
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    layers = sorted({*QLinearOpsRegistry, *QDQRegistry})
    model, ranges = _calibrated(job, Path(job.onnx), layers, calibrator)
    _write(model, path, QuantType.QUInt8, ranges, layers, {}, reduce_range)


def quantize_for_tensorrt(job: ConvertJob, source: Path, path: Path, calibrator: str) -> None:
    """Symmetric, as TensorRT demands, at the inputs of layers with weights alone, and with the weights still in float.

    A pair at such a layer's output too would part it from the activation that it is fused with: EfficientNet-Lite0 lost
    5.5 points of top-1 to that on 400 images, and nothing without (ONNX Runtime, optimizations off).
    """
    from onnxruntime.quantization import QuantType

    options: dict[str, bool | list[str]] = {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "QuantizeBias": False,
        "AddQDQPairToWeight": True,
        "OpTypesToExcludeOutputQuantization": WEIGHTED,
    }
    model, ranges = _calibrated(job, source, WEIGHTED, calibrator)
    _write(model, path, QuantType.QInt8, ranges, WEIGHTED, options)


def _calibrated(job: ConvertJob, source: Path, layers: list[str], calibrator: str) -> "tuple[ModelProto, TensorsData]":
    """The model without Q/DQ pairs, and the ranges that these had learned, or else of the calibration set.

    By the parts of `quantize_static`, which by itself would keep the activations of all images in memory.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, create_calibrator

    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        method = CalibrationMethod[CALIBRATORS[calibrator]]
        collector = create_calibrator(source, layers, f"{folder}/augmented.onnx", method)
        for image in _images(job):
            collector.collect_data(Feed(image))
        ranges = collector.compute_data()
    model = onnx.load(source)
    ranges.data.update(lift_ranges(model.graph))
    return onnx.shape_inference.infer_shapes(model), ranges


def _images(job: ConvertJob) -> Iterable[Floats]:
    from tqdm import tqdm  # only where a person waits for it

    return tqdm(calibration.batches(job, 1), "calibration", unit="image", leave=False, disable=None)


def _write(
    model: "ModelProto",
    path: Path,
    activations: "QuantType",
    ranges: "TensorsData",
    layers: list[str],
    options: dict[str, bool | list[str]],
    reduce_range: bool = False,
) -> None:
    """Write Q/DQ pairs with these ranges; weights have one a channel."""
    from onnxruntime.quantization import QDQQuantizer, QuantType

    weights = QuantType.QInt8
    quantizer = QDQQuantizer(model, True, reduce_range, weights, activations, ranges, [], [], layers, options)
    quantizer.quantize_model()
    quantizer.model.save_model_to_file(path, False)


def lift_ranges(graph: "GraphProto") -> Ranges:
    """Take the graph's own Q/DQ pairs out; the range that each had, by the tensors that it is for."""
    import onnx
    from onnxruntime.quantization.calibrate import TensorData

    constants = {constant.name: onnx.numpy_helper.to_array(constant) for constant in graph.initializer}
    pairs = [node for node in graph.node if node.op_type in PAIR and node.input[0] not in constants]
    ranges, renamed = {}, dict[str, str]()
    for node in pairs:  # in the order of their computation; between the two may be what moves values
        origin, scale, zero = node.input
        origin = renamed[node.output[0]] = renamed.get(origin, origin)
        if node.op_type == "QuantizeLinear":
            limits = np.iinfo(constants[zero].dtype)
            ends = [(np.float32(end) - constants[zero]) * constants[scale] for end in (limits.min, limits.max)]
            ranges[origin] = TensorData(lowest=ends[0], highest=ends[1])
        graph.node.remove(node)
    del graph.value_info[:]  # what moved INT8 moves floats now
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    ends = [result.name for result in graph.output if result.name in renamed]
    graph.node.extend(onnx.helper.make_node("Identity", [renamed[name]], [name]) for name in ends)
    return _spread(graph, ranges)


def _spread(graph: "GraphProto", ranges: Ranges) -> Ranges:
    """The same before and behind layers that only move values: there the quantizer writes pairs too."""
    spread, readers = dict(ranges), Counter(name for node in graph.node for name in node.input)
    moving = [node for node in graph.node if node.op_type in MOVING]
    for node in reversed(moving):
        if node.output[0] in spread and readers[node.input[0]] == 1:
            spread.setdefault(node.input[0], spread[node.output[0]])
    for node in moving:
        if node.input[0] in spread:
            spread.setdefault(node.output[0], spread[node.input[0]])
    return spread


class Feed:
    """A calibration image as ONNX Runtime's calibrators ask for it: once, and then no more."""

    def __init__(self, image: Floats) -> None:
        """Hold one image, float32 [1, height, width, channels]."""
        self._left = [{"images": image}]

    def get_next(self) -> dict[str, Floats] | None:
        """The input, or None at the end."""
        return self._left.pop() if self._left else None


def with_fp16_scales(source: Path, path: Path) -> None:
    """Write the graph in the first operator set whose Q/DQ pairs may have FP16 scales."""
    import onnx

    model = onnx.version_converter.convert_version(onnx.load(source), FP16_SCALES_OPSET)
    model.ir_version = FP16_SCALES_IR
    onnx.save(model, path)


def cast_to_fp16(source: Path, path: Path) -> None:
    """Write the graph with its weights and all that flows between its layers in FP16; input and output stay FP32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = OnnxModel(convert_float_to_float16(onnx.load(source), keep_io_types=True))
    model.topological_sort()  # the casts come last
    onnx.save(model.model, path)
