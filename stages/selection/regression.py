"""Results against those of another revision: what is worse by more than the measurements vary."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from stages.contracts.predictions import Prediction
from stages.contracts.variant import BASELINE
from stages.core.errors import PipelineError
from stages.statistics.latency import STEADY_CV
from stages.statistics.paired import Change, holm

Record = dict[str, Any]
# By variant, empty where they are not at hand.
Predictions = Callable[[str], Sequence[Prediction]]
# A variant's rows in both revisions, in both of which it is ok.
Pairs = dict[str, tuple[Record, Record]]

SIGNIFICANT = 0.05
# Two builds of one TensorRT engine differ by a few percent in size, since it chooses kernels by timing them.
SIZE_NOISE = 0.05


# Runs of the same code on a shared machine differed by up to 69 %: one run of each cannot judge less than a doubling.
SINGLE_RUN_NOISE = 1.0


class Verdict(NamedTuple):
    """Sentences: what got worse beyond noise, what could not be compared or judged, and what else there is to know."""

    regressions: list[str]
    unknown: list[str]
    notes: list[str]


class Chosen(NamedTuple):
    """The variants that were to be shipped, then and now; None where there was no choice."""

    then: str | None
    now: str | None


def compare(
    old: Record, new: Record, chosen: Chosen, old_predictions: Predictions, new_predictions: Predictions
) -> Verdict:
    """Two summaries, variant by variant, and the two choices with each other if they differ."""
    models = [summary["model"]["name"] for summary in (old, new)]
    if models[0] != models[1]:
        raise PipelineError(f"those results are of {models[0]} and these of {models[1]}: compare results of one model")
    before, now = ({row["variant"]: row for row in summary["rows"]} for summary in (old, new))
    ok = {name: row for name, row in before.items() if row["status"] == "ok"}
    pairs = {name: (row, now[name]) for name, row in ok.items() if name in now and now[name]["status"] == "ok"}
    if chosen.then in ok and chosen.now in now and chosen.then != chosen.now:
        pairs[f"what ships, {chosen.then} then and {chosen.now} now"] = ok[chosen.then], now[chosen.now]
    parts = [
        _presence(before, ok, now, old["environment"] == new["environment"]),
        _accuracy(old, new, pairs, old_predictions, new_predictions),
        _latency(old, new, pairs),
        Verdict([grown for name, pair in pairs.items() if (grown := _grown(name, *pair))], [], []),
    ]
    return Verdict(*([sentence for part in parts for sentence in part[i]] for i in range(3)))


def _presence(before: Record, ok: Record, now: Record, same_machine: bool) -> Verdict:
    """Which variants came, went and stopped; what another machine cannot run has not become worse."""
    stopped = [row for name, row in now.items() if name in ok and row["status"] != "ok"]
    elsewhere = [row for row in stopped if row["status"] == "skipped" and not same_machine]
    notes = [f"{name} is no longer among the variants" for name in ok if name not in now]
    notes += [f"{name} is new" for name in now if name not in before]
    unknown = [f"{row['variant']} does not run on this machine: {row['reason']}" for row in elsewhere]
    unknown += [] if ok.keys() & now.keys() else ["no variant was measured both times"]
    worse = [row for row in stopped if row not in elsewhere]
    return Verdict(
        [f"{row['variant']} was ok and is now {row['status']}: {row['reason']}" for row in worse], unknown, notes
    )


def _accuracy(old: Record, new: Record, pairs: Pairs, before: Predictions, now: Predictions) -> Verdict:
    """Paired where both lists of predictions are at hand, by Fisher's exact test on the counts where not; with Holm."""
    images = new["evaluation"]["images"]
    if old["evaluation"]["digest"] != new["evaluation"]["digest"]:
        return Verdict([], ["accuracy was not compared: the evaluation images are others"], [])
    drops, p_values, unpaired = [], [], []
    for name, (first, second) in pairs.items():
        drops.append(first["top1"] - second["top1"])
        earlier, later = before(first["variant"]), now(second["variant"])
        if len(earlier) == len(later) == images:
            p_values.append(Change.between(earlier, later).mcnemar_p)
        else:
            unpaired.append(name)
            p_values.append(_fisher(first["top1"], second["top1"], images))
    fallen = [
        f"{name}: top-1 fell by {100 * drop:.2f} points (p = {p_value:.2g})"
        for name, drop, p_value in zip(pairs, drops, holm(p_values), strict=True)
        if drop > 0 and p_value < SIGNIFICANT
    ]
    less = f"{', '.join(unpaired)}: top-1 was compared by counts alone, since the other revision's predictions are not "
    return Verdict(fallen, [], [less + "in DVC's cache (`dvc fetch` may bring them)"] if unpaired else [])


