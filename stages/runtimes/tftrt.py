"""TensorRT engines inside a TensorFlow graph (TF-TRT), on an NVIDIA GPU; every answer is proven to come from them."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contracts.preprocessing import Floats
from ..core import files
from ..core.errors import PipelineError
from ..core.tensorflow import tensorflow
from . import tftrt_proof as proof
from .contract import Job, Session
from .savedmodel import SavedModelSession, part_sizes
from .shared import gpu_requirements

# The newest GPUs that TensorRT 8 has kernels for: Hopper.
NEWEST_CAPABILITY = 9.0
LAST_TENSORFLOW = (2, 17)
# TF-TRT records the engine sizes that it was built for here, beside the SavedModel.
BATCH_SIZES = "batch_sizes.json"


def unavailable(precision: str, environment: dict[str, Any]) -> str | None:
    """The first thing that is missing, from the GPU upwards."""
    if not environment["gpus"]:
        return f"no NVIDIA GPU ({environment['gpu_missing']})"
    if reason := gpu_requirements.too_old(environment["driver"], gpu_requirements.CUDA_11_DRIVER, "CUDA 11"):
        return reason
    gpu = environment["gpus"][0]
    if gpu_requirements.capability(gpu) > NEWEST_CAPABILITY:
        return f"{gpu_requirements.described(gpu)} is newer than TensorRT 8, whose last is {NEWEST_CAPABILITY}"
    return gpu_requirements.no_units(precision, gpu) or _no_tensorrt(environment)


def _no_tensorrt(environment: dict[str, Any]) -> str | None:
    tensorflow, tensorrt = environment["tensorflow"], environment["tensorrt"]
    if gpu_requirements.numbers(tensorflow["version"] or "0")[:2] > LAST_TENSORFLOW:
        return f"TensorFlow {tensorflow['version']} has no TF-TRT, which left with 2.18: install the extra `gpu`"
    if not tensorflow["built_with_tensorrt"]:
        return "this TensorFlow was built without TensorRT: install the extra `gpu` on Linux"
    native = environment["tensorrt_python"]
    if tensorrt["loaded"] is None and native and not native["version"].startswith("8."):
        found = f"TensorRT-RTX {native['version']}" if native["rtx"] else native["version"]
        return f"TF-TRT needs TensorRT 8.5, and this environment has {found}: `make repro` alone brings 8.5"
    if tensorrt["loaded"] is None:
        hint = " (its wheel exists for Python 3.10, not for 3.11)" if environment["python"] == "3.11" else ""
        return f"the TensorRT library does not load{hint}: {tensorrt['missing']}"
    return None


def convert(job: Job) -> dict[str, Any]:
    """Convert, build one engine for each batch size, save both, and prove it from the saved files."""
    tf = tensorflow(tf32=job.options["tf32"])
    versions = proof.tensorrt_versions()
    converter = _converter(job)
    seconds = _build(tf, converter, job)
    converter.save(str(job.target), save_gpu_specific_engines=True)
    files.write_json(job.target / BATCH_SIZES, job.batch_sizes)
    return {"tf32": job.options["tf32"]} | versions | seconds | proof.of(converter, job) | part_sizes(job.target)


def _converter(job: Job) -> Any:
    from tensorflow.python.compiler.tensorrt import trt_convert

    options = job.options
    workspace = options["max_workspace_mib"]
    return trt_convert.TrtGraphConverterV2(
        input_saved_model_dir=str(job.saved_model),
        precision_mode=job.precision.upper(),
        use_dynamic_shape=options["dynamic_shapes"],
        dynamic_shape_profile_strategy=options["profile_strategy"],
        minimum_segment_size=options["minimum_segment_size"],
        maximum_cached_engines=options["maximum_cached_engines"] or len(job.batch_sizes),
        allow_build_at_runtime=False,
        **({"max_workspace_size_bytes": workspace << 20} if workspace else {}),
    )


def _build(tf: Any, converter: Any, job: Job) -> dict[str, Any]:
    """Convert the graph and build its engines; seconds of both, the latter by batch size."""
    start = time.perf_counter()
    if job.precision == "int8":
        # The ranges keep more of their resolution in large batches (TensorRT's guide, "INT8 calibration").
        batches = job.calibration(max(job.batch_sizes))
        converter.convert(calibration_input_fn=lambda: ([tf.constant(batch)] for batch in batches))
        _forget_calibration_engines(converter)
    else:
        converter.convert()
    times = [time.perf_counter()]

    def blank_batches() -> Iterator[list[Any]]:
        # Sorted, smallest first: an engine also serves smaller batches, which then would have none of their own.
        for size in job.batch_sizes:
            yield [tf.zeros((size, *job.input_shape))]
            times.append(time.perf_counter())

    converter.build(blank_batches)
    built = {str(size): end - begin for size, begin, end in zip(job.batch_sizes, times, times[1:], strict=False)}
    if job.options["dynamic_shapes"]:  # one engine with a profile for each size
        built = {"-".join(map(str, job.batch_sizes)): time.perf_counter() - times[0]}
    return {"graph_convert_s": times[0] - start, "engine_build_s": built}


def _forget_calibration_engines(converter: Any) -> None:
    """Drop the engine that calibration left in the cache, since it would serve all smaller batches."""
    import tensorflow as tf
    from tensorflow.python.compiler.tensorrt import trt_convert

    def forget(node: Any) -> None:
        # Where the build failed there is nothing to forget, which the proof will tell.
        with tempfile.NamedTemporaryFile() as unused, suppress(tf.errors.NotFoundError):
            trt_convert.gen_trt_ops.serialize_trt_resource(
                resource_name=trt_convert._get_canonical_engine_name(node.name),
                filename=unused.name,
                delete_resource=True,
            )

    if not converter._need_trt_profiles():
        converter._for_each_trt_node(converter._converted_graph_def, forget)


class TFTRTSession(SavedModelSession):
    """A converted SavedModel whose engines answer, or nothing does."""

    def __init__(self, folder: Path, threads: int | None, tf32: bool) -> None:
        """Load, with TF-TRT's silent fallback to TensorFlow forbidden."""
        os.environ["TF_TRT_ALLOW_ENGINE_NATIVE_SEGMENT_EXECUTION"] = "False"
        super().__init__(folder, threads, tf32)
        self._batch_sizes: list[int] = files.read_json(folder / BATCH_SIZES)
        self._count = 0

    def put(self, images: Floats) -> None:
        """A batch that lies between two engines is filled up to the next one, as an engine may take one size only."""
        self._count = len(images)
        size = min((size for size in self._batch_sizes if size >= len(images)), default=len(images))
        if size > len(images):
            images = np.concatenate([images, np.zeros((size - len(images), *images.shape[1:]), np.float32)])
        super().put(images)

    def run(self) -> npt.NDArray[Any]:
        """Call the signature; PipelineError where TensorFlow would have stood in for an engine."""
        try:
            return super().run()
        except self._tf.errors.AbortedError as error:
            raise PipelineError(
                f"TensorFlow ran in an engine's place on a batch of {self._count} (engines were built for "
                f"{proof.listed(self._batch_sizes)}): {str(error).strip().splitlines()[0]}"
            ) from None

    def probabilities(self, output: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Without the rows that filled the batch."""
        return output[: self._count]

    def verify(self) -> None:
        """Profile one call: an engine answers, none is built, and no part falls back to TensorFlow."""
        steps = proof.profiled_steps(self._tf, self.run)
        wrong = sorted(steps & proof.FALLBACKS)
        if wrong or proof.ENGINE not in steps:
            raise PipelineError(
                f"TensorRT did not answer alone on a batch of {self._count}: the profile shows "
                f"{' and '.join(wrong) or f'no {proof.ENGINE}'} (engines: {proof.listed(self._batch_sizes)})"
            )


def load(folder: Path, precision: str, options: dict[str, Any], threads: int | None) -> Session:
    """A session on the converted SavedModel, reloaded from disk with its engines."""
    return TFTRTSession(folder, threads, options["tf32"])
