"""Two editions of a runtime, measured in one run: what the new one makes worse by more than measurements vary."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from stages.contracts.row import Row, Summary
from stages.contracts.variant import runtime_of, title
from stages.selection.regression import SIGNIFICANT, SIZE_NOISE, Predictions, Verdict, half_width
from stages.statistics import doubts, paired
from stages.statistics.latency import STEADY_CV


class Upgrade(NamedTuple):
    """Editions such as onnxruntime_1_23 and onnxruntime."""

    old: str
    new: str

    @property
    def words(self) -> str:
        """In a sentence."""
        return f"{title(self.old)} to {title(self.new)}"


class Pair(NamedTuple):
    """The rows of one precision."""

    old: Row
    new: Row


def compare(summary: Summary, upgrade: Upgrade, predictions: Predictions) -> Verdict:
    """By precision; a precision of which not both rows are there cannot be judged."""
    rows = {row.name: row for row in summary.here}
    names = _names(rows, upgrade)
    pairs = [Pair(rows[old], rows[new]) for old, new in names if old in rows and new in rows]
    both = [pair for pair in pairs if pair.old.status.ok and pair.new.status.ok]
    verdict = sum(map(_stopped, pairs), _missing(rows, names, upgrade)) + _accuracy(both, predictions)
    return sum((_latency(pair) + Verdict(notes=tuple(_growth(pair))) for pair in both), verdict)


def _names(rows: Mapping[str, Row], upgrade: Upgrade) -> list[tuple[str, str]]:
    """Of variants, for each precision that either edition has."""
    versions = [edition.partition("_")[2] for edition in upgrade]
    runtime = runtime_of(upgrade.new)
    own = [row.variant for row in rows.values() if row.variant.runtime == runtime and row.variant.version in versions]
    both = [(replace(one, version=versions[0]).name, replace(one, version=versions[1]).name) for one in own]
    return list(dict.fromkeys(both))


def _missing(rows: Mapping[str, Row], names: list[tuple[str, str]], upgrade: Upgrade) -> Verdict:
    lacking = [name for pair in names for name in pair if name not in rows]
    if not names:
        lacking = [f"{edition}-fp32" for edition in upgrade]
    return Verdict(unknown=(f"list {' and '.join(lacking)} in `variants`, and run `make repro`",) if lacking else ())


def _stopped(pair: Pair) -> Verdict:
    """What ran and now fails is worse; what this machine cannot run is unknown."""
    reasons = [f"{row.name} was {row.status.state} ({row.status.explanation})" for row in pair if not row.status.ok]
    if not reasons:
        return Verdict()
    worse = pair.old.status.ok and pair.new.status.state == "failed"
    return Verdict(regressions=(*reasons,)) if worse else Verdict(unknown=(*reasons,))


def _accuracy(pairs: list[Pair], predictions: Predictions) -> Verdict:
    """McNemar's test on the same images, adjusted by Holm for the number of precisions."""
    answers = [(pair, predictions(pair.old.name), predictions(pair.new.name)) for pair in pairs]
    same = [(pair, old, new) for pair, old, new in answers if paired.same_images(old, new)]
    changes = [paired.compare(old, new) for _, old, new in same]
    others = [pair.new.name for pair, old, new in answers if not paired.same_images(old, new)]
    verdict = Verdict(unknown=tuple(f"the predictions of {name} are of other images" for name in others))
    for (pair, _, _), change, p_value in zip(
        same, changes, paired.holm([one.mcnemar_p for one in changes]), strict=True
    ):
        told = f"{pair.new.name}: top-1 changed by {100 * (-change.drop or 0.0):+.2f} points (p = {p_value:.2g})"
        worse = change.drop > 0 and p_value < SIGNIFICANT
        verdict += Verdict(regressions=(told,)) if worse else Verdict(notes=(told,))
    return verdict


def _latency(pair: Pair) -> Verdict:
    """p50 against p50: both were timed in turns, so that what slows the machine slows both."""
    doubtful = [
        f"the times of {row.name} are doubtful ({', '.join(doubts.words(row.doubts))})" for row in pair if row.doubts
    ]
    if doubtful:
        return Verdict(unknown=(*doubtful,))
    if len({row.footprint.on_gpu for row in pair if row.footprint}) > 1:
        return Verdict(unknown=(f"one of {pair.old.name} and {pair.new.name} ran on a GPU, and the other on the CPU",))
    sizes = sorted({speed.batch_size for row in pair for speed in row.speeds})
    untimed = () if sizes else (f"{pair.old.name} and {pair.new.name} were not timed",)
    return sum((_rise(pair, size) for size in sizes), Verdict(unknown=untimed))


def _rise(pair: Pair, size: int) -> Verdict:
    untimed = tuple(f"{row.name} was not timed at batch {size}" for row in pair if row.speed(size) is None)
    if untimed:
        return Verdict(unknown=untimed)
    old, new = (speed.latency for row in pair if (speed := row.speed(size)))
    noise = STEADY_CV + math.hypot(half_width(old), half_width(new))
    if math.isinf(noise):
        return Verdict(unknown=(f"{pair.new.name}: so few calls do not bound p50 at batch {size}",))
    rise = new.p50_ms / old.p50_ms - 1
    told = f"{pair.new.name}: p50 at batch {size} changed by {rise:+.1%} (noise: {noise:.1%})"
    return Verdict(regressions=(told,)) if rise > noise else Verdict(notes=(told,))


def _growth(pair: Pair) -> Iterator[str]:
    old, new = pair.old.size_bytes, pair.new.size_bytes
    if old and new and new / old - 1 > SIZE_NOISE:
        yield f"{pair.new.name}: size on disk grew by {new / old - 1:.1%}"
