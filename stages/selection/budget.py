"""The limits of a budget: which variants keep them, and how sure that is; facts alone."""

import math
from dataclasses import dataclass
from typing import Literal

from stages.contracts.row import Accuracy, Change, Doubt, Latency, Row
from stages.contracts.selection import Limits, Verdict
from stages.contracts.variant import BASELINE
from stages.core.errors import PipelineError
from stages.statistics.paired import images_needed

# The excess over a limit that the measurements cannot decide.
UNDECIDED = math.inf
LimitName = Literal["drop", "p99", "size", "memory"]


@dataclass(frozen=True)
class Measured:
    """What a choice compares of a variant that is ok: `latency` at one batch size, `p99` at another, best images/s."""

    name: str
    accuracy: Accuracy
    latency: Latency
    p99: Latency
    throughput_ips: float
    size_bytes: int
    peak_memory_bytes: int
    doubts: tuple[Doubt, ...]


@dataclass(frozen=True)
class Miss:
    """A limit that a variant is not known to keep; `excess` is the share of it that it is over."""

    limit: LimitName
    excess: float = UNDECIDED


@dataclass(frozen=True)
class Standing:
    """A variant against the budget; `verdict` and `images_needed` are of its drop in top-1."""

    measured: Measured
    verdict: Verdict | None
    images_needed: int | None
    misses: tuple[Miss, ...]

    @property
    def eligible(self) -> bool:
        """Whether it is known to keep every limit."""
        return not self.misses

    @property
    def undecided(self) -> bool:
        """Whether it may keep every limit, for all that was measured."""
        return all(miss.excess == UNDECIDED for miss in self.misses)

    @property
    def excess(self) -> float:
        """The largest of all limits."""
        return max((miss.excess for miss in self.misses), default=0.0)


def measured(row: Row, batch_size: int, p99_batch_size: int) -> Measured:
    """The figures of a row that is ok; PipelineError where it lacks one."""
    speed, p99_speed = row.speed(batch_size), row.speed(p99_batch_size)
    if not (row.accuracy and speed and p99_speed and row.size_bytes is not None and row.footprint):
        sizes = " or ".join(map(str, dict.fromkeys((batch_size, p99_batch_size))))
        raise PipelineError(
            f"reports/summary.json lacks a figure of {row.name} at batch {sizes}: run `make repro`, which makes it "
            "anew",
            code="figure-missing",
            variant=row.name,
            batch_size=batch_size,
            p99_batch_size=p99_batch_size,
        )
    return Measured(
        name=row.name,
        accuracy=row.accuracy,
        latency=speed.latency,
        p99=p99_speed.latency,
        throughput_ips=max(each.latency.throughput_ips for each in row.speeds),
        size_bytes=row.size_bytes,
        peak_memory_bytes=row.footprint.peak_memory_bytes,
        doubts=row.doubts,
    )


def judge(variant: Measured, limits: Limits) -> Standing:
    """Every limit that it is not known to keep."""
    verdict, needed = judge_drop(variant, limits.max_top1_drop)
    misses = (
        _drop_miss(variant.accuracy.change, verdict, limits.max_top1_drop),
        _p99_miss(variant.p99, limits.max_p99_ms),
        _bytes_miss("size", variant.size_bytes, limits.max_size_bytes),
        _bytes_miss("memory", variant.peak_memory_bytes, limits.max_peak_memory_bytes),
    )
    return Standing(variant, verdict, needed, tuple(miss for miss in misses if miss))


def judge_drop(variant: Measured, limit: float | None) -> tuple[Verdict | None, int | None]:
    """Non-inferiority: `within` or `exceeds` only where the whole score interval lies on that side of the limit.

    With it about how many images would tell, where these do not.
    """
    if limit is None:
        return None, None
    if variant.name == BASELINE.name:
        return "within", None
    change = variant.accuracy.change
    if change is None:
        return "cannot tell", None
    low, high = change.drop_ci95
    if high <= limit:
        return "within", None
    if low > limit:
        return "exceeds", None
    return "cannot tell", images_needed(change.lost, change.gained, change.images, limit)


def _drop_miss(change: Change | None, verdict: Verdict | None, limit: float | None) -> Miss | None:
    if limit is None or verdict == "within":
        return None
    if change and verdict == "exceeds":
        return Miss("drop", (change.drop - limit) / max(limit, 0.01))
    return Miss("drop")


def _p99_miss(latency: Latency, limit: float | None) -> Miss | None:
    if limit is None:
        return None
    low, high = latency.p99_ci95_ms
    if latency.p99_ms is None:
        return Miss("p99")
    if high is not None and high <= limit:
        return None
    return Miss("p99", latency.p99_ms / limit - 1) if low is not None and low > limit else Miss("p99")


def _bytes_miss(name: Literal["size", "memory"], value: int, limit: int | None) -> Miss | None:
    return None if limit is None or value <= limit else Miss(name, value / limit - 1)
