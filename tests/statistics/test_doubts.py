from dataclasses import replace

import pytest

from stages.contracts.row import Doubt, GpuConditions, Speed
from stages.statistics.doubts import doubts
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
