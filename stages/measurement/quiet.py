"""How much of the CPUs others take while a block is timed: read before it and after it, never within."""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import psutil

from stages.contracts.cpu import CpuUse, load
from stages.core import cgroup
from stages.core.cores import allowed

STAT = Path("/proc/stat")
# Of a line of STAT, after the CPU's name: user, nice and system time. Guests are within them. Interrupts are not
# counted, since those of a GPU or a disk that the benchmark uses are its own.
BUSY = (0, 1, 2)
STOLEN = 7

Result = TypeVar("Result")
# Whose block it was: a variant's, at a batch size.
Series = tuple[str, int]


@dataclass(frozen=True)
class Reading:
    """Seconds so far: on a clock, of all CPUs that may be used, and of each of our processes by its number."""

    clock_s: float
    cpus: int
    busy_s: float
    stolen_s: float
    own_s: Mapping[int, float] = field(default_factory=dict)
    throttled_s: float | None = None


class Meter(Protocol):
    """Counts CPU seconds; tests have their own."""

    def settle(self) -> None:
        """All processes that are ours have been started."""

    def read(self) -> Reading:
        """What was counted so far."""


class CpuMeter:
    """Counts those of this machine, by Linux."""

    def __init__(self, stat: Path = STAT) -> None:
        """Of the CPUs that this process may use."""
        self._stat = stat
        self._cpus = {f"cpu{number}" for number in allowed()}
        self._tick_s = 1 / os.sysconf("SC_CLK_TCK")
        self._own = [os.getpid()]

    def settle(self) -> None:
        """Find the processes that this one has started, and those that they did."""
        self._own = [os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))]

    def read(self) -> Reading:
        """Some 0.1 ms."""
        lines = [line.split() for line in self._stat.read_text().splitlines() if line.startswith("cpu")]
        counts = [list(map(int, values)) for name, *values in lines if name in self._cpus]
        return Reading(
            clock_s=time.perf_counter(),
            cpus=len(counts),
            busy_s=self._tick_s * sum(line[place] for line in counts for place in BUSY),
            stolen_s=self._tick_s * sum(line[STOLEN] for line in counts),
            own_s=own_seconds(self._own),
            throttled_s=cgroup.throttled_s(),
        )


def own_seconds(processes: list[int]) -> dict[int, float]:
    """CPU seconds of all threads of each process that is still there, to the nanosecond, while it runs too."""
    found = {}
    for number in processes:
        with suppress(OSError):  # it has ended
            # How Linux numbers the CPU clock of a process (clock_getcpuclockid, which Python has for threads alone).
            found[number] = time.clock_gettime(~number << 3 | 2)
    return found


def meter(stat: Path = STAT) -> CpuMeter | None:
    """None where the system does not count: elsewhere than on Linux, and in sandboxes whose counters stand still."""
    try:
        found = CpuMeter(stat)
        return found if found.read().busy_s and own_seconds([os.getpid()]) else None
    except (OSError, ValueError, IndexError):
        return None


def between(before: Reading, after: Reading) -> CpuUse:
    """What happened in the time between; a process that ended or came meanwhile is not counted as ours."""
    own = sum(seconds - before.own_s[number] for number, seconds in after.own_s.items() if number in before.own_s)
    held_back = None not in (before.throttled_s, after.throttled_s)
    return CpuUse(
        seconds=after.clock_s - before.clock_s,
        cpus=after.cpus,
        busy_s=after.busy_s - before.busy_s,
        own_s=own,
        stolen_s=after.stolen_s - before.stolen_s,
        throttled_s=(after.throttled_s or 0.0) - (before.throttled_s or 0.0) if held_back else None,
    )


class Seen(NamedTuple):
    """Who used the CPUs in a block, and from the end of the block before it to its own."""

    block: CpuUse
    stretch: CpuUse


class Watch:
    """Who used the CPUs in each block, and which blocks are to be timed again; knows nothing without a meter."""

    def __init__(self, meter: Meter | None, limit: float) -> None:
        """`limit` is the share of the CPUs that others may take."""
        self._meter = meter
        self._limit = limit
        self._seen: dict[Series, list[Seen]] = defaultdict(list)
        self._retimed: dict[Series, int] = defaultdict(int)
        self._end: Reading | None = None

    def settle(self) -> None:
        """All processes that are ours have been started."""
        self._end = None
        if self._meter:
            self._meter.settle()

    def around(self, block: Callable[[], Result]) -> tuple[Result, Seen | None]:
        """What a block returns, and who used the CPUs meanwhile."""
        if self._meter is None:
            return block(), None
        before = self._meter.read()
        start, self._end = self._end or before, None
        result = block()  # nothing is known of one that fails: what its process used is gone with it
        after = self._end = self._meter.read()
        return result, Seen(between(before, after), between(start, after))

    def add(self, series: Series, seen: Seen | None) -> None:
        """One more block."""
        self._seen[series] += [seen] if seen else []

    def replace(self, series: Series, index: int, seen: Seen | None) -> bool:
        """A block that was timed again: whether it was quieter, so that it is to stand for the first one."""
        self._retimed[series] += 1
        before = self._seen[series][index]
        quieter = seen is not None and _taken(seen.block) < _taken(before.block)
        self._seen[series][index] = seen if seen and quieter else before
        return quieter

    def disturbed(self, series: Series) -> list[int]:
        """Blocks in which others took too much; where the whole series shows it, each may be too short to tell."""
        uses = self._uses(series)
        together = _busy(uses, self._limit)
        return [
            index
            for index, use in enumerate(uses)
            if _busy([use], self._limit) or (together and _taken(use) > self._limit)
        ]

    def seen(self, name: str, batch_sizes: Sequence[int]) -> dict[str, tuple[CpuUse, ...]]:
        """By batch size the blocks of a variant, in their order; nothing where nobody counts."""
        return {str(size): tuple(self._uses((name, size))) for size in batch_sizes if self._meter}

    def windows(self, names: Sequence[str], batch_sizes: Sequence[int]) -> dict[str, CpuUse]:
        """By batch size all blocks of these variants that stand, with the time between them."""
        stretches = {size: [seen.stretch for name in names for seen in self._seen[name, size]] for size in batch_sizes}
        return {str(size): _together(uses) for size, uses in stretches.items() if uses}

    def retimed(self, name: str, batch_sizes: Sequence[int]) -> dict[str, int]:
        """By batch size how many blocks of a variant were timed again, if any."""
        return {str(size): self._retimed[name, size] for size in batch_sizes if self._retimed[name, size]}

    def _uses(self, series: Series) -> list[CpuUse]:
        return [seen.block for seen in self._seen[series]]


def _together(uses: Sequence[CpuUse]) -> CpuUse:
    throttled = [use.throttled_s for use in uses if use.throttled_s is not None]
    return CpuUse(
        seconds=sum(use.seconds for use in uses),
        cpus=uses[-1].cpus,
        busy_s=sum(use.busy_s for use in uses),
        own_s=sum(use.own_s for use in uses),
        stolen_s=sum(use.stolen_s for use in uses),
        throttled_s=sum(throttled) if len(throttled) == len(uses) else None,
    )


def _busy(uses: Sequence[CpuUse], limit: float) -> bool:
    found = load(uses)
    return found is not None and found.busy(limit)


def _taken(use: CpuUse) -> float:
    found = load([use])
    return found.taken if found else 0.0