def _fisher(old: float, new: float, images: int) -> float:
    from scipy.stats import fisher_exact

    right = [round(share * images) for share in (old, new)]
    return float(fisher_exact([[count, images - count] for count in right]).pvalue)


def _latency(old: Record, new: Record, pairs: Pairs) -> Verdict:
    """p50 as a multiple of the baseline's in the same run, since another run finds the machine in another mood."""
    if old["environment"] != new["environment"]:
        return Verdict([], ["latency was not compared: the machine or its software is another"], [])
    if BASELINE.name not in pairs:
        told = f"latency was not compared: {BASELINE.name}, of which it is a multiple, is missing"
        return Verdict([], [told], [])
    bases = [row["latency"] for row in pairs[BASELINE.name]]
    slower: list[str] = []
    unknown: list[str] = []
    notes = [_told_baseline(*bases)]
    for name, (before, now) in pairs.items():
        gone = sorted(before["latency"].keys() - now["latency"].keys(), key=int)
        unknown += [f"{name}: batch {size} is no longer measured" for size in gone]
        sizes = before["latency"].keys() & now["latency"].keys() if name != BASELINE.name else set()
        for size in sorted(sizes, key=int):
            four = [latency[size] for latency in (before["latency"], now["latency"], *bases)]
            rise, noise = _rise(four)
            seen = f"{name}: p50 at batch {size}"
            if math.isinf(noise):
                unknown.append(f"{seen} was not compared: so few calls do not bound it")
            elif rise > max(noise, _unseen(four)):
                slower.append(f"{seen} rose by {rise:.1%} against {BASELINE.name} (noise: {noise:.1%})")
            elif rise > noise:
                unknown.append(
                    f"{seen} rose by {rise:.1%} against {BASELINE.name}, but how far runs differ is not known from "
                    "one of each: set `benchmark.repeats` to 3 on both sides"
                )
            else:
                notes.append(f"{seen} changed by {rise:+.1%}, and up to {noise:.1%} passes as noise")
    return Verdict(slower, unknown, notes)


def _told_baseline(before: Record, now: Record) -> str:
    """The measure of all others is not judged itself, since it moves with the machine."""
    sizes = sorted(before.keys() & now.keys(), key=int)
    moved = ", ".join(f"{now[size]['p50_ms'] / before[size]['p50_ms'] - 1:+.1%} at batch {size}" for size in sizes)
    if not sizes:
        return "no batch size was measured both times"
    return f"{BASELINE.name}, the measure of the others' latency, changed by {moved} itself"


def _rise(four: Sequence[Record]) -> tuple[float, float]:
    """By what share the multiple rose, and how much it may by chance: from old, new, and both baselines' latencies."""
    old, new, old_base, new_base = (latency["p50_ms"] for latency in four)
    return (new / new_base) / (old / old_base) - 1, STEADY_CV + math.hypot(*map(_half_width, four))


def _unseen(four: Sequence[Record]) -> float:
    """How much a multiple may rise between runs that were not repeated; repeats have it in their intervals."""
    return 0.0 if all(len(latency["repeat_p50_ms"]) > 1 for latency in four) else SINGLE_RUN_NOISE


def _half_width(latency: Record) -> float:
    """Of the interval of p50, as a share of it."""
    low, high = latency["p50_ci95_ms"]
    return math.inf if low is None or high is None else (high - low) / 2 / float(latency["p50_ms"])


def _grown(name: str, old: Record, new: Record) -> str | None:
    share, sizes = new["size_bytes"] / old["size_bytes"] - 1, [row["size_bytes"] / 1e6 for row in (old, new)]
    told = f"{name}: size on disk grew by {share:.1%}, from {sizes[0]:.1f} to {sizes[1]:.1f} MB"
    return told if share > SIZE_NOISE else None
