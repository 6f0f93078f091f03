"""Converts a SavedModel by TF-TRT and builds its engines."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ...contracts.conversion import ConvertJob, Proof, Scalar
from ...core import files
from ...core.tensorflow import tensorflow
from ..shared import calibration, fp16
from ..shared.saved_model import flow, part_sizes, weights
from . import proof
from .options import Options
from .prepared import prepared
from .session import BATCH_SIZES

if TYPE_CHECKING:
    from tensorflow import Tensor
    from tensorflow.core.framework.node_def_pb2 import NodeDef
    from tensorflow.python.compiler.tensorrt.trt_convert import TrtGraphConverterV2


def convert(job: ConvertJob, options: Options) -> Proof:
    """Prepare, convert, build one engine for each batch size, save both, and prove it from the saved files."""
    tensorflow(tf32=options.tf32)
    versions = proof.tensorrt_versions()
    lost = fp16.of(job.precision, lambda: weights(Path(job.saved_model)))
    seen = fp16.between_layers(job.precision, job, lambda: flow(Path(job.saved_model)))
    # Compared in FP32 proper: TF32 rounds by kernel.
    with prepared(tensorflow(tf32=False), job) as ready:
        made = _convert(replace(job, saved_model=str(ready.folder)), options)
    facts = {"tf32": options.tf32, **versions, **ready.facts, **made, **lost.facts, **seen}
    return Proof("trt_ops", {}, facts, lost.notes)


def _convert(job: ConvertJob, options: Options) -> dict[str, Scalar]:
    """Of a prepared SavedModel: seconds, and what is on disk."""
    tf, target = tensorflow(tf32=options.tf32), Path(job.target)
    converter = _converter(job, options)
    seconds = _build(tf, converter, job, options)
    converter.save(job.target, save_gpu_specific_engines=True)
    files.write_json(target / BATCH_SIZES, job.batch_sizes)
    return {**seconds, **proof.of(converter, job, options), **part_sizes(target)}


def _converter(job: ConvertJob, options: Options) -> "TrtGraphConverterV2":
    from tensorflow.python.compiler.tensorrt import trt_convert

    workspace = options.max_workspace_mib
    return trt_convert.TrtGraphConverterV2(
        input_saved_model_dir=job.saved_model,
        precision_mode=job.precision.upper(),
        use_dynamic_shape=options.dynamic_shapes,
        dynamic_shape_profile_strategy=options.profile_strategy,
        minimum_segment_size=options.minimum_segment_size,
        maximum_cached_engines=options.maximum_cached_engines or len(job.batch_sizes),
        allow_build_at_runtime=False,
        **({"max_workspace_size_bytes": workspace << 20} if workspace else {}),
    )


def _build(tf: ModuleType, converter: "TrtGraphConverterV2", job: ConvertJob, options: Options) -> dict[str, Scalar]:
    """Convert the graph and build its engines; seconds of both, the latter by batch size."""
    start = time.perf_counter()
    _convert_graph(tf, converter, job)
    times = [time.perf_counter()]

    def blank_batches() -> Iterator[list["Tensor"]]:
        # Sorted, smallest first: an engine also serves smaller batches, which then would have none of their own.
        for size in job.batch_sizes:
            yield [tf.zeros((size, *job.preprocessing.shape))]
            times.append(time.perf_counter())

    converter.build(blank_batches)
    if options.dynamic_shapes:  # one engine with a profile for each size
        built = {"-".join(map(str, job.batch_sizes)): time.perf_counter() - times[0]}
    else:
        built = {str(size): end - begin for size, begin, end in zip(job.batch_sizes, times, times[1:], strict=False)}
    return {"graph_convert_s": times[0] - start, **{f"engine_build_s.batch{key}": s for key, s in built.items()}}


def _convert_graph(tf: ModuleType, converter: "TrtGraphConverterV2", job: ConvertJob) -> None:
    if job.precision != "int8":
        converter.convert()
        return
    # The ranges keep more of their resolution in large batches (TensorRT's guide, "INT8 calibration").
    batches = calibration.batches(job, max(job.batch_sizes))
    converter.convert(calibration_input_fn=lambda: ([tf.constant(batch)] for batch in batches))
    _forget_calibration_engines(converter)


def _forget_calibration_engines(converter: "TrtGraphConverterV2") -> None:
    """Drop the engine that calibration left in the cache, since it would serve all smaller batches."""
    import tensorflow as tf
    from tensorflow.python.compiler.tensorrt import trt_convert

    def forget(node: "NodeDef") -> None:
        # Where the build failed there is nothing to forget, which the proof will tell.
        with tempfile.NamedTemporaryFile() as unused, suppress(tf.errors.NotFoundError):
            trt_convert.gen_trt_ops.serialize_trt_resource(
                resource_name=trt_convert._get_canonical_engine_name(node.name),
                filename=unused.name,
                delete_resource=True,
            )

    if not converter._need_trt_profiles():
        converter._for_each_trt_node(converter._converted_graph_def, forget)
