import pytest

from stages.contracts.row import GpuConditions
from stages.contracts.timing import GpuState, GpuWatch
from stages.statistics.gpu_conditions import conditions, largest

COOL = GpuState(1980, 2619, 40, 120.5, ())
HOT = GpuState(1500, 2619, 88, 350.0, ("power cap", "thermal slowdown"))
SILENT = GpuState(None, None, None, None, ("power cap",))


def test_conditions_are_ranges_over_all_states_of_all_repeats() -> None:
    assert conditions([GpuWatch(1, 0, (COOL,)), GpuWatch(2, 2, (HOT, SILENT))]) == GpuConditions(
        states=3,
        sm_clock_mhz=(1500, 1980),
        memory_clock_mhz=(2619, 2619),
        temperature_c=(40, 88),
        power_w=(120.5, 350.0),
        throttled_states={"power cap": 2, "thermal slowdown": 1},
        other_processes=2,
    )


def test_what_the_driver_never_says_is_unknown() -> None:
    found = conditions([GpuWatch(None, None, (SILENT,))])
    assert found
    assert (found.sm_clock_mhz, found.power_w, found.other_processes) == (None, None, None)


@pytest.mark.parametrize(
    ("counts", "expected"), [([0, 0], 0), ([0, 3], 3), ([None, 3], 3), ([0, None], None), ([None, None], None)]
)
def test_other_processes_are_unknown_rather_than_none_if_one_repeat_does_not_know(
    counts: list[int | None], expected: int | None
) -> None:
    found = conditions([GpuWatch(1, count, (COOL,)) for count in counts])
    assert found and found.other_processes == expected


def test_a_cpu_has_no_conditions() -> None:
    assert conditions([]) is None
    assert largest([]) is largest([None]) is None
