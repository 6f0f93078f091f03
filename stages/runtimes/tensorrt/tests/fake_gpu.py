"""A GPU made of host memory: CUDA's runtime and TensorRT 8.5, as far as the pipeline calls them.

Its plans hold the ONNX graph that they were built from, and its engines run it with ONNX Runtime.
"""

import ctypes
import enum
import json
import pickle
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime

CAPABILITY = (7, 5)


class Error(enum.Enum):
    cudaSuccess = 0  # noqa: N815
    cudaErrorMemoryAllocation = 2  # noqa: N815
    cudaErrorIllegalAddress = 700  # noqa: N815


class Cudart:
    """CUDA's runtime: device memory is host memory, and a stream does everything at once unless it is captured."""

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)  # noqa: N815
    cudaStreamNonBlocking = 1  # noqa: N815
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)  # noqa: N815

    def __init__(self, name: str = "NVIDIA T4") -> None:
        self.name = name
        self.memory: dict[int, Any] = {}
        self.pinned: set[int] = set()
        self.calls: list[str] = []
        self.capturing: list[Callable[[], None]] | None = None
        self.failures: dict[str, Error] = {}

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        if not name.startswith("cuda") or not callable(found):
            return found

        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            failure = self.failures.get(name)
            return (failure, *([None] * (len(found(*arguments)) - 1))) if failure else found(*arguments)

        return call

    def do(self, work: Callable[[], None]) -> None:
        """Now, or when the graph is launched."""
        work() if self.capturing is None else self.capturing.append(work)

    def _allocate(self, size: int) -> tuple[Any, ...]:
        buffer = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(buffer)] = buffer
        return Error.cudaSuccess, ctypes.addressof(buffer)

    def _free(self, address: int) -> tuple[Any, ...]:
        del self.memory[address]
        return (Error.cudaSuccess,)

    cudaMalloc = cudaMallocHost = _allocate  # noqa: N815
    cudaFree = cudaFreeHost = _free  # noqa: N815

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:  # noqa: N802
        assert flags == self.cudaStreamNonBlocking
        return Error.cudaSuccess, 7

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: int) -> tuple[Any, ...]:  # noqa: N802

        def copy() -> None:
            ctypes.memmove(target, source, size)

        self.do(copy)
        return (Error.cudaSuccess,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[Any, ...]:  # noqa: N802
        self.capturing = []
        return (Error.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[Any, ...]:  # noqa: N802
        graph, self.capturing = self.capturing, None
        return Error.cudaSuccess, graph

    def cudaGraphInstantiateWithFlags(self, graph: Any, flags: int) -> tuple[Any, ...]:  # noqa: N802
        return Error.cudaSuccess, graph

    def cudaGraphLaunch(self, graph: Any, stream: int) -> tuple[Any, ...]:  # noqa: N802
        for work in graph:
            work()
        return (Error.cudaSuccess,)

    def cudaEventCreate(self) -> tuple[Any, ...]:  # noqa: N802
        return Error.cudaSuccess, SimpleNamespace(time=0.0)

    def cudaEventRecord(self, event: Any, stream: int) -> tuple[Any, ...]:  # noqa: N802
        event.time = time.perf_counter()
        return (Error.cudaSuccess,)

    def cudaEventElapsedTime(self, start: Any, end: Any) -> tuple[Any, ...]:  # noqa: N802
        return Error.cudaSuccess, 1000 * (end.time - start.time)

    def cudaGetDevice(self) -> tuple[Any, ...]:  # noqa: N802
        return Error.cudaSuccess, 0

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]:  # noqa: N802
        major, minor = CAPABILITY
        return Error.cudaSuccess, SimpleNamespace(name=self.name.encode(), major=major, minor=minor)

    def _nothing(self, *unused: Any) -> tuple[Any, ...]:
        return (Error.cudaSuccess,)

    cudaStreamSynchronize = cudaStreamDestroy = cudaGraphDestroy = _nothing  # noqa: N815
    cudaGraphExecDestroy = cudaEventDestroy = _nothing  # noqa: N815


class Context:
    """Runs the graph of an engine, whose layers wait in the stream."""

    def __init__(self, engine: "Engine") -> None:
        self.engine, self.addresses = engine, dict[str, int]()
        self.shape: tuple[int, ...] = (0,)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self.engine.sizes
        assert low <= shape[0] <= high, f"TensorRT would refuse {shape}"
        self.shape = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        shape = self.shape  # a graph keeps that of its recording
        self.engine.trt.cudart.do(lambda: self._run(shape))
        if self.engine.trt.broken:
            self.engine.logger.log(1, "an illegal memory access was encountered")
        return not self.engine.trt.broken

    def _run(self, shape: tuple[int, ...]) -> None:
        self.engine.trt.executed += 1
        source, result = self.engine.tensors
        (answer,) = self.engine.session.run(None, {source: self._array(source, shape).copy()})
        self._array(result, answer.shape)[:] = answer

    def _array(self, name: str, shape: tuple[int, ...]) -> Any:
        pointer = ctypes.cast(self.addresses[name], ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(pointer, shape)


class Engine:
    """An engine whose inspector tells of the layers that have weights."""

    device_memory_size = 1000
    num_io_tensors = 2

    def __init__(self, trt: "TensorRT", plan: dict[str, Any], logger: Any) -> None:
        self.logger = logger
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        self.trt, self.sizes, self.model = trt, plan["sizes"], onnx.load_from_string(plan["onnx"])
        self.session = onnxruntime.InferenceSession(plan["onnx"], options, ["CPUExecutionProvider"])
        self.tensors = (self.session.get_inputs()[0].name, self.session.get_outputs()[0].name)

    def create_execution_context(self) -> Context:
        return Context(self)

    def get_tensor_name(self, place: int) -> str:
        return str(self.tensors[place])

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == self.tensors[0] else "out"

    def get_tensor_shape(self, name: str) -> list[int]:
        ends = (*self.session.get_inputs(), *self.session.get_outputs())
        (shape,) = (end.shape for end in ends if end.name == name)
        return [-1, *shape[1:]]

    def create_engine_inspector(self) -> "Engine":
        self.execution_context: Context | None = None
        return self

    def get_engine_information(self, form: str) -> str:
        constants = {constant.name: constant.data_type for constant in self.model.graph.initializer}
        quantized = {node.output[0] for node in self.model.graph.node if node.op_type == "DequantizeLinear"}
        words = {onnx.TensorProto.FLOAT: ("Float", "Row major linear FP32"), onnx.TensorProto.FLOAT16: ("Half", "FP16")}
        layers: list[Any] = ["a name alone"]
        for node in self.model.graph.node:
            if node.op_type in ("Conv", "MatMul"):
                kind, form = ("Int8", "Int8") if node.input[1] in quantized else words[constants[node.input[1]]]
                known = self.sizes[0] == self.sizes[2] or (self.execution_context and any(self.execution_context.shape))
                inputs = [{"Name": node.input[0], "Format/Datatype": form if known else "N/A due to dynamic shapes"}]
                layers.append({"Name": node.name, "Inputs": inputs, "Weights": {"Type": kind, "Count": 9}})
        return json.dumps({"Layers": layers, "Bindings": list(self.tensors)})


class TensorRT:
    """TensorRT's Python module."""

    __name__ = "tensorrt"
    float16 = "float16"
    BuilderFlag = SimpleNamespace(FP16="FP16", INT8="INT8", TF32="TF32", PREFER_PRECISION_CONSTRAINTS="PREFER")
    NetworkDefinitionCreationFlag = SimpleNamespace(EXPLICIT_BATCH=0)
    LayerType = SimpleNamespace(CONVOLUTION="Conv", MATRIX_MULTIPLY="MatMul", FULLY_CONNECTED="Gemm")
    MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    ProfilingVerbosity = SimpleNamespace(DETAILED="detailed")
    LayerInformationFormat = SimpleNamespace(JSON="json")
    TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")

    class ILogger:
        ERROR = 1

    def __init__(self, cudart: Cudart, version: str = "8.5.3.1") -> None:
        self.cudart, self.__version__ = cudart, version
        self.builds: list[SimpleNamespace] = []
        self.refuses = self.broken = False
        self.executed = 0

    def Builder(self, logger: Any) -> "Builder":  # noqa: N802
        return Builder(self, logger)

    def OnnxParser(self, network: Any, logger: Any) -> "Parser":  # noqa: N802
        return Parser(network)

    def Runtime(self, logger: Any) -> "Runtime":  # noqa: N802
        return Runtime(self, logger)


class Parser:
    """Reads operator sets up to 17, as TensorRT 8.5 does."""

    def __init__(self, network: SimpleNamespace) -> None:
        self.network = network

    def parse(self, data: bytes) -> bool:
        self.network.onnx = data
        model = onnx.load_from_string(data)
        layers = [SimpleNamespace(type=node.op_type, precision=None) for node in model.graph.node]
        self.network.num_layers, self.network.get_layer = len(layers), layers.__getitem__
        shape = [dim.dim_value or -1 for dim in model.graph.input[0].type.tensor_type.shape.dim]
        self.network.get_input = lambda place: SimpleNamespace(name=model.graph.input[place].name, shape=shape)
        self.network.layers = layers
        return bool(model.opset_import[0].version <= 17)

    def get_error(self, place: int) -> SimpleNamespace:
        return SimpleNamespace(desc=lambda: "opset 19 is not supported")


class Builder:
    """Remembers how it was asked to build."""

    def __init__(self, trt: TensorRT, logger: Any) -> None:
        self.trt, self.logger = trt, logger

    def create_network(self, flags: int) -> SimpleNamespace:
        assert flags == 1, "the batch is explicit"
        return SimpleNamespace()

    def create_optimization_profile(self) -> SimpleNamespace:
        profile = SimpleNamespace()
        profile.set_shape = lambda name, *shapes: setattr(profile, "sizes", [shape[0] for shape in shapes])
        return profile

    def create_builder_config(self) -> SimpleNamespace:
        config = SimpleNamespace(flags={"TF32"}, workspace=None, timing_cache=None)
        config.set_flag, config.clear_flag = config.flags.add, config.flags.discard
        config.set_memory_pool_limit = lambda pool, size: setattr(config, "workspace", size)
        config.add_optimization_profile = lambda profile: setattr(config, "profile", profile)
        config.get_timing_cache = lambda: config.timing_cache

        def create(content: bytes) -> SimpleNamespace | None:
            return None if content == b"damaged" else SimpleNamespace(serialize=lambda: content + b"+")

        def attach(cache: SimpleNamespace, ignore_mismatch: bool) -> bool:
            config.timing_cache = cache
            return True

        config.create_timing_cache, config.set_timing_cache = create, attach
        return config

    def build_serialized_network(self, network: SimpleNamespace, config: SimpleNamespace) -> bytes | None:
        self.trt.builds.append(SimpleNamespace(network=network, config=config))
        if self.trt.refuses:
            self.logger.log(1, "could not find any implementation for node conv1")
            return None
        return pickle.dumps({"onnx": network.onnx, "sizes": config.profile.sizes, "version": self.trt.__version__})


class Runtime:
    """Opens its own version's plans alone."""

    def __init__(self, trt: TensorRT, logger: Any) -> None:
        self.trt, self.logger = trt, logger

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        try:
            found = pickle.loads(plan)
            assert found["version"] == self.trt.__version__
        except Exception:
            self.logger.log(1, "Serialization assertion magicTagRead == kMAGIC_TAG failed")
            return None
        return Engine(self.trt, found, self.logger)


class FakeGpu:
    """Both halves, as the tests change them."""

    def __init__(self) -> None:
        self.cudart = Cudart()
        self.trt = TensorRT(self.cudart)
