"""Who used the CPUs while calls were timed: raw seconds, and the shares that follow from them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Linux counts the seconds of a CPU in ticks.
TICK_S = 0.01


@dataclass(frozen=True)
class CpuUse:
    """One timed block on all CPUs that the benchmark may use, in CPU seconds but for its own length.

    `busy_s` is of all programs, `own_s` of the benchmark and its workers, `stolen_s` of other virtual machines.
    `throttled_s` is what a quota held back; None where no quota is known.
    """

    seconds: float
    cpus: int
    busy_s: float
    own_s: float
    stolen_s: float
    throttled_s: float | None


@dataclass(frozen=True)
class CpuLoad:
    """Shares of the CPU seconds that there were: taken by others, by other virtual machines among them, and held back.

    What the clock's ticks add or hide by chance is below `resolution`.
    """

    taken: float
    stolen: float
    throttled: float | None
    resolution: float

    def busy(self, limit: float) -> bool:
        """Others took more than that share, and more than chance."""
        return self.taken > max(limit, self.resolution)

    def held_back(self, limit: float) -> bool:
        """A quota took more than that share."""
        return self.throttled is not None and self.throttled > limit


def load(uses: Sequence[CpuUse]) -> CpuLoad | None:
    """Of these blocks together; None where there is nothing to tell.

    A count of ticks is wrong by up to one for each CPU and block, as often above as below: the sum of so many by about
    their root.
    """
    capacity = sum(use.seconds * use.cpus for use in uses)
    if capacity <= 0:
        return None
    stolen = sum(use.stolen_s for use in uses)
    taken = sum(use.busy_s - use.own_s for use in uses) + stolen
    throttled = [use.throttled_s for use in uses if use.throttled_s is not None]
    return CpuLoad(
        taken=_share(taken, capacity),
        stolen=_share(stolen, capacity),
        throttled=_share(sum(throttled), capacity) if throttled else None,
        resolution=TICK_S * math.sqrt(sum(use.cpus for use in uses)) / capacity,
    )


def _share(seconds: float, capacity: float) -> float:
    """From 0 to 1, whatever the ticks say of a short time."""
    return min(1.0, max(0.0, seconds / capacity))
