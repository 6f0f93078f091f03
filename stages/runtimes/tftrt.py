"""TensorRT engines inside a TensorFlow graph (TF-TRT), on an NVIDIA GPU; every answer is proven to come from them."""

import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.common import files
from stages.common.errors import PipelineError
from stages.common.images import Floats
from stages.common.tf import tensorflow
from stages.runtimes.protocol import Job, Session
from stages.runtimes.savedmodel import SavedModelSession, part_sizes

# TensorRT 8.5 has fast FP16 from compute capability 5.3 and INT8 from 6.1, save for 6.2 (NVIDIA's support matrix).
FAST_FP16 = (5.3, 6.0, 6.2)
NO_INT8 = (5.0, 5.2, 5.3, 6.0, 6.2)
# The newest GPUs that TensorRT 8 has kernels for: Hopper.
NEWEST_CAPABILITY = 9.0
# CUDA 11 runs on drivers from this one on (NVIDIA's table of CUDA minor version compatibility).
OLDEST_DRIVER = (450, 80, 2)
LAST_TENSORFLOW = (2, 17)
# TF-TRT records the engine sizes that it was built for here, beside the SavedModel.
BATCH_SIZES = "batch_sizes.json"
# What TF-TRT's op calls its steps in a profile.
ENGINE, FALLBACKS = "TRTEngineOp::ExecuteTrtEngine", ("TRTEngineOp::ExecuteNativeSegment", "TRTEngineOp::BuildEngine")


Engine = dict[str, Any]


def unavailable(precision: str, environment: dict[str, Any]) -> str | None:
    """The first thing that is missing, from the GPU upwards."""
    if not environment["gpus"]:
        return f"no NVIDIA GPU ({environment['gpu_missing']})"
    return _no_tensorrt(environment) or _no_units(precision, environment["gpus"][0])


def _no_tensorrt(environment: dict[str, Any]) -> str | None:
    tensorflow, tensorrt, driver = environment["tensorflow"], environment["tensorrt"], environment["driver"]
    if _numbers(driver) < OLDEST_DRIVER:
        return f"the NVIDIA driver {driver} is too old for CUDA 11: install 450.80.02 or newer"
    if _numbers(tensorflow["version"] or "0")[:2] > LAST_TENSORFLOW:
        return f"TensorFlow {tensorflow['version']} has no TF-TRT, which left with 2.18: install the extra `gpu`"
    if not tensorflow["built_with_tensorrt"]:
        return "this TensorFlow was built without TensorRT: install the extra `gpu` on Linux"
    if tensorrt["loaded"] is None:
        hint = " (its wheel exists for Python 3.10, not for 3.11)" if environment["python"] == "3.11" else ""
        return f"the TensorRT library was not found{hint}: {tensorrt['missing']}"
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def _no_units(precision: str, gpu: dict[str, Any]) -> str | None:
    capability = float(gpu["compute_capability"])
    about = f"{gpu['name']} (compute capability {capability})"
    if capability > NEWEST_CAPABILITY:
        return f"{about} is newer than TensorRT 8, whose last is {NEWEST_CAPABILITY}"
    if precision == "int8" and capability in NO_INT8:
        return f"{about} has no INT8 units"
    if precision == "fp16" and capability < 7 and capability not in FAST_FP16:
        return f"{about} has no fast FP16 units"
    return None


def convert(job: Job) -> dict[str, Any]:
    """Convert, build one engine for each batch size, save both, and prove it from the saved files."""
    cached = job.options["maximum_cached_engines"]
    if not job.options["dynamic_shapes"] and cached is not None and cached < len(job.batch_sizes):
        raise PipelineError(
            f"tftrt.maximum_cached_engines is {cached}, but there are {len(job.batch_sizes)} batch sizes "
            f"({_listed(job.batch_sizes)}), each with an engine of its own: raise it, or set null"
        )
    tf = tensorflow(tf32=job.options["tf32"])
    converter = _converter(job)
    seconds = _build(tf, converter, job)
    converter.save(str(job.target), save_gpu_specific_engines=True)
    files.write_json(job.target / BATCH_SIZES, job.batch_sizes)
    return {"tf32": job.options["tf32"]} | seconds | _proof(converter, job) | part_sizes(job.target)


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
        # Smallest first: an engine also serves smaller batches, which then would have none of their own.
        for size in sorted(job.batch_sizes):
            yield [tf.zeros((size, *job.input_shape))]
            times.append(time.perf_counter())

    converter.build(blank_batches)
    built = {
        str(size): end - begin for size, begin, end in zip(sorted(job.batch_sizes), times, times[1:], strict=False)
    }
    if job.options["dynamic_shapes"]:
        built = {_listed(job.batch_sizes): time.perf_counter() - times[0]}  # one engine with a profile for each
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


