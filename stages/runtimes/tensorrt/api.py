"""Builds, opens and describes TensorRT engines; here alone it is known how 8.5, 10, 11 and TensorRT-RTX differ."""

import importlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from ...core.errors import PipelineError
from .options import Options

if TYPE_CHECKING:
    import tensorrt as trt

# Under which names TensorRT and TensorRT-RTX may be installed; the wheels' bindings do without the package around them.
MODULES = ("tensorrt", "tensorrt_bindings", "tensorrt_rtx", "tensorrt_rtx_bindings")


class Sizes(NamedTuple):
    """The batch sizes that one engine takes, and the one it is tuned for."""

    smallest: int
    tuned: int
    largest: int

    def take(self, size: int) -> bool:
        """Whether the engine takes that batch."""
        return self.smallest <= size <= self.largest


@dataclass(frozen=True)
class Plan:
    """What one build gave."""

    engine: bytes
    timing_cache: bytes


def module() -> ModuleType:
    """TensorRT's Python module; PipelineError if none is installed or its libraries do not load."""
    name = next((name for name in MODULES if importlib.util.find_spec(name)), None)
    if name is None:
        raise PipelineError(
            "TensorRT's Python module is not installed: see what is missing by `python -m stages env check`",
            code="tensorrt-missing",
        )
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise PipelineError(
            f"TensorRT's module {name} does not load ({error}): see what its environment "
            "lacks by `python -m stages env check`",
            code="tensorrt-load",
            module=name,
        ) from None


def is_rtx() -> bool:
    """Whether it is TensorRT-RTX, which compiles its kernels on the GPU that it runs on."""
    return "rtx" in module().__name__


def version() -> str:
    """Which TensorRT this is, in words that no other one has."""
    return f"{'TensorRT-RTX' if is_rtx() else 'TensorRT'} {module().__version__}"


def strongly_typed() -> bool:
    """Whether layers compute in the types of the graph, as from TensorRT 10 on, or in those that flags allow."""
    return hasattr(module().NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


class Log:
    """What TensorRT reports while it builds, opens or runs: errors are for the user's sentence, the rest for nobody."""

    def __init__(self) -> None:
        """Listen."""
        trt = module()
        errors = self._errors = list[str]()

        class Listener(trt.ILogger):  # type: ignore[misc, name-defined]
            def log(self, severity: Any, message: str) -> None:
                if severity <= trt.ILogger.ERROR:
                    errors.append(message)

        self.listener = Listener()

    def take(self) -> str:
        """The first error since the last call of this, which later ones follow from."""
        first, *_ = [*self._errors, "it gave no reason"]
        self._errors.clear()
        return first.strip()


@cache
def log() -> Log:
    """One for the process: older versions keep the first logger that they get (NVIDIA/TensorRT#1475)."""
    return Log()


def build(typed: Path, precision: str, sizes: Sizes, options: Options, timing_cache: bytes) -> Plan:
    """Build an engine from an ONNX graph that has its precision in it; PipelineError says why there is none."""
    log().take()  # earlier errors are not about this
    builder = module().Builder(log().listener)
    network, parser = _network(builder, typed)
    config = _config(builder, options)
    if not strongly_typed():
        _allow(config, network, precision)
    config.add_optimization_profile(_profile(builder, network, sizes))
    if not is_rtx():  # which chooses kernels where it runs
        _start_from(config, timing_cache)
    engine = builder.build_serialized_network(network, config)
    del parser  # until here it holds the weights
    if engine is None:
        reason = log().take()
        raise PipelineError(
            f"TensorRT built no engine for a batch of {sizes.largest} ({reason}): free GPU memory, or try another "
            "TensorRT (docs/how-to/tensorrt-versions.md)",
            code="tensorrt-build",
            batch_size=sizes.largest,
            reason=reason,
        )
    return Plan(bytes(engine), b"" if is_rtx() else bytes(config.get_timing_cache().serialize()))


def _network(builder: "trt.Builder", typed: Path) -> "tuple[trt.INetworkDefinition, trt.OnnxParser]":
    """The graph as TensorRT reads it, and what holds its weights."""
    trt = module()
    mode = "STRONGLY_TYPED" if strongly_typed() else "EXPLICIT_BATCH"
    network = builder.create_network(1 << int(getattr(trt.NetworkDefinitionCreationFlag, mode)))
    parser = trt.OnnxParser(network, log().listener)
    if not parser.parse(typed.read_bytes()):
        reason = parser.get_error(0).desc()
        raise PipelineError(
            f"TensorRT cannot read the ONNX graph {typed.name} ({reason}): try another TensorRT "
            "(docs/how-to/tensorrt-versions.md)",
            code="tensorrt-graph",
            file=typed.name,
            reason=reason,
        )
    return network, parser


def _config(builder: "trt.Builder", options: Options) -> "trt.IBuilderConfig":
    trt = module()
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the inspector tells types and weights of such alone
    (config.set_flag if options.tf32 else config.clear_flag)(trt.BuilderFlag.TF32)
    if options.max_workspace_mib:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.max_workspace_mib << 20)
    return config


