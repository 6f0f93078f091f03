"""Results against those of another revision: what is worse by more than the measurements vary."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stages.contracts.predictions import Prediction
from stages.contracts.row import HERE, Accuracy, Latency, Row, Summary
from stages.contracts.variant import BASELINE
from stages.core.errors import PipelineError
from stages.statistics import paired
from stages.statistics.latency import STEADY_CV

# By variant, empty where they are not at hand.
Predictions = Callable[[str], Sequence[Prediction]]
# A variant's rows in both revisions, in both of which it is ok, by what a sentence calls it.
Pairs = Mapping[str, tuple[Row, Row]]

SIGNIFICANT = 0.05
# Two builds of one TensorRT engine differ by a few percent in size, since it chooses kernels by timing them.
SIZE_NOISE = 0.05
# Runs of the same code on a shared machine differed by up to 69 %: one run of each cannot judge less than a doubling.
SINGLE_RUN_NOISE = 1.0


@dataclass(frozen=True)
class Verdict:
    """Sentences: what got worse beyond noise, what could not be compared or judged, and what else there is to know."""

    regressions: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __add__(self, other: "Verdict") -> "Verdict":
        """The sentences of both."""
        return Verdict(self.regressions + other.regressions, self.unknown + other.unknown, self.notes + other.notes)


class Chosen(NamedTuple):
    """The variants that were to be shipped, then and now; None where there was no choice."""

    then: str | None
    now: str | None


def compare(
    old: Summary, new: Summary, chosen: Chosen, old_predictions: Predictions, new_predictions: Predictions
) -> Verdict:
    """Two summaries, variant by variant, and the two choices with each other if they differ."""
    if old.model.name != new.model.name:
        raise PipelineError(
            f"those results are of {old.model.name} and these of {new.model.name}: compare results of one model",
            code="other-model",
            then=old.model.name,
            now=new.model.name,
        )
    pairs = _pairs(_by_name(old), _by_name(new), chosen)
    return (
        _presence(old, new)
        + _accuracy(old, new, pairs, old_predictions, new_predictions)
        + _latency(old, new, pairs)
        + Verdict(tuple(growth for name, pair in pairs.items() if (growth := _growth(name, *pair))))
    )


def _by_name(summary: Summary) -> dict[str, Row]:
    return {row.name: row for row in summary.here}


def _pairs(before: dict[str, Row], now: dict[str, Row], chosen: Chosen) -> dict[str, tuple[Row, Row]]:
    both = {name: (before[name], now[name]) for name in before if name in now}
    if chosen.then in before and chosen.now in now and chosen.then != chosen.now:
        both[f"what ships, {chosen.then} then and {chosen.now} now"] = before[chosen.then], now[chosen.now]
    return {name: (old, new) for name, (old, new) in both.items() if old.status.ok and new.status.ok}


def _same_machine(old: Summary, new: Summary) -> bool:
    return old.environments[HERE] == new.environments[HERE]


def _presence(old: Summary, new: Summary) -> Verdict:
    """Which variants came, went and stopped; what another machine cannot run has not become worse."""
    before, now = _by_name(old), _by_name(new)
    ok = [name for name, row in before.items() if row.status.ok]
    stopped = [now[name] for name in ok if name in now and not now[name].status.ok]
    unavailable = [row for row in stopped if row.status.state == "skipped" and not _same_machine(old, new)]
    notes = [f"{name} is no longer among the variants" for name in ok if name not in now]
    notes += [f"{name} is new" for name in now if name not in before]
    unknown = [f"{row.name} does not run on this machine: {row.status.reason}" for row in unavailable]
    unknown += [] if set(ok) & now.keys() else ["no variant was measured both times"]
    worse = [
        f"{row.name} was ok and is now {row.status.state}: {row.status.explanation}"
        for row in stopped
        if row not in unavailable
    ]
    return Verdict(tuple(worse), tuple(unknown), tuple(notes))


def _accuracy(old: Summary, new: Summary, pairs: Pairs, before: Predictions, now: Predictions) -> Verdict:
    """Paired where both lists of predictions are at hand, by Fisher's exact test on the counts where not; with Holm."""
    if old.evaluation.digest != new.evaluation.digest:
        return Verdict(unknown=("accuracy was not compared: the evaluation images are others",))
    drops, p_values, unpaired = [], [], []
    for name, (first, second) in pairs.items():
        if first.accuracy and second.accuracy:
            earlier, later = before(first.name), now(second.name)
            complete = len(later) == new.evaluation.images and paired.same_images(earlier, later)
            unpaired += [] if complete else [name]
            p_values.append(_paired(earlier, later) if complete else _fisher(first.accuracy, second.accuracy))
            drops.append((name, first.accuracy.top1.value - second.accuracy.top1.value))
    fallen = tuple(
        f"{name}: top-1 fell by {100 * drop:.2f} points (p = {p_value:.2g})"
        for (name, drop), p_value in zip(drops, paired.holm(p_values), strict=True)
        if drop > 0 and p_value < SIGNIFICANT
    )
    return Verdict(fallen, notes=(_less_exact(unpaired),) if unpaired else ())


