"""Copies the exported graph or quantizes it, and counts the layers that ONNX Runtime makes of it."""

import shutil
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from ...contracts.conversion import ConvertJob, Proof, Scalar
from ...core.errors import PipelineError
from ..shared import onnx_precision
from .options import Options
from .session import FILE, inference_session

# What the layers that have weights are called in an optimized graph.
LAYERS = {
    "int8": ("QLinearConv", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat", "MatMulInteger"),
    "fp32": ("Conv", "FusedConv", "MatMul", "FusedMatMul", "Gemm", "FusedGemm"),
}


def convert(job: ConvertJob, options: Options) -> Proof:
    """Write model.onnx; PipelineError if INT8 is asked for and no layer computes in it."""
    path = Path(job.target) / FILE
    if job.precision == "fp32":
        shutil.copy(job.onnx, path)
        return proof(path, {})
    onnx_precision.quantize_for_cpu(job, path, options.calibrator, options.reduce_range)
    done = proof(path, asdict(options))
    if not done.layers["int8"]:
        raise PipelineError(
            "ONNX Runtime computes no layer of the quantized graph in INT8, so that its FP32 row says as much: take "
            "onnxruntime-int8 off variants",
            code="onnxruntime-no-int8",
            operations=done.under("operations"),
        )
    return done


def proof(path: Path, options: dict[str, Scalar]) -> Proof:
    """The operations that are left when ONNX Runtime has optimized the graph for this device."""
    provider, operations = optimized(path)
    layers = {precision: sum(operations[name] for name in names) for precision, names in LAYERS.items()}
    counts = {f"operations.{name}": count for name, count in sorted(operations.items())}
    return Proof("graph_layers", layers, {**options, "provider": provider, **counts})


def optimized(path: Path) -> tuple[str, Counter[str]]:
    """The provider that computes, and how often each operation is in its graph."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = f"{folder}/optimized.onnx"
        session = inference_session(path, options)
        graph = onnx.load(options.optimized_model_filepath).graph
    return session.get_providers()[0], Counter(node.op_type for node in graph.node)
