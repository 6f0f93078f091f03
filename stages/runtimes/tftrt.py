"""TensorRT engines inside a TensorFlow graph (TF-TRT), on an NVIDIA GPU."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stages.common.errors import PipelineError
from stages.common.images import Floats
from stages.common.tf import tensorflow
from stages.runtimes.protocol import Job, Session
from stages.runtimes.savedmodel import SavedModelSession

# TensorRT 8.5 has fast FP16 from compute capability 5.3 and INT8 from 6.1, save for 6.2 (NVIDIA's support matrix).
FAST_FP16 = (5.3, 6.0, 6.2)
NO_INT8 = (5.0, 5.2, 5.3, 6.0, 6.2)


def unavailable(precision: str, environment: dict[str, Any]) -> str | None:
    """The first thing that is missing, from the GPU upwards."""
    if not environment["gpus"]:
        return f"no NVIDIA GPU ({environment['gpu_missing']})"
    gpu, tensorrt = environment["gpus"][0], environment["tensorrt"]
    if not environment["tensorflow"]["built_with_tensorrt"]:
        return "this TensorFlow was built without TensorRT: install the extra `gpu` on Linux"
    if tensorrt["loaded"] is None:
        hint = " (its wheel exists for Python 3.10, not for 3.11)" if environment["python"] == "3.11" else ""
        return f"the TensorRT library was not found{hint}: {tensorrt['missing']}"
    capability = float(gpu["compute_capability"])
    if precision == "int8" and capability in NO_INT8:
        return f"{gpu['name']} (compute capability {capability}) has no INT8 units"
    if precision == "fp16" and capability < 7 and capability not in FAST_FP16:
        return f"{gpu['name']} (compute capability {capability}) has no fast FP16 units"
    return None


def convert(job: Job) -> dict[str, Any]:
    """Convert, build one engine per batch size, and save both; PipelineError where TensorRT left the graph alone."""
    tf = tensorflow(tf32=job.options["tf32"])
    from tensorflow.python.compiler.tensorrt import trt_convert

    workspace = job.options["max_workspace_mib"]
    converter = trt_convert.TrtGraphConverterV2(
        input_saved_model_dir=str(job.saved_model),
        precision_mode=job.precision.upper(),
        minimum_segment_size=job.options["minimum_segment_size"],
        maximum_cached_engines=len(job.batch_sizes),
        allow_build_at_runtime=False,
        **({"max_workspace_size_bytes": workspace << 20} if workspace else {}),
    )
    if job.precision == "int8":
        # All calibration batches must have one shape, the largest that is served.
        batches = job.calibration(max(job.batch_sizes))
        converter.convert(calibration_input_fn=lambda: ([tf.constant(batch)] for batch in batches))
    else:
        converter.convert()
    converter.build(lambda: ([tf.constant(batch)] for batch in _blank_batches(job)))
    converter.save(str(job.target), save_gpu_specific_engines=True)
    return _proof(job, converter)


def _blank_batches(job: Job) -> Iterator[Floats]:
    for size in job.batch_sizes:
        yield np.zeros((size, *job.input_shape), np.float32)


def _proof(job: Job, converter: Any) -> dict[str, Any]:
    """Count the engines in the graph and on disk; a variant without any is not a TensorRT variant."""
    graph = converter._converted_func.graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    engines = [node for node in nodes if node.op == "TRTEngineOp"]
    files = {path.name: path.stat().st_size for path in (job.target / "assets").glob("trt-serialized-engine.*")}
    if not engines or not files or not all(files.values()):
        raise PipelineError(f"TensorRT built no engine ({len(engines)} TRTEngineOps, {len(files)} engine files)")
    if job.precision == "int8" and not all(node.attr["calibration_data"].s for node in engines):
        raise PipelineError("INT8 calibration left an engine without ranges: give it more or other calibration images")
    return {"tf32": job.options["tf32"], "engines": len(engines), "engine_bytes": sum(files.values())}


def load(folder: Path, precision: str, options: dict[str, Any], threads: int | None) -> Session:
    """A session on the converted SavedModel, reloaded from disk with its engines."""
    return SavedModelSession(folder, threads, options["tf32"])
