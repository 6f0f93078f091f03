from dataclasses import replace

import pytest

from stages.contracts.cpu import CpuLoad
from stages.contracts.row import Doubt, GpuConditions, Speed
from stages.statistics.doubts import doubts, words
from stages.statistics.latency import STEADY_CV, summarize

STEADY = summarize([[[1.0, 1.0]] * 2], 1)
CALM = GpuConditions(4, None, None, None, None, {}, 0)


def speed(batch_size: int, cv: float | None) -> Speed:
    return Speed(batch_size, 1.0, replace(STEADY, repeat_cv=cv), STEADY)


def test_a_steady_measurement_alone_on_its_device_has_no_doubts() -> None:
    assert doubts([speed(1, None), speed(8, STEADY_CV)], CALM) == ()
    assert doubts([speed(1, None)], None) == doubts([], None) == ()


def test_every_doubt_comes_with_its_value_and_cause() -> None:
    gpu = replace(CALM, throttled_states={"power cap": 3, "thermal slowdown": 1}, other_processes=2)
    assert doubts([speed(1, 0.01), speed(8, 0.07)], gpu) == (
        Doubt("throttled", 3, cause="power cap"),
        Doubt("throttled", 1, cause="thermal slowdown"),
        Doubt("shared GPU", 2),
        Doubt("unsteady", 0.07, batch_size=8),
    )


@pytest.mark.parametrize("others", [None, 0])
def test_no_other_process_or_none_that_is_known_is_no_doubt(others: int | None) -> None:
    assert doubts([], replace(CALM, other_processes=others)) == ()


def loaded(batch_size: int, taken: float, throttled: float | None = None) -> Speed:
    return replace(speed(batch_size, None), cpu=CpuLoad(taken, 0.0, throttled, resolution=0.01))


def test_a_busy_cpu_and_a_quota_are_doubts_with_the_share_that_was_missing() -> None:
    speeds = [loaded(1, 0.48), loaded(8, 0.05, throttled=0.2), speed(16, None)]
    assert doubts(speeds, None, 0.05) == (
        Doubt("busy CPU", 0.48, batch_size=1),
        Doubt("CPU quota", 0.2, batch_size=8),
    )
    assert doubts(speeds, None, 0.5) == ()


def test_nobody_judges_an_old_record_that_has_no_limit() -> None:
    assert doubts([loaded(1, 0.48, throttled=0.9)], None) == ()


def test_every_kind_is_named_once_with_the_largest_share() -> None:
    found = [
        Doubt("throttled", 3, "power cap"), Doubt("busy CPU", 0.07, None, 1), Doubt("busy CPU", 0.48, None, 8),
        Doubt("CPU quota", 0.2, None, 8), Doubt("unsteady", 0.3, None, 1), Doubt("unsteady", 0.1, None, 8),
    ]  # fmt: skip
    assert words(found) == ["throttled", "busy CPU (48 % taken by others)", "CPU quota (20 % held back)", "unsteady"]
    assert words([]) == []
