"""Runs TensorRT engines from host to host, without TensorFlow; knows nothing of how they were built."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..contracts.preprocessing import Floats
from ..core import files
from ..core.errors import PipelineError
from . import cuda
from . import tensorrt_api as api
from .contract import PARTS, Session

# Beside the engines: what they were built on, and which batch sizes each takes.
RECORD = "engines.json"
# Largest difference of a probability between a CUDA graph and the plain calls that it was recorded from.
TOLERANCE = 1e-3


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
        self._records = cuda_graph and not api.is_rtx()
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
            raise PipelineError(f"TensorRT refuses a batch of {size}, which the engine was not built for")
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
            raise PipelineError(f"TensorRT could not start the engine: {api.log().told()}")

    @property
    def recorded(self) -> bool:
        """Whether `launch` starts a CUDA graph of this session's own."""
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
                "to benchmark.batch_sizes and run `make repro`"
            )
        size, self._engine = next(found for found in self._engines if found[0] >= self._count)
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

    def run(self) -> npt.NDArray[Any]:
        """Run the engine and wait for its output, which the next call overwrites, and which ends with the session."""
        self._engine.launch()
        return self._fetch()

    def probabilities(self, output: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """A copy that is the caller's."""
        return output.copy()

    def verify(self) -> None:
        """All answers are numbers, and those of a CUDA graph are the engine's when its kernels start one by one."""
        launched = self.run().copy()
        if not np.isfinite(launched).all():
            raise PipelineError(
                f"the engine answers {launched[~np.isfinite(launched)][0]} on a batch of {self._count}: a layer leaves "
                "the range of its precision; use tensorrt-fp32"
            )
        if not self._engine.recorded:
            return
        self._engine.execute()
        plain = self._fetch()
        if not np.allclose(launched, plain, rtol=0, atol=TOLERANCE):
            raise PipelineError(
                f"the CUDA graph answers {np.abs(launched - plain).max():.2g} away from the engine on a batch of "
                f"{self._count}: set tensorrt.cuda_graph to false"
            )

    def gpu_peak_bytes(self) -> int | None:
        """Weights and activations of all engines, with the input and the output."""
        engine = self._engines[-1][1]
        ends = 4 * self._largest * (int(np.prod(engine.image_shape)) + engine.classes)
        return ends + sum(engine.bytes for engine in {engine for _, engine in self._engines})

    def parts_ms(self) -> dict[str, float] | None:
        """By CUDA events around the copies and the engine."""
        times = self._stream.timed(self._copy_in, self._engine.launch, self._copy_out)
        return dict(zip(PARTS, times, strict=True))


def built_by() -> dict[str, str]:
    """What an engine is tied to: this TensorRT and this model of GPU (TensorRT's guide, "Engine portability").

    TensorRT-RTX's engines are compiled to the GPU that they run on.
    """
    gpu = cuda.gpu()
    return {"tensorrt": api.version()} | ({} if api.is_rtx() else gpu)


def read(folder: Path) -> tuple[list[tuple[int, str]], dict[str, bytes]]:
    """Batch sizes with the plan that takes them, and the plans; PipelineError if they are damaged or of elsewhere."""
    record = files.read_json(folder / RECORD)
    try:
        theirs, sizes = dict(record["built_by"]), [(int(size), str(name)) for size, name in record["engines"]]
        plans = {name: (folder / name).read_bytes() for _, name in sizes}
    except (LookupError, TypeError, ValueError, OSError) as error:
        raise PipelineError(f"{folder} is damaged ({error!r}): run `make repro`, which builds it anew") from None
    ours = built_by()
    if theirs != ours:
        there, here = (
            " on ".join([one["tensorrt"], *([one["name"]] if "name" in one else [])]) for one in (theirs, ours)
        )
        raise PipelineError(
            f"the engines were built by {there}, and this is {here}: an engine runs on no other GPU and in no other "
            "version, so build it here with `make repro`"
        )
    return sizes, plans
