"""What makes a measurement doubtful."""

import math
from collections.abc import Sequence

from stages.contracts.row import Doubt, GpuConditions, Speed
from stages.statistics.latency import STEADY_CV


def doubts(
    speeds: Sequence[Speed], gpu: GpuConditions | None, max_foreign_cpu: float | None = None
) -> tuple[Doubt, ...]:
    """Clocks held down, others on the GPU or on the CPUs, and medians that move too much between repeats."""
    limit = math.inf if max_foreign_cpu is None else max_foreign_cpu
    return (*_throttled(gpu), *_shared(gpu), *_busy(speeds, limit), *_held_back(speeds, limit), *_unsteady(speeds))


def _busy(speeds: Sequence[Speed], limit: float) -> list[Doubt]:
    loads = [(speed.batch_size, speed.cpu) for speed in speeds]
    return [Doubt("busy CPU", load.taken, batch_size=size) for size, load in loads if load and load.busy(limit)]


def _held_back(speeds: Sequence[Speed], limit: float) -> list[Doubt]:
    shares = [(speed.batch_size, speed.cpu.throttled) for speed in speeds if speed.cpu and speed.cpu.held_back(limit)]
    return [Doubt("CPU quota", share, batch_size=size) for size, share in shares if share]


def _throttled(gpu: GpuConditions | None) -> list[Doubt]:
    causes = gpu.throttled_states if gpu else {}
    return [Doubt("throttled", states, cause=cause) for cause, states in causes.items()]


def _unsteady(speeds: Sequence[Speed]) -> list[Doubt]:
    spreads = [(speed.batch_size, speed.latency.repeat_cv) for speed in speeds]
    return [Doubt("unsteady", cv, batch_size=size) for size, cv in spreads if cv is not None and cv > STEADY_CV]


def _shared(gpu: GpuConditions | None) -> list[Doubt]:
    return [Doubt("shared GPU", gpu.other_processes)] if gpu and gpu.other_processes else []


def words(found: Sequence[Doubt]) -> list[str]:
    """Each kind in a word or two, once, with the largest share of the CPUs that was missing."""
    largest = {kind: max(doubt.value for doubt in found if doubt.kind == kind) for kind in [one.kind for one in found]}
    shares = {"busy CPU": "taken by others", "CPU quota": "held back"}
    return [
        f"{kind} ({100 * value:.0f} % {shares[kind]})" if kind in shares else kind for kind, value in largest.items()
    ]
