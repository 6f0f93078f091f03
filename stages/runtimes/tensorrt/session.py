"""Runs TensorRT engines from host to host, without TensorFlow; knows nothing of how they were built."""

from dataclasses import astuple, dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from ...contracts import codec
from ...contracts.preprocessing import Floats
from ...contracts.timing import Parts
from ...core.errors import PipelineError
from ..contract import Array, Session
from . import api, cuda
from .options import Options

# Beside the engines.
RECORD = "engines.json"
# Largest difference of a probability between a CUDA graph and the plain calls that it was recorded from.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Origin:
    """What an engine is tied to: a TensorRT and a model of GPU (TensorRT's guide, "Engine portability").

    TensorRT-RTX's engines are compiled to the GPU that they run on, and so have none.
    """

    tensorrt: str
    gpu: str | None = None
    compute_capability: str | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """All that is known, in order."""
        return tuple(filter(None, astuple(self)))

    def __str__(self) -> str:
        return " on ".join(filter(None, (self.tensorrt, self.gpu)))


@dataclass(frozen=True)
class Engines:
    """engines.json: what they were built on, their tensors, and the file that takes each batch size."""

    SCHEMA: ClassVar[int] = 1

    built_by: Origin
    form: str
    input: str
    output: str
    input_shape: tuple[int, ...]  # of one image
    engines: tuple[tuple[int, str], ...]  # smallest batch size first


class Buffers(NamedTuple):
    """Addresses of the input and output on the GPU, which all engines of a session share."""

    input: int
    output: int


class Engine:
    """One engine, ready to run batches of one size at a time."""

    def __init__(self, plan: bytes, stream: cuda.Stream, cuda_graph: bool) -> None:
        """Open the plan and make room for its activations; PipelineError if it is refused."""
        self._engine = api.opened(plan)
        self._context = api.context(self._engine, cuda_graph)
        self._stream = stream
        self._records = cuda_graph and not api.is_rtx()  # which does so itself
        self._graph: cuda.Graph | None = None
        self._size = 0
        self.bytes = len(plan) + api.activation_bytes(self._engine)
        source, result = self._names = api.names(self._engine)
        _, *self.image_shape = self._engine.get_tensor_shape(source)
        self.classes = int(self._engine.get_tensor_shape(result)[-1])

    def prepare(self, size: int, buffers: Buffers) -> None:
        """Settle on a batch size: a CUDA graph holds good for one."""
        if size == self._size:
            return
        self._size, self._graph = 0, None  # half-way through, it is ready for none
        if not self._context.set_input_shape(self._names[0], (size, *self.image_shape)):
            raise PipelineError(
                f"TensorRT refuses a batch of {size}, which the engine was not built for: run `make repro`, which "
                "builds it anew",
                code="tensorrt-batch",
                batch_size=size,
            )
        for name, address in zip(self._names, buffers, strict=True):
            self._context.set_tensor_address(name, address)
        self.execute()  # what TensorRT sets up in the first call of a shape may not be recorded
        self._stream.wait()
        self._graph = self._stream.recorded(self.execute) if self._records else None
        self._size = size

    def launch(self) -> None:
        """Start to run the layers, all at once if they were recorded."""
        (self._graph or self.execute)()

    def execute(self) -> None:
        """Start to run the layers, one call of the driver for each kernel."""
        if not self._context.execute_async_v3(self._stream.address):
            reason = api.log().take()
            raise PipelineError(
                f"TensorRT could not start the engine ({reason}): see with `nvidia-smi` whether the GPU is well",
                code="tensorrt-start",
                reason=reason,
            )

    @property
    def recorded(self) -> bool:
        """Whether `launch` starts a CUDA graph that this session recorded."""
        return self._graph is not None