def _proof(converter: Any, job: Job) -> dict[str, Any]:
    """What TensorRT took over, from the converted graph and the saved engines."""
    from tensorflow.compiler.tf2tensorrt import _pywrap_py_utils

    graph = converter._converted_func.graph.as_graph_def()
    ops = [node for node in graph.node if node.op == "TRTEngineOp"]
    engines = {path.name: saved_engines(path) for path in sorted(job.target.glob("assets/trt-serialized-engine.*"))}
    check_engines(ops, engines, job)
    segments = {f"{node.name}_native_segment" for node in ops}
    inside = sum(len(part.node_def) for part in graph.library.function if part.signature.name in segments)
    outside = Counter(node.op for node in graph.node if node.op != "TRTEngineOp")
    return {
        "engine_ops": len(ops),
        "engines": engines,
        "nodes_in_engines": inside,
        "share_in_engines": inside / (inside + sum(outside.values())),
        "ops_outside": dict(sorted(outside.items())),
        "tensorrt_linked": ".".join(map(str, _pywrap_py_utils.get_linked_tensorrt_version())),
        "tensorrt_loaded": ".".join(map(str, _pywrap_py_utils.get_loaded_tensorrt_version())),
    }


def check_engines(ops: Sequence[Any], engines: dict[str, list[Engine]], job: Job) -> None:
    """PipelineError unless each TRTEngineOp has its engines on file, one for each batch size, calibrated if INT8."""
    if not ops:
        raise PipelineError("TensorRT converted no part of the graph: try a smaller tftrt.minimum_segment_size")
    whole = [found for found in engines.values() if found and all(engine["bytes"] for engine in found)]
    if len(whole) < len(ops):
        raise PipelineError(
            f"TensorRT built an engine for {len(whole)} of the {len(ops)} parts of the graph that it took over, so "
            "TensorFlow would run the others: the log above says why (an operation, or too little GPU memory)"
        )
    if job.precision == "int8" and not all(node.attr["calibration_data"].s for node in ops):
        raise PipelineError("INT8 calibration left an engine without ranges: give it more or other calibration images")
    if job.options["dynamic_shapes"]:
        return
    for name, found in engines.items():
        missing = {*job.batch_sizes} - {engine["input_shapes"][0][0] for engine in found}
        if missing:
            raise PipelineError(f"{name} holds no engine for a batch of {_listed(sorted(missing))}")


def saved_engines(path: Path) -> list[Engine]:
    """Input shapes and bytes of every engine in a file of TF-TRT: records of its message TRTEngineInstance."""
    import tensorflow as tf

    instance = _instance_class()
    found = [instance.FromString(record) for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()]
    return [
        {
            "input_shapes": [[dim.size for dim in shape.dim] for shape in engine.input_shapes],
            "bytes": len(engine.serialized_engine),
        }
        for engine in found
    ]


def _instance_class() -> Any:
    """The message, which TensorFlow ships without its Python module (tf2tensorrt/utils/trt_engine_instance.proto)."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from tensorflow.core.framework import tensor_shape_pb2

    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="trt_engine_instance.proto", package="trt", syntax="proto3")
    file.dependency.append(tensor_shape_pb2.DESCRIPTOR.name)
    message = file.message_type.add(name="TRTEngineInstance")
    shapes = message.field.add(name="input_shapes", number=1, type=kind.TYPE_MESSAGE, label=kind.LABEL_REPEATED)
    shapes.type_name = ".tensorflow.TensorShapeProto"
    message.field.add(name="serialized_engine", number=2, type=kind.TYPE_BYTES, label=kind.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(tensor_shape_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("trt.TRTEngineInstance"))


def _listed(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes))


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
                f"{_listed(self._batch_sizes)}): {str(error).strip().splitlines()[0]}"
            ) from None

    def probabilities(self, output: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Without the rows that filled the batch."""
        return output[: self._count]

    def verify(self) -> None:
        """Profile one call: an engine answers, none is built, and no part falls back to TensorFlow."""
        steps = self._profile()
        wrong = sorted(steps & {*FALLBACKS})
        if wrong or ENGINE not in steps:
            raise PipelineError(
                f"TensorRT did not answer alone on a batch of {self._count}: the profile shows "
                f"{' and '.join(wrong) or f'no {ENGINE}'} (engines: {_listed(self._batch_sizes)})"
            )

    def _profile(self) -> set[str]:
        """Names of the steps that TensorFlow's profiler saw on the host during one call."""
        from tensorflow.tsl.profiler.protobuf import xplane_pb2

        profiler = self._tf.profiler.experimental
        host_only = profiler.ProfilerOptions(host_tracer_level=2, python_tracer_level=0, device_tracer_level=0)
        with tempfile.TemporaryDirectory() as folder:
            with profiler.Profile(folder, host_only):
                self.run()
            (trace,) = Path(folder).rglob("*.xplane.pb")
            space = xplane_pb2.XSpace.FromString(trace.read_bytes())
        return {event.name.partition("#")[0] for plane in space.planes for event in plane.event_metadata.values()}


def load(folder: Path, precision: str, options: dict[str, Any], threads: int | None) -> Session:
    """A session on the converted SavedModel, reloaded from disk with its engines."""
    return TFTRTSession(folder, threads, options["tf32"])
