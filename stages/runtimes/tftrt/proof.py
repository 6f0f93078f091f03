"""Proof that TensorRT did the work: from the versions, the converted graph and the engines on disk."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ...contracts.conversion import ConvertJob, Scalar
from ...core.errors import PipelineError
from ..shared.saved_model import ENGINES
from .options import Options

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from tensorflow.core.framework.graph_pb2 import GraphDef
    from tensorflow.core.framework.node_def_pb2 import NodeDef
    from tensorflow.python.compiler.tensorrt.trt_convert import TrtGraphConverterV2


class Engine(NamedTuple):
    """One engine in a file of TF-TRT: the shapes of its inputs, the batch first, and its bytes."""

    shapes: tuple[tuple[int, ...], ...]
    size: int

    @property
    def batch_size(self) -> int:
        """Of the first input."""
        return self.shapes[0][0]


# By the name of their op.
Engines = Mapping[str, Sequence[Engine]]


def tensorrt_versions() -> dict[str, str]:
    """The TensorRT that TensorFlow was linked with and the one it loads; PipelineError where TF-TRT would refuse that.

    TF-TRT itself says "Incompatible TensorRT major version", even of an older minor one.
    """
    from tensorflow.compiler.tf2tensorrt import _pywrap_py_utils

    linked, loaded = _pywrap_py_utils.get_linked_tensorrt_version(), _pywrap_py_utils.get_loaded_tensorrt_version()
    names = {"tensorrt_linked": ".".join(map(str, linked)), "tensorrt_loaded": ".".join(map(str, loaded))}
    if loaded[0] != linked[0] or loaded < linked:
        raise PipelineError(
            f"TensorFlow was linked with TensorRT {names['tensorrt_linked']} and finds {names['tensorrt_loaded']}, but "
            "needs the same major version and none older: see by `python -m stages env check` what was installed",
            code="tftrt-versions",
            **names,
        )
    return names


def of(converter: "TrtGraphConverterV2", job: ConvertJob, options: Options) -> dict[str, Scalar]:
    """What TensorRT took over, from the converted graph and the saved engines."""
    graph = converter._converted_func.graph.as_graph_def()
    ops = [node for node in graph.node if node.op == "TRTEngineOp"]
    paths = sorted(Path(job.target).glob(f"assets/{ENGINES}*"))
    engines = {path.name.removeprefix(ENGINES): saved_engines(path) for path in paths}
    check_engines(ops, engines, job, options)
    return shares(graph, ops) | sizes(engines)


def shares(graph: "GraphDef", ops: "Sequence[NodeDef]") -> dict[str, Scalar]:
    """How many nodes of the graph are in engines, and which are not."""
    segments = {f"{node.name}_native_segment" for node in ops}
    inside = sum(len(part.node_def) for part in graph.library.function if part.signature.name in segments)
    outside = Counter(node.op for node in graph.node if node.op != "TRTEngineOp")
    return {
        "engine_ops": len(ops),
        "nodes_in_engines": inside,
        "share_in_engines": inside / (inside + sum(outside.values())),
        **{f"ops_outside.{name}": count for name, count in sorted(outside.items())},
    }


def sizes(engines: Engines) -> dict[str, Scalar]:
    """Bytes and input shapes of each engine, by op and batch size."""
    facts: dict[str, Scalar] = {"engine_files": len(engines)}
    for name, built in engines.items():
        for engine in built:
            place = f"engine.{name}.batch{engine.batch_size}"
            facts[f"{place}.bytes"] = engine.size
            facts[f"{place}.inputs"] = ", ".join("x".join(map(str, shape)) for shape in engine.shapes)
    return facts


def check_engines(ops: "Sequence[NodeDef]", engines: Engines, job: ConvertJob, options: Options) -> None:
    """PipelineError unless each TRTEngineOp has its engines on file, one for each batch size, calibrated if INT8."""
    if not ops:
        raise PipelineError(
            "TensorRT converted no part of the graph: try a smaller tftrt.minimum_segment_size",
            code="tftrt-nothing-converted",
            key="tftrt.minimum_segment_size",
        )
    whole = [built for built in engines.values() if built and all(engine.size for engine in built)]
    if len(whole) < len(ops):
        raise PipelineError(
            f"TensorRT built an engine for {len(whole)} of the {len(ops)} parts of the graph that it took over, so "
            "TensorFlow would run the others: see the log above for why (an operation, or too little GPU memory)",
            code="tftrt-engines-missing",
            built=len(whole),
            parts=len(ops),
        )
    if job.precision == "int8" and not all(node.attr["calibration_data"].s for node in ops):
        raise PipelineError(
            "INT8 calibration left an engine without ranges: give it more or other calibration images",
            code="tftrt-no-ranges",
            key="calibration.images",
        )
    if not options.dynamic_shapes:
        _check_batch_sizes(engines, job.batch_sizes)


def _check_batch_sizes(engines: Engines, batch_sizes: Sequence[int]) -> None:
    for name, built in engines.items():
        if missing := sorted({*batch_sizes} - {engine.batch_size for engine in built}):
            raise PipelineError(
                f"{name} holds no engine for a batch of {', '.join(map(str, missing))}: run `make repro`, which "
                "builds it anew",
                code="tftrt-batch-missing",
                engine=name,
                batch_sizes=missing,
            )


def saved_engines(path: Path) -> list[Engine]:
    """Every engine in a file of TF-TRT: records of its message TRTEngineInstance."""
    import tensorflow as tf

    instance = _instance_class()
    messages = [instance.FromString(record) for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()]
    return [
        Engine(
            tuple(tuple(dim.size for dim in shape.dim) for shape in message.input_shapes),
            len(message.serialized_engine),
        )
        for message in messages
    ]


def _instance_class() -> "type[Message]":
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
    instance: type[Message] = message_factory.GetMessageClass(pool.FindMessageTypeByName("trt.TRTEngineInstance"))
    return instance
