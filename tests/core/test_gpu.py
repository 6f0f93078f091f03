from collections.abc import Callable
from typing import Any

import pynvml
import pytest

from stages.core.gpu import Gpu, State, first_gpu, session


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver with two GPUs, of which one has a slice, and handles are their UUIDs."""
    uuids = ["GPU-aa", "GPU-bb"]

    def by_index(index: int) -> str:
        if not 0 <= index < len(uuids):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return uuids[index]

    def by_uuid(uuid: str) -> str:
        if uuid not in (*uuids, "MIG-cc"):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return uuid

    for name, answer in {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: len(uuids),
        "nvmlDeviceGetHandleByIndex": by_index,
        "nvmlDeviceGetHandleByUUID": by_uuid,
        "nvmlDeviceGetUUID": lambda handle: handle,
        "nvmlDeviceGetName": lambda handle: handle,
        "nvmlDeviceGetCudaComputeCapability": lambda handle: (9, 0),
        "nvmlDeviceGetMemoryInfo": lambda handle: type("Memory", (), {"total": 80, "used": 5}),
    }.items():
        monkeypatch.setattr(pynvml, name, answer)


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        (None, ["GPU-aa", "GPU-bb"]),
        ("1,0", ["GPU-bb", "GPU-aa"]),
        (" 1 ", ["GPU-bb"]),
        ("GPU-bb", ["GPU-bb"]),
        ("0,7,1", ["GPU-aa"]),  # CUDA stops at the first that does not exist
        ("-1", []),
        ("", []),
        ("GPU-cc", []),
        ("GPU-b,GPU-aa", ["GPU-bb", "GPU-aa"]),  # a prefix will do
        ("GPU-", []),  # unless it is that of two
        ("0,GPU-", ["GPU-aa"]),
        ("G", []),
        ("MIG-cc", ["MIG-cc"]),
        ("MIG-c", []),
    ],
)
def test_the_gpus_are_those_that_cuda_shows(
    driver: None, monkeypatch: pytest.MonkeyPatch, visible: str | None, found: list[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with session() as gpus:
        assert [gpu.describe().name for gpu in gpus] == found
    with first_gpu() as gpu:
        assert (gpu and gpu.describe().name) == (found[0] if found else None)


REFUSALS = {"not supported": pynvml.NVML_ERROR_NOT_SUPPORTED, "no permission": pynvml.NVML_ERROR_NO_PERMISSION}


def refuse(code: int) -> Callable[..., None]:
    def answer(*_: Any) -> None:
        raise pynvml.NVMLError(code)

    return answer


def lost(working: Callable[[Any], Any], code: int) -> Callable[[Any], Any]:
    """The query, but of the first GPU."""
    return lambda which: refuse(code)() if which in (0, "GPU-aa") else working(which)


@pytest.mark.parametrize("code", REFUSALS.values(), ids=REFUSALS)
def test_a_gpu_that_keeps_its_memory_to_itself_is_still_one(
    driver: None, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", refuse(code))
    with session() as gpus:
        assert [gpu.describe() for gpu in gpus] == [("GPU-aa", "9.0", None), ("GPU-bb", "9.0", None)]
        assert gpus[0].used_bytes() is None


@pytest.mark.parametrize("visible", [None, "0,1", "GPU-aa,GPU-bb"])
@pytest.mark.parametrize("query", ["nvmlDeviceGetHandleBy", "nvmlDeviceGetName"])
@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_NO_PERMISSION])
def test_a_gpu_that_is_lost_or_kept_from_us_does_not_hide_the_other(
    driver: None, monkeypatch: pytest.MonkeyPatch, visible: str | None, query: str, code: int
) -> None:
    for name in ("nvmlDeviceGetHandleByIndex", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetName"):
        if name.startswith(query):
            monkeypatch.setattr(pynvml, name, lost(getattr(pynvml, name), code))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with session() as gpus:
        assert [gpu.describe().name for gpu in gpus] == ["GPU-bb"]


def test_a_gpu_that_is_lost_while_it_is_watched_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = refuse(pynvml.NVML_ERROR_GPU_IS_LOST)
    for name in (name for name in vars(pynvml) if name.startswith("nvmlDeviceGet")):
        monkeypatch.setattr(pynvml, name, lost)
    gpu = Gpu("handle")
    assert gpu.state() == State(None, None, None, None, ())
    assert (gpu.used_bytes(), gpu.processes(), gpu.utilization_percentage()) == (None, None, None)


def test_without_a_driver_there_is_no_first_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    with first_gpu() as gpu:
        assert gpu is None


def state(monkeypatch: pytest.MonkeyPatch, reasons: int, **unsupported: Any) -> State:
    answers = {
        "nvmlDeviceGetPowerUsage": lambda handle: 250_000,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda handle: reasons,
        "nvmlDeviceGetClockInfo": lambda handle, kind: 1980 if kind == pynvml.NVML_CLOCK_SM else 2619,
        "nvmlDeviceGetTemperature": lambda handle, kind: 41,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, refuse(pynvml.NVML_ERROR_NOT_SUPPORTED) if name in unsupported else answer)
    return Gpu("handle").state()


IDLE = pynvml.nvmlClocksEventReasonGpuIdle


def test_a_state_has_its_units_and_an_idle_gpu_is_not_throttled(monkeypatch: pytest.MonkeyPatch) -> None:
    assert state(monkeypatch, IDLE) == State(1980, 2619, 41, 250.0, ())


def test_what_holds_the_clocks_down_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    both = pynvml.nvmlClocksEventReasonSwPowerCap | pynvml.nvmlClocksEventReasonSwThermalSlowdown
    assert state(monkeypatch, both | IDLE).throttled_by == ("power cap", "thermal slowdown")


def test_what_the_driver_does_not_tell_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = {"nvmlDeviceGetPowerUsage": True, "nvmlDeviceGetCurrentClocksThrottleReasons": True}
    assert state(monkeypatch, IDLE, **silent) == State(1980, 2619, 41, None, ())


def test_utilization_is_known_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUtilizationRates", lambda handle: type("Rates", (), {"gpu": 71}))
    assert Gpu("handle").utilization_percentage() == 71
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUtilizationRates", refuse(pynvml.NVML_ERROR_NOT_SUPPORTED))
    assert Gpu("handle").utilization_percentage() is None
