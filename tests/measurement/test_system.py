import signal
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from stages.contracts.system import Sample, read, write
from stages.measurement import system


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "PERIOD_S", 0.02)


def spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_work_shows_in_samples_from_its_beginning_to_its_end(quick: None, tmp_path: Path) -> None:
    before = time.time() * 1000
    with system.watched(tmp_path / "found.csv"):
        spin(0.5)
    samples = read(tmp_path / "found.csv")
    times = [sample.time_ms for sample in samples]
    assert len(samples) > 3 and times == sorted(times)
    assert before - 1 <= times[0] and times[-1] <= time.time() * 1000
    assert times[-1] - times[0] > 300
    assert max(sample.cpu_utilization_percentage or 0 for sample in samples) > 0
    assert all((sample.system_memory_usage_megabytes or 0) > 50 for sample in samples)


def test_work_shorter_than_a_period_has_one_sample(tmp_path: Path) -> None:
    with system.watched(tmp_path / "found.csv"):
        pass
    assert len(read(tmp_path / "found.csv")) == 1


def test_work_that_fails_keeps_its_samples_and_no_thread(quick: None, tmp_path: Path) -> None:
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="out of memory"), system.watched(tmp_path / "found.csv"):
        raise RuntimeError("out of memory")
    assert read(tmp_path / "found.csv")
    assert threading.active_count() == before


def test_ctrl_c_is_left_to_the_main_thread(tmp_path: Path) -> None:
    before = threading.enumerate()
    with system.watched(tmp_path / "found.csv"):
        (watcher,) = [thread for thread in threading.enumerate() if thread not in before]
        time.sleep(0.1)
        status = Path(f"/proc/self/task/{watcher.native_id}/status").read_text()
        blocked = int(next(line for line in status.splitlines() if line.startswith("SigBlk")).split()[1], 16)
        assert blocked >> (signal.SIGINT - 1) & 1


def test_a_gpu_is_watched_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gpu = SimpleNamespace(
        utilization_percentage=lambda: 71, used_bytes=lambda: 2_500_000, state=lambda: SimpleNamespace(power_w=None)
    )
    monkeypatch.setattr(system, "first_gpu", lambda: nullcontext(gpu))
    with system.watched(tmp_path / "found.csv"):
        pass
    (sample,) = read(tmp_path / "found.csv")
    assert (sample.gpu_0_utilization_percentage, sample.gpu_0_memory_usage_megabytes) == (71, 2.5)
    assert sample.gpu_0_power_usage_watts is None


def test_gpu_memory_that_nvml_does_not_tell_is_an_empty_cell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    silent = SimpleNamespace(
        utilization_percentage=lambda: 71, used_bytes=lambda: None, state=lambda: SimpleNamespace(power_w=9.0)
    )
    monkeypatch.setattr(system, "first_gpu", lambda: nullcontext(silent))
    with system.watched(tmp_path / "found.csv"):
        pass
    (sample,) = read(tmp_path / "found.csv")
    assert (sample.gpu_0_memory_usage_megabytes, sample.gpu_0_power_usage_watts) == (None, 9)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    samples = [Sample(1, 2.0, 3.5, None, None, None), Sample(2, 0.0, 3.5, 99.0, 1.0, 250.5)]
    write(samples, tmp_path / "found.csv")
    assert read(tmp_path / "found.csv") == samples
    (tmp_path / "empty.csv").touch()
    assert read(tmp_path / "missing.csv") == read(tmp_path / "empty.csv") == []