class TensorRTSession(Session):
    """Engines for all batch sizes, with one input and one output on the GPU and their counterparts on the host."""

    asynchronous = on_gpu = True

    def __init__(self, folder: Path, pinned: bool, cuda_graph: bool) -> None:
        """Open every engine in the folder; PipelineError if they are not for this machine."""
        sizes, plans = read(folder)
        stream = self._stream = cuda.Stream()
        engines = {name: Engine(plan, stream, cuda_graph) for name, plan in plans.items()}
        self._engines = [(size, engines[name]) for size, name in sizes]
        self._largest, engine = self._engines[-1]
        images, answers = (self._largest, *engine.image_shape), (self._largest, engine.classes)
        self._staged = stream.host_memory(images, pinned) if pinned else None
        self._answers = stream.host_memory(answers, pinned)
        self._buffers = Buffers(*(stream.device_memory(4 * int(np.prod(shape))) for shape in (images, answers)))
        self._source, self._engine, self._count = self._answers, engine, 0
        self._answers_address = self._answers.ctypes.data

    def put(self, images: Floats) -> None:
        """Start to copy to the GPU, by way of pinned memory if there is any, to fill a batch of a measured size."""
        self._stream.wait()  # an earlier copy may still read the pinned memory
        self._count = len(images)
        if self._count > self._largest:
            raise PipelineError(
                f"a batch of {self._count} is larger than any engine (the largest takes {self._largest}): add the size "
                "to benchmark.batch_sizes and run `make repro`",
                code="batch-too-large",
                key="benchmark.batch_sizes",
                batch_size=self._count,
                largest=self._largest,
            )
        size, self._engine = next(pair for pair in self._engines if pair[0] >= self._count)
        self._engine.prepare(size, self._buffers)
        if self._staged is None:
            self._source = np.ascontiguousarray(images, np.float32)
        else:
            self._source = self._staged[: self._count]
            self._source[:] = images
        self._copy_in()

    def _copy_in(self) -> None:
        # Rows that fill a batch up hold old images, whose answers nobody reads.
        self._stream.copy_to_device(self._buffers.input, self._source.ctypes.data, self._source.nbytes)

    def _copy_out(self) -> None:
        size = 4 * self._count * self._engine.classes
        self._stream.copy_to_host(self._answers_address, self._buffers.output, size)

    def _fetch(self) -> Floats:
        self._copy_out()
        self._stream.wait()
        return self._answers[: self._count]

    def run(self) -> Array:
        """Run the engine and wait for its output, which the next call overwrites, and which ends with the session."""
        self._engine.launch()
        return self._fetch()

    def probabilities(self, output: Array) -> npt.NDArray[np.float32]:
        """A copy that is the caller's."""
        return output.copy()

    def prove(self) -> None:
        """All answers are numbers, and those of a CUDA graph are the engine's when its kernels start one by one."""
        launched = self.run().copy()
        if not np.isfinite(launched).all():
            raise PipelineError(
                f"the engine answers {launched[~np.isfinite(launched)][0]} on a batch of {self._count}: a layer leaves "
                "the range of its precision; use tensorrt-fp32",
                code="engine-not-finite",
                batch_size=self._count,
            )
        if self._engine.recorded:
            self._compare_graph(launched)

    def _compare_graph(self, launched: Floats) -> None:
        self._engine.execute()
        difference = float(np.abs(launched - self._fetch()).max())
        if not difference <= TOLERANCE:
            raise PipelineError(
                f"the CUDA graph answers {difference:.2g} away from the engine on a batch of {self._count}: set "
                "tensorrt.cuda_graph to false",
                code="cuda-graph-differs",
                key="tensorrt.cuda_graph",
                batch_size=self._count,
                difference=difference,
            )

    def gpu_peak_bytes(self) -> int | None:
        """Weights and activations of all engines, with the input and the output."""
        engine = self._engines[-1][1]
        ends = 4 * self._largest * (int(np.prod(engine.image_shape)) + engine.classes)
        return ends + sum(engine.bytes for engine in {engine for _, engine in self._engines})

    def parts_ms(self) -> Parts:
        """By CUDA events around the copies and the engine."""
        return Parts(*self._stream.timed(self._copy_in, self._engine.launch, self._copy_out))


def built_by() -> Origin:
    """What an engine that is built here and now is tied to."""
    gpu = cuda.gpu()
    return Origin(api.version(), *(() if api.is_rtx() else gpu))


def read(folder: Path) -> tuple[tuple[tuple[int, str], ...], dict[str, bytes]]:
    """Batch sizes with the plan that takes them, and the plans; PipelineError if they are damaged or of elsewhere."""
    record = codec.read(Engines, folder / RECORD)
    _check_origin(record.built_by)
    try:
        return record.engines, {name: (folder / name).read_bytes() for _, name in record.engines}
    except OSError as error:
        raise PipelineError(
            f"{folder} is damaged ({error}): run `make repro`, which builds it anew",
            code="engines-damaged",
            file=str(folder),
        ) from None


def _check_origin(there: Origin) -> None:
    here = built_by()
    if there != here:
        raise PipelineError(
            f"the engines were built by {there}, and this is {here}, and an engine runs on no other GPU and in no "
            "other version: build it here with `make repro`",
            code="engines-from-elsewhere",
            built_by=str(there),
            here=str(here),
        )


def open_session(folder: Path, precision: str, options: Options, threads: int | None) -> TensorRTSession:
    """A session on the engines in `folder`."""
    return TensorRTSession(folder, options.pinned, options.cuda_graph)
