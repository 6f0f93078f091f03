"""The few calls of CUDA's runtime that a TensorRT engine needs around it; knows nothing of engines."""

import ctypes
import math
import os
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ...contracts.preprocessing import Floats
from ...core.errors import PipelineError

if TYPE_CHECKING:
    from cuda.bindings.runtime import cudaGraphExec_t, cudaStream_t


# An error code of CUDA and what the call gave.
Answer = tuple[Any, ...]


def cudart() -> ModuleType:
    """The bindings of CUDA's runtime, imported late: only GPU hosts have them."""
    # As in TensorFlow: devices in the order of NVML and of the records, and only the kernels that are used.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")
    try:
        from cuda.bindings import runtime

        error, _ = runtime.cudaGetDeviceCount()
    except (ImportError, RuntimeError) as cause:  # without a driver the bindings for CUDA 11 raise, later ones do not
        raise _no_start(str(cause)) from None
    if error.value:
        raise _no_start(error.name)
    return cast(ModuleType, runtime)


def _no_start(reason: str) -> PipelineError:
    return PipelineError(
        f"CUDA does not start, which TensorRT's engines need ({reason}): see with `nvidia-smi` whether the driver "
        "answers",
        code="cuda-start",
        reason=reason,
    )


def ask(answer: Answer) -> Any:
    """What a call gave, without its error code; PipelineError names an error."""
    error, *values = answer
    if error.value:
        full = error.name == "cudaErrorMemoryAllocation"
        question = "who holds the GPU's memory" if full else "whether the GPU is well"
        raise PipelineError(
            f"CUDA answered {error.name}: see with `nvidia-smi` {question}", code="cuda", error=error.name
        )
    return values[0] if len(values) == 1 else values


def gpu() -> tuple[str, str]:
    """Name and compute capability of the GPU that this process computes on."""
    rt = cudart()
    properties = ask(rt.cudaGetDeviceProperties(ask(rt.cudaGetDevice())))
    return properties.name.decode(), f"{properties.major}.{properties.minor}"


class Graph:
    """Work that was recorded in a stream; calling it starts it there."""

    def __init__(self, rt: ModuleType, ready: "cudaGraphExec_t", stream: "cudaStream_t") -> None:
        """Hold the executable graph for as long as this lives."""
        self._rt, self._ready, self._stream = rt, ready, stream
        weakref.finalize(self, rt.cudaGraphExecDestroy, ready)

    def __call__(self) -> None:
        """Launch it."""
        ask(self._rt.cudaGraphLaunch(self._ready, self._stream))


class Stream:
    """A stream with the memory that belongs to it; all of it ends with it."""

    def __init__(self) -> None:
        """Make a stream on the current device."""
        self._rt = cudart()
        self._ends = ExitStack()
        weakref.finalize(self, self._ends.close)
        self._to_device = self._rt.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._to_host = self._rt.cudaMemcpyKind.cudaMemcpyDeviceToHost
        # Not the default one: what others do there would wait for this one, and could not be done at all while it
        # records.
        flags = self._rt.cudaStreamNonBlocking
        self.stream = self._until_end(self._rt.cudaStreamCreateWithFlags(flags), self._rt.cudaStreamDestroy)
        # TensorRT takes the bare address.
        self.address = int(self.stream)

    def _until_end(self, answer: Answer, end: Callable[[Any], object]) -> Any:
        value = ask(answer)
        self._ends.callback(end, value)
        return value

    def device_memory(self, size: int) -> int:
        """The address of so many bytes on the GPU."""
        return int(self._until_end(self._rt.cudaMalloc(size), self._rt.cudaFree))

    def host_memory(self, shape: tuple[int, ...], pinned: bool) -> Floats:
        """A float32 array, zero at first; pinned: in memory that the GPU copies without the CPU's help."""
        if not pinned:
            return np.zeros(shape, np.float32)
        address = int(self._until_end(self._rt.cudaMallocHost(4 * math.prod(shape)), self._rt.cudaFreeHost))
        array: Floats = np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_float)), shape)
        array[:] = 0
        return array

    def copy_to_device(self, target: int, source: int, size: int) -> None:
        """Start to copy so many bytes."""
        ask(self._rt.cudaMemcpyAsync(target, source, size, self._to_device, self.stream))

    def copy_to_host(self, target: int, source: int, size: int) -> None:
        """Start to copy so many bytes."""
        ask(self._rt.cudaMemcpyAsync(target, source, size, self._to_host, self.stream))

    def wait(self) -> None:
        """Until all that was started has ended."""
        ask(self._rt.cudaStreamSynchronize(self.stream))

    def recorded(self, work: Callable[[], None]) -> "Graph":
        """Record the work as a CUDA graph, which launches the whole of it at once."""
        # Thread-local: other threads may do meanwhile what may not be recorded, such as to allocate memory.
        ask(
            self._rt.cudaStreamBeginCapture(
                self.stream, self._rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
            )
        )
        try:
            work()
        finally:
            ended = self._rt.cudaStreamEndCapture(self.stream)
        graph = ask(ended)
        try:
            return Graph(self._rt, ask(self._rt.cudaGraphInstantiateWithFlags(graph, 0)), self.stream)
        finally:
            ask(self._rt.cudaGraphDestroy(graph))

    def timed(self, *steps: Callable[[], None]) -> list[float]:
        """Milliseconds of each step by CUDA events, which the GPU itself stamps."""
        events = [ask(self._rt.cudaEventCreate()) for _ in range(len(steps) + 1)]
        try:
            ask(self._rt.cudaEventRecord(events[0], self.stream))
            for step, event in zip(steps, events[1:], strict=True):
                step()
                ask(self._rt.cudaEventRecord(event, self.stream))
            self.wait()
            return [float(ask(self._rt.cudaEventElapsedTime(start, end))) for start, end in pairwise(events)]
        finally:
            for event in events:
                ask(self._rt.cudaEventDestroy(event))
