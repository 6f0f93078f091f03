"""Runs TensorRT engines from host to host, without TensorFlow; knows nothing of how they were built."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.common import files
from stages.common.errors import PipelineError
from stages.common.images import Floats
from stages.runtimes import cuda, tensorrt_api
from stages.runtimes.protocol import PARTS, Session

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
        self._engine, self._log = tensorrt_api.opened(plan)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise PipelineError(
                "TensorRT found no GPU memory to run the engine: set fewer or smaller benchmark.batch_sizes"
            )
        self._stream = stream
        self._cuda_graph = cuda_graph
        self._size = 0
        self.bytes = len(plan) + tensorrt_api.activation_bytes(self._engine)
        source, result = self._names = tensorrt_api.names(self._engine)
        _, *self.image_shape = self._engine.get_tensor_shape(source)
        self.classes = int(self._engine.get_tensor_shape(result)[-1])
        self.launch: Callable[[], None] = self.execute

    def prepare(self, size: int, buffers: Buffers) -> None:
        """Settle on a batch size: a CUDA graph holds good for one."""
        if size == self._size:
            return
        if not self._context.set_input_shape(self._names[0], (size, *self.image_shape)):
            raise PipelineError(f"TensorRT refuses a batch of {size}, which the engine was not built for")
        for name, address in zip(self._names, buffers, strict=True):
            self._context.set_tensor_address(name, address)
        self._size = size
        self.execute()  # what TensorRT sets up in the first call of a shape may not be recorded
        self._stream.wait()
        self.launch = self._stream.recorded(self.execute) if self._cuda_graph else self.execute

    def execute(self) -> None:
        """Start to run the layers, one call of the driver for each kernel."""
        if not self._context.execute_async_v3(self._stream.address):
            raise PipelineError(f"TensorRT could not start the engine: {self._log.told()}")


class TensorRTSession(Session):
    """Engines for all batch sizes, with one input and one output on the GPU and their counterparts on the host."""

    asynchronous = on_gpu = True

    def __init__(self, folder: Path, pinned: bool, cuda_graph: bool) -> None:
        """Open every engine in the folder; PipelineError if they are not for this machine."""
        record = files.read_json(folder / RECORD)
        check_origin(record["built_by"], built_by())
        stream = self._stream = cuda.Stream()
        plans = dict.fromkeys(name for _, name in record["engines"])
        opened = {name: Engine((folder / name).read_bytes(), stream, cuda_graph) for name in plans}
        self._engines = [(int(size), opened[name]) for size, name in record["engines"]]
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
        self._source = np.ascontiguousarray(images)
        if self._staged is not None:
            self._staged[: self._count] = images
            self._source = self._staged[: self._count]
        self._copy_in()

    def _copy_in(self) -> None:
        # Rows that fill a batch up hold old images, whose answers nobody reads.
        self._stream.copy_to_device(self._buffers.input, self._source.ctypes.data, self._source.nbytes)

    def _copy_out(self) -> None:
        size = 4 * self._count * self._engine.classes
        self._stream.copy_to_host(self._answers_address, self._buffers.output, size)

    def run(self) -> npt.NDArray[Any]:
        """Run the engine and wait for its output, which the next call overwrites."""
        self._engine.launch()
        self._copy_out()
        self._stream.wait()
        return self._answers[: self._count]

    def probabilities(self, output: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """A copy that is the caller's."""
        return output.copy()

    def verify(self) -> None:
        """What a CUDA graph answers is what the engine answers when its kernels are started one by one."""
        launched = self.run().copy()
        self._engine.execute()
        self._copy_out()
        self._stream.wait()
        plain = self._answers[: self._count]
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
        times = self._stream.timed(self._copy_in, lambda: self._engine.launch(), self._copy_out)
        return dict(zip(PARTS, times, strict=True))


def built_by() -> dict[str, str]:
    """What an engine is tied to: this TensorRT and this model of GPU (TensorRT's guide, "Engine portability")."""
    return {"tensorrt": tensorrt_api.version()} | cuda.gpu()


def check_origin(theirs: dict[str, str], ours: dict[str, str]) -> None:
    """PipelineError unless engines and machine are of one kind."""
    if theirs != ours:
        there, here = (f"{one['tensorrt']} on {one['name']} ({one['compute_capability']})" for one in (theirs, ours))
        raise PipelineError(
            f"the engines were built by {there}, and this is {here}: an engine runs on no other GPU and in no other "
            "version, so build it here with `make repro`"
        )
