"""What makes a measurement doubtful."""

from collections.abc import Sequence

from stages.contracts.row import Doubt, GpuConditions, Speed
from stages.statistics.latency import STEADY_CV


def doubts(speeds: Sequence[Speed], gpu: GpuConditions | None) -> tuple[Doubt, ...]:
    """Clocks held down, others on the GPU, and medians that move too much between repeats."""
    return (*_throttled(gpu), *_shared(gpu), *_unsteady(speeds))


def _throttled(gpu: GpuConditions | None) -> list[Doubt]:
    causes = gpu.throttled_states if gpu else {}
    return [Doubt("throttled", states, cause=cause) for cause, states in causes.items()]


def _unsteady(speeds: Sequence[Speed]) -> list[Doubt]:
    spreads = [(speed.batch_size, speed.latency.repeat_cv) for speed in speeds]
    return [Doubt("unsteady", cv, batch_size=size) for size, cv in spreads if cv is not None and cv > STEADY_CV]


def _shared(gpu: GpuConditions | None) -> list[Doubt]:
    return [Doubt("shared GPU", gpu.other_processes)] if gpu and gpu.other_processes else []
