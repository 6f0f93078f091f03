"""reports/selection.json: which variant to ship, and why not the others."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

SELECTION = Path("reports/selection.json")
Objective = Literal["latency", "throughput", "size", "top1"]
Verdict = Literal["within", "exceeds", "cannot tell"]
Outcome = Literal["selected", "cannot tell", "nothing within budget"]


@dataclass(frozen=True)
class Limits:
    """What a variant may cost at most; None: no limit. `p99_batch_size` is where p99 is judged."""

    max_top1_drop: float | None
    max_p99_ms: float | None
    p99_batch_size: int
    max_size_bytes: int | None
    max_peak_memory_bytes: int | None

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        limits = (self.max_top1_drop, self.max_p99_ms, self.max_size_bytes, self.max_peak_memory_bytes)
        return any(limit is not None for limit in limits)


@dataclass(frozen=True)
class Judged:
    """One variant: whether it is within budget, what its images tell of the drop, and why it was not chosen."""

    eligible: bool
    verdict: Verdict | None
    # About how many would tell.
    images_needed: int | None
    reason: str | None


@dataclass(frozen=True)
class NearestMiss:
    """Where nothing is within budget: the variant that misses it by least."""

    variant: str
    reason: str


@dataclass(frozen=True)
class Selection:
    """The question, the answer, and the sentence that gives it; `params` is the digest of the parameters asked with."""

    SCHEMA: ClassVar[int] = 1

    params: str
    objective: Objective
    batch_size: int
    budget: Limits
    outcome: Outcome
    sentence: str
    winner: str | None
    # Variants within budget that the measurements cannot tell from the winner.
    rivals: tuple[str, ...]
    nearest_miss: NearestMiss | None
    # Variants that no other beats in one of top-1, p50 and size without losing in another.
    pareto: tuple[str, ...]
    variants: dict[str, Judged]
    # The decision in a few words.
    headline: str = ""
    # SHA-256 of the summary.json that was judged; empty in records of before.
    figures: str = ""

    @property
    def mark(self) -> str:
        """What the winner is, beside its name."""
        if self.outcome == "selected":
            return "chosen"
        return "within budget" if self.budget.any else "best figure"
