"""What the NVIDIA driver tells of the GPUs, by NVML: without a CUDA context, so no measurement is disturbed."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import pynvml

# Why a clock is below what the load asks for. Idle, fixed and synchronised clocks are choices, and not listed.
THROTTLES = {
    pynvml.nvmlClocksEventReasonSwPowerCap: "power cap",
    pynvml.nvmlClocksThrottleReasonHwSlowdown: "hardware slowdown",
    pynvml.nvmlClocksEventReasonSwThermalSlowdown: "thermal slowdown",
    pynvml.nvmlClocksThrottleReasonHwThermalSlowdown: "hardware thermal slowdown",
    pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown: "power brake",
}


# NVML's own.
Handle = object
Value = TypeVar("Value")


@dataclass(frozen=True)
class State:
    """One GPU at one moment; values that its driver does not tell are None."""

    sm_clock_mhz: int | None
    memory_clock_mhz: int | None
    temperature_c: int | None
    power_w: float | None
    throttled_by: tuple[str, ...]


class Description(NamedTuple):
    """Name, compute capability and memory, which the driver may keep to itself."""

    name: str
    compute_capability: str
    memory_bytes: int | None


class Gpu:
    """One GPU, asked through NVML while `session` is open."""

    def __init__(self, handle: Handle) -> None:
        """Wrap a handle of NVML's."""
        self._handle = handle

    def describe(self) -> Description:
        """What never changes."""
        memory = self._ask(pynvml.nvmlDeviceGetMemoryInfo)
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(self._handle)
        return Description(pynvml.nvmlDeviceGetName(self._handle), f"{major}.{minor}", memory and memory.total)

    def state(self) -> State:
        """Clocks, temperature, power and what holds the clocks down, now."""
        milliwatts = self._ask(pynvml.nvmlDeviceGetPowerUsage)
        reasons = self._ask(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons) or 0
        return State(
            sm_clock_mhz=self._ask(pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_SM),
            memory_clock_mhz=self._ask(pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_MEM),
            temperature_c=self._ask(pynvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU),
            power_w=None if milliwatts is None else milliwatts / 1000,
            throttled_by=tuple(name for bit, name in THROTTLES.items() if reasons & bit),
        )

    def used_bytes(self) -> int | None:
        """Memory that all processes hold together, the driver's own share included."""
        memory = self._ask(pynvml.nvmlDeviceGetMemoryInfo)
        return None if memory is None else int(memory.used)

    def utilization_percentage(self) -> int | None:
        """Share of the last moments in which a kernel ran."""
        rates = self._ask(pynvml.nvmlDeviceGetUtilizationRates)
        return None if rates is None else int(rates.gpu)

    def processes(self) -> int | None:
        """How many processes compute on it; inside a container NVML may see none of them, not even its own."""
        found = self._ask(pynvml.nvmlDeviceGetComputeRunningProcesses)
        return None if found is None else len(found)

    def _ask(self, query: Callable[..., Value], *arguments: object) -> Value | None:
        """None where the driver does not tell, on a slice of a GPU for instance: no measurement fails for that."""
        with suppress(pynvml.NVMLError):
            return query(self._handle, *arguments)
        return None


@contextmanager
def session() -> Iterator[list[Gpu]]:
    """The GPUs that CUDA would show this process, in its order; pynvml.NVMLError where no driver answers."""
    pynvml.nvmlInit()
    try:
        yield [Gpu(handle) for handle in _visible()]
    finally:
        pynvml.nvmlShutdown()


@contextmanager
def first_gpu() -> Iterator[Gpu | None]:
    """The GPU that the runtimes use; None where there is none."""
    with ExitStack() as stack:
        try:
            gpus = stack.enter_context(session())
        except pynvml.NVMLError:
            gpus = []
        yield gpus[0] if gpus else None


def present() -> bool:
    """Whether there is a GPU that CUDA would show this process."""
    with first_gpu() as gpu:
        return gpu is not None


def driver() -> str:
    """Version of the driver; needs an open session."""
    return str(pynvml.nvmlSystemGetDriverVersion())


def _visible() -> list[Handle]:
    """Handles by CUDA_VISIBLE_DEVICES, which names indices or UUIDs, and ends at the first that does not exist."""
    every = ",".join(map(str, range(pynvml.nvmlDeviceGetCount())))
    handles = []
    for name in filter(None, (part.strip() for part in os.environ.get("CUDA_VISIBLE_DEVICES", every).split(","))):
        try:
            handles.append(_answering(name))
        except (pynvml.NVMLError_GpuIsLost, pynvml.NVMLError_NoPermission):
            continue  # the others still work
        except (pynvml.NVMLError, ValueError, OverflowError):
            break
    return handles


def _answering(name: str) -> Handle:
    """The handle of that index or UUID; NVMLError unless its GPU is there and talks to us."""
    handle = pynvml.nvmlDeviceGetHandleByIndex(int(name)) if name.lstrip("-").isdigit() else _by_uuid(name)
    pynvml.nvmlDeviceGetName(handle)
    return handle


def _by_uuid(name: str) -> Handle:
    """CUDA, unlike NVML, takes the beginning of a GPU's UUID where no other GPU's begins so; not of a slice's."""
    found = []
    for index in range(pynvml.nvmlDeviceGetCount() if name.startswith("GPU-") else 0):
        with suppress(pynvml.NVMLError):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            found += [handle] if pynvml.nvmlDeviceGetUUID(handle).startswith(name) else []
    return found[0] if len(found) == 1 else pynvml.nvmlDeviceGetHandleByUUID(name)
