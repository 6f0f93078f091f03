"""What the GPU did while a variant was timed: clocks, temperature, power, and what held the clocks down."""

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from stages.contracts.row import GpuConditions
from stages.contracts.timing import GpuState, GpuWatch

Number = TypeVar("Number", int, float)


def conditions(watches: Sequence[GpuWatch]) -> GpuConditions | None:
    """Over all states of all repeats; None for a variant on the CPU."""
    if not watches:
        return None
    states = [state for watch in watches for state in watch.states]
    return GpuConditions(
        states=len(states),
        sm_clock_mhz=_range([state.sm_clock_mhz for state in states]),
        memory_clock_mhz=_range([state.memory_clock_mhz for state in states]),
        temperature_c=_range([state.temperature_c for state in states]),
        power_w=_range([state.power_w for state in states]),
        throttled_states=_throttled(states),
        other_processes=_other_processes([watch.other_processes for watch in watches]),
    )


def largest(values: Sequence[int | None]) -> int | None:
    """Of those that are known."""
    return max((value for value in values if value is not None), default=None)


def _range(values: Sequence[Number | None]) -> tuple[Number, Number] | None:
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known else None


def _throttled(states: Sequence[GpuState]) -> dict[str, int]:
    causes = Counter(cause for state in states for cause in state.throttled_by)
    return dict(sorted(causes.items()))


def _other_processes(counts: Sequence[int | None]) -> int | None:
    """The largest count: unknown, rather than 0, if one repeat does not know."""
    return largest(counts) or (None if None in counts else 0)