def _start_from(config: "trt.IBuilderConfig", content: bytes) -> None:
    """Use what earlier builds learned, or nothing if TensorRT refuses it, as it does a damaged file."""
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _allow(config: "trt.IBuilderConfig", network: "trt.INetworkDefinition", precision: str) -> None:
    """TensorRT 8.5 computes in FP32 whatever the graph says, unless flags allow less, and layers ask for it."""
    if precision == "fp32":
        return
    trt = module()
    config.set_flag(trt.BuilderFlag.FP16)  # also for what Q/DQ pairs leave in float
    if precision == "int8":
        config.set_flag(trt.BuilderFlag.INT8)
        return
    config.set_flag(trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)
    weighted = {trt.LayerType.CONVOLUTION, trt.LayerType.MATRIX_MULTIPLY, trt.LayerType.FULLY_CONNECTED}
    for layer in map(network.get_layer, range(network.num_layers)):
        if layer.type in weighted:
            layer.precision = trt.float16


def _profile(builder: "trt.Builder", network: "trt.INetworkDefinition", sizes: Sizes) -> "trt.IOptimizationProfile":
    profile, images = builder.create_optimization_profile(), network.get_input(0)
    profile.set_shape(images.name, *((size, *tuple(images.shape)[1:]) for size in sizes))
    return profile


def opened(plan: bytes) -> "trt.ICudaEngine":
    """The engine; PipelineError if this TensorRT on this GPU refuses the plan."""
    log().take()  # earlier errors are not about this
    engine = module().Runtime(log().listener).deserialize_cuda_engine(plan)
    if engine is None:
        reason = log().take()
        raise PipelineError(
            f"{version()} refuses the engine: {reason}; build it here with `make repro`",
            code="tensorrt-refused",
            version=version(),
            reason=reason,
        )
    return engine


def context(engine: "trt.ICudaEngine", cuda_graph: bool = False) -> "trt.IExecutionContext":
    """What runs the engine; PipelineError if there is no room for it."""
    ready = _context_of_rtx(engine, cuda_graph) if is_rtx() else engine.create_execution_context()
    if ready is None:
        reason = log().take()
        raise PipelineError(
            f"TensorRT cannot run the engine ({reason}): see with `nvidia-smi` who holds the GPU's memory",
            code="tensorrt-context",
            reason=reason,
        )
    return ready


def _context_of_rtx(engine: "trt.ICudaEngine", cuda_graph: bool) -> "trt.IExecutionContext":
    """TensorRT-RTX records CUDA graphs itself, and here compiles its kernels before it runs.

    A graph recorded earlier would keep the slow ones that stand in for them.
    """
    trt, config = module(), engine.create_runtime_config()
    strategies = trt.DynamicShapesKernelSpecializationStrategy, trt.CudaGraphStrategy
    config.dynamic_shapes_kernel_specialization_strategy = strategies[0].EAGER
    config.cuda_graph_strategy = strategies[1].WHOLE_GRAPH_CAPTURE if cuda_graph else strategies[1].DISABLED
    return engine.create_execution_context(config)


def names(engine: "trt.ICudaEngine") -> tuple[str, str]:
    """Names of the only input and the only output."""
    both = [engine.get_tensor_name(place) for place in range(engine.num_io_tensors)]
    (source,) = (name for name in both if engine.get_tensor_mode(name) == module().TensorIOMode.INPUT)
    (result,) = (name for name in both if name != source)
    return source, result


def activation_bytes(engine: "trt.ICudaEngine") -> int:
    """GPU memory that one execution of the engine needs between its layers."""
    return int(engine.device_memory_size_v2 if hasattr(engine, "device_memory_size_v2") else engine.device_memory_size)


def information(engine: "trt.ICudaEngine", batch_size: int) -> str:
    """What the engine inspector knows, as JSON; of an engine for several sizes it knows the formats at one."""
    source, _ = names(engine)
    inspected, inspector = context(engine), engine.create_engine_inspector()
    inspected.set_input_shape(source, (batch_size, *tuple(engine.get_tensor_shape(source))[1:]))
    inspector.execution_context = inspected
    return str(inspector.get_engine_information(module().LayerInformationFormat.JSON))
