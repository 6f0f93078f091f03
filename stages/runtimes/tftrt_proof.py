"""Proof that TensorRT did the work: from the converted graph, the engines on disk, and a profile of a call."""

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import PipelineError
from .contract import Job

# What TF-TRT's op calls its steps in a profile: its engine answers, or TensorFlow does, or somebody waits for a build.
ENGINE = "TRTEngineOp::ExecuteTrtEngine"
FALLBACKS = {"TRTEngineOp::ExecuteNativeSegment", "TRTEngineOp::BuildEngine"}

Engine = dict[str, Any]


def tensorrt_versions() -> dict[str, str]:
    """The TensorRT that TensorFlow was linked with and the one it loads; PipelineError where TF-TRT would refuse that.

    TF-TRT itself says "Incompatible TensorRT major version", even of an older minor one.
    """
    from tensorflow.compiler.tf2tensorrt import _pywrap_py_utils

    linked, loaded = _pywrap_py_utils.get_linked_tensorrt_version(), _pywrap_py_utils.get_loaded_tensorrt_version()
    told = {"tensorrt_linked": ".".join(map(str, linked)), "tensorrt_loaded": ".".join(map(str, loaded))}
    if loaded[0] != linked[0] or loaded < linked:
        raise PipelineError(
            f"TensorFlow was linked with TensorRT {told['tensorrt_linked']} and finds {told['tensorrt_loaded']}, but "
            "needs the same major version and none older: install the extra `gpu`"
        )
    return told


def of(converter: Any, job: Job) -> dict[str, Any]:
    """What TensorRT took over, from the converted graph and the saved engines."""
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
            raise PipelineError(f"{name} holds no engine for a batch of {listed(sorted(missing))}")


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


def profiled_steps(tf: Any, call: Callable[[], Any]) -> set[str]:
    """Names of the steps that TensorFlow's profiler sees on the host during one call."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    host_only = tf.profiler.experimental.ProfilerOptions(
        host_tracer_level=2, python_tracer_level=0, device_tracer_level=0
    )
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder, host_only):
            call()
        (trace,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(trace.read_bytes())
    return {event.name.partition("#")[0] for plane in space.planes for event in plane.event_metadata.values()}


def listed(sizes: Sequence[int]) -> str:
    """Batch sizes in a sentence."""
    return ", ".join(map(str, sizes))