def _less_exact(names: Sequence[str]) -> str:
    return (
        f"{', '.join(names)}: top-1 was compared by counts alone, since the other revision's predictions are not "
        "in DVC's cache (`dvc fetch` may bring them)"
    )


def _paired(old: Sequence[Prediction], new: Sequence[Prediction]) -> float:
    return paired.compare(old, new).mcnemar_p


def _fisher(old: Accuracy, new: Accuracy) -> float:
    from scipy.stats import fisher_exact

    shares = (old.top1, new.top1)
    return float(fisher_exact([[round(share.correct), share.images - round(share.correct)] for share in shares]).pvalue)


def _latency(old: Summary, new: Summary, pairs: Pairs) -> Verdict:
    """p50 as a multiple of the baseline's in the same run, since machines are faster in one run than in another."""
    if not _same_machine(old, new):
        return Verdict(unknown=("latency was not compared: the machine or its software is another",))
    if BASELINE.name not in pairs:
        return Verdict(unknown=(f"latency was not compared: {BASELINE.name}, of which it is a multiple, is missing",))
    bases = tuple(map(_latencies, pairs[BASELINE.name]))
    verdict = Verdict(notes=(_baseline_moved(*bases),))
    for name, (before, now) in pairs.items():
        then, here = _latencies(before), _latencies(now)
        unmeasured = tuple(f"{name}: batch {size} is no longer measured" for size in then if size not in here)
        verdict += Verdict(unknown=unmeasured)
        for size in then if name != BASELINE.name else ():
            four = [latencies[size] for latencies in (then, here, *bases) if size in latencies]
            verdict += _rise(f"{name}: p50 at batch {size}", four) if len(four) == 4 else Verdict()
    return verdict


def _latencies(row: Row) -> dict[int, Latency]:
    return {speed.batch_size: speed.latency for speed in row.speeds}


def _baseline_moved(before: dict[int, Latency], now: dict[int, Latency]) -> str:
    """The measure of all others is not judged itself, since it moves with the machine."""
    rises = [(size, now[size].p50_ms / before[size].p50_ms - 1) for size in before if size in now]
    if not rises:
        return "no batch size was measured both times"
    moved = ", ".join(f"{rise:+.1%} at batch {size}" for size, rise in rises)
    return f"{BASELINE.name}, the measure of the others' latency, changed by {moved} itself"


def _rise(subject: str, four: Sequence[Latency]) -> Verdict:
    """By what share a multiple rose: from the old and the new latency, and those of the baseline."""
    old, new, old_base, new_base = (latency.p50_ms for latency in four)
    rise = (new / new_base) / (old / old_base) - 1
    noise = STEADY_CV + math.hypot(*map(half_width, four))
    if math.isinf(noise):
        return Verdict(unknown=(f"{subject} was not compared: so few calls do not bound it",))
    if rise > max(noise, _between_runs(four)):
        return Verdict((f"{subject} rose by {rise:.1%} against {BASELINE.name} (noise: {noise:.1%})",))
    if rise > noise:
        unsure = f"{subject} rose by {rise:.1%} against {BASELINE.name}, but how far runs differ is not known from"
        return Verdict(unknown=(f"{unsure} one of each: set `benchmark.repeats` to 3 on both sides",))
    return Verdict(notes=(f"{subject} changed by {rise:+.1%}, and up to {noise:.1%} passes as noise",))


def _between_runs(latencies: Sequence[Latency]) -> float:
    """How much a multiple may rise between runs that were not repeated; repeats have it in their intervals."""
    return 0.0 if all(len(latency.repeat_p50_ms) > 1 for latency in latencies) else SINGLE_RUN_NOISE


def half_width(latency: Latency) -> float:
    """Of the interval of p50, as a share of it."""
    low, high = latency.p50_ci95_ms
    return math.inf if low is None or high is None else (high - low) / 2 / latency.p50_ms


def _growth(name: str, old: Row, new: Row) -> str | None:
    if not old.size_bytes or not new.size_bytes:
        return None
    share = new.size_bytes / old.size_bytes - 1
    sizes = f"from {old.size_bytes / 1e6:.1f} to {new.size_bytes / 1e6:.1f} MB"
    return f"{name}: size on disk grew by {share:.1%}, {sizes}" if share > SIZE_NOISE else None
