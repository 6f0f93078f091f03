"""The best variant within budget, its rivals, the Pareto line and the nearest miss; facts alone."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache

from stages.contracts import predictions
from stages.contracts.evaluation import predictions_path
from stages.contracts.predictions import Predictions
from stages.contracts.row import Interval, Summary
from stages.contracts.selection import Limits, Objective, Outcome
from stages.core.errors import PipelineError
from stages.params.choice import Budget, SelectParams
from stages.selection.budget import Measured, Standing, judge, measured
from stages.statistics import paired

# What these compare are times, which a disturbed measurement makes doubtful; accuracies and sizes it does not.
TIMED: tuple[Objective, ...] = ("latency", "throughput")
# Of a variant, by its name.
Answers = Callable[[str], Predictions]


@dataclass(frozen=True)
class Question:
    """What is best, at which batch size, and within which limits."""

    objective: Objective
    batch_size: int
    limits: Limits


@dataclass(frozen=True)
class Pick:
    """The best of some variants; where measurements cannot tell it from others, the smallest that is not doubtful."""

    winner: Measured
    # Those that cannot be told from the one with the best figure, in the order of their figures.
    rivals: tuple[str, ...] = ()
    # A smaller one that may be as accurate, and about how many images would tell.
    unsure: Measured | None = None
    images_needed: int | None = None


@dataclass(frozen=True)
class Choice:
    """The answer; `standings` of all measured variants, the best first, whether within budget or not."""

    question: Question
    standings: tuple[Standing, ...]
    pick: Pick | None
    # The best of those that may be within budget, and would be chosen if they were.
    doubtful: Standing | None
    # Variants that no other beats in one of top-1, p50 and size without losing in another.
    pareto: tuple[str, ...]
    # Why the accuracies, and what follows from them, mean nothing.
    void: str | None = None

    @property
    def winner(self) -> Measured | None:
        """The best that is known to be within budget."""
        return self.pick.winner if self.pick else None

    @property
    def rivals(self) -> tuple[str, ...]:
        """Variants within budget that the measurements cannot tell from the winner."""
        return self.pick.rivals if self.pick else ()

    @property
    def nearest(self) -> Standing | None:
        """The variant whose largest excess is the smallest, one that cannot be told last."""
        return min(self.standings, key=lambda standing: standing.excess, default=None)

    @property
    def outcome(self) -> Outcome:
        """How it ended."""
        if self.doubtful or (self.pick and self.pick.unsure):
            return "cannot tell"
        return "selected" if self.pick else "nothing within budget"

    def standing(self, name: str) -> Standing | None:
        """Of one variant; None if it was not measured."""
        return next((standing for standing in self.standings if standing.measured.name == name), None)


def ask(select: SelectParams, budget: Budget, batch_sizes: Sequence[int]) -> Question:
    """The question as params.yaml puts it; what it leaves open is asked at the smallest batch size."""
    limits = asdict(budget) | {"p99_batch_size": budget.p99_batch_size or batch_sizes[0]}
    return Question(select.objective, select.batch_size or batch_sizes[0], Limits(**limits))


def choose(summary: Summary, question: Question, answers: Answers | None = None) -> Choice:
    """Choose among the rows of this device; `answers` reads predictions, from the checkout if it is None."""
    size, p99_size, objective = question.batch_size, question.limits.p99_batch_size, question.objective
    variants = [measured(row, size, p99_size) for row in summary.here if row.status.ok]
    # Speed and size break ties, which 20 images make often.
    variants.sort(key=lambda variant: (cost(variant, objective), variant.latency.p50_ms, variant.size_bytes))
    standings = tuple(judge(variant, question.limits) for variant in variants)
    read = cache(answers or _read)

    def best(*more: Standing) -> Pick | None:
        within = [standing.measured for standing in standings if standing.eligible or standing in more]
        return pick(within, objective, read) if within else None

    unknown = [standing for standing in standings if standing.undecided and not standing.eligible]
    doubtful = next((one for one in unknown if (found := best(one)) and found.winner is one.measured), None)
    return Choice(question, standings, best(), doubtful, pareto(variants), void(summary))


def void(summary: Summary) -> str | None:
    """What makes every accuracy worthless: the baseline, of which all variants are made, guesses or is misread."""
    baseline = summary.baseline()
    if baseline is None or baseline.accuracy is None or not baseline.accuracy.means_nothing:
        return None
    misread = baseline.accuracy.permuted
    return f"{baseline.name} {'answers classes as other ones' if misread else 'is no better than chance'}"


def pick(variants: Sequence[Measured], objective: Objective, answers: Answers) -> Pick:
    """Of variants with the best figure first.

    Accuracies that only few images leave alike are no tie: the smaller variant may well be the worse one.
    """
    first = variants[0]
    group = [one for one in variants if one is first or alike(one, first, objective, answers)]
    ties = [one for one in group if all(one is other or alike(one, other, objective, answers) for other in group)]
    # A doubtful time is wide, and ties with all.
    timed = objective in TIMED
    smallest = min(ties, key=lambda one: (timed and bool(one.doubts), one.size_bytes, one.peak_memory_bytes))
    equal = objective != "top1" or cost(smallest, objective) == cost(first, objective)
    winner = smallest if equal else first
    rivals = tuple(one.name for one in group if one is not winner)
    if equal:
        return Pick(winner, rivals)
    change = paired.compare(answers(first.name), answers(smallest.name))
    return Pick(winner, rivals, smallest, paired.images_needed(change.lost, change.gained, change.images, 0.0))


def cost(variant: Measured, objective: Objective) -> float:
    """The less the better."""
    costs: dict[Objective, float] = {
        "latency": variant.latency.p50_ms,
        "throughput": -variant.throughput_ips,
        "size": variant.size_bytes,
        "top1": -variant.accuracy.top1.value,
    }
    return costs[objective]


def pareto(variants: Sequence[Measured]) -> tuple[str, ...]:
    """Names of those that no other beats."""
    points = {v.name: (-v.accuracy.top1.value, v.latency.p50_ms, v.size_bytes) for v in variants}

    def beaten(own: tuple[float, ...]) -> bool:
        return any(other != own and all(a <= b for a, b in zip(other, own, strict=True)) for other in points.values())

    return tuple(name for name, point in points.items() if not beaten(point))


def alike(variant: Measured, other: Measured, objective: Objective, answers: Answers) -> bool:
    """Whether the measurements cannot tell which of two is better; images/s and sizes have no intervals."""
    if cost(variant, objective) == cost(other, objective):
        return True
    if objective == "top1":
        low, high = paired_drop(variant.name, other.name, answers)
        return low <= 0 <= high
    return objective == "latency" and _overlap(variant.latency.p50_ci95_ms, other.latency.p50_ci95_ms)


def paired_drop(name: str, other: str, answers: Answers) -> tuple[float, float]:
    """Score interval of the difference in top-1 on the same images, which is narrower than that of two shares."""
    first, second = answers(name), answers(other)
    if not paired.same_images(first, second):
        raise PipelineError(
            f"the predictions of {name} and {other} are not of the same images: run `make repro` again",
            code="other-images",
            variants=(name, other),
        )
    return paired.compare(first, second).drop_ci95


def _overlap(first: Interval, second: Interval) -> bool:
    (low, high), (other_low, other_high) = map(_bounded, (first, second))
    return low <= other_high and other_low <= high


def _bounded(interval: Interval) -> tuple[float, float]:
    low, high = interval
    return 0.0 if low is None else low, math.inf if high is None else high


def _read(name: str) -> Predictions:
    return predictions.read(predictions_path(name))
