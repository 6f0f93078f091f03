"""The section of the page on classes: averages, and class by class what every variant changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages.contracts.labels import Labels
from stages.contracts.row import Change, Row, Summary
from stages.contracts.variant import BASELINE
from stages.reporting import heatmap
from stages.reporting.format import number, p_value, plural, signed
from stages.reporting.table import FEWEST_IMAGES_PER_CLASS
from stages.statistics import per_class
from stages.statistics.per_class import ClassReport, ClassScore

AVERAGES = {
    "macro_precision": "Macro precision", "macro_recall": "Macro recall", "macro_f1": "Macro F1",
    "weighted_precision": "Weighted precision", "weighted_recall": "Weighted recall", "weighted_f1": "Weighted F1",
    "ece": "ECE",
}  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """A share in percent, and its difference in points from the baseline's where there is one."""

    text: str
    difference: str
    tone: str
    word: str


@dataclass(frozen=True)
class Averages:
    """Of one variant, in the order of AVERAGES."""

    variant: str
    cells: list[Compared]


@dataclass(frozen=True)
class Score:
    """Precision, recall and F1 of one class."""

    name: str
    images: int
    cells: list[Compared]


@dataclass(frozen=True)
class Confused:
    """Images of one class that are taken for another, by the baseline and by a variant."""

    label: str
    predicted: str
    before: int
    after: int


@dataclass(frozen=True)
class Details:
    """One variant class by class; `matrices` are charts by what they are of."""

    macro_f1: str
    compared: bool
    scores: list[Score]
    matrices: dict[str, str]
    confused: list[Confused]


@dataclass(frozen=True)
class ClassSection:
    """All of the section; `unchanged` names the variants that predict as the baseline does."""

    averages: list[Averages]
    notes: list[str]
    unchanged: list[str]
    details: dict[str, Details]


@dataclass(frozen=True)
class FlippedClass:
    """A class with the images that a variant lost and gained."""

    name: str
    images: int
    lost: float
    gained: float


@dataclass(frozen=True)
class Flips:
    """The most changed classes of one variant, and its flips in words."""

    variant: str
    words: str
    classes: list[FlippedClass]


def section(summary: Summary, reports: Mapping[str, ClassReport], labels: Labels) -> ClassSection:
    """The averages, and the details of every variant that predicts otherwise than the baseline."""
    rows = [row for row in summary.here if row.name in reports]
    unchanged = [row.name for row in rows if (change := _change(row)) and change.changed == 0]
    changed = [row for row in rows if row.name not in unchanged]
    return ClassSection(
        averages=averages(summary),
        notes=notes(summary),
        unchanged=unchanged,
        details={row.name: _details(row, reports, labels) for row in changed},
    )


def _change(row: Row) -> Change | None:
    return row.accuracy.change if row.accuracy else None


def averages(summary: Summary) -> list[Averages]:
    """Of every evaluated variant, beside the baseline's."""
    return [
        Averages(row.name, [_average(row, summary.baseline(), name) for name in AVERAGES])
        for row in summary.here
        if row.accuracy
    ]


def _average(row: Row, baseline: Row | None, name: str) -> Compared:
    value, before = (getattr(one.accuracy.averages, name) if one and one.accuracy else None for one in (row, baseline))
    return compared(value, None if row is baseline else before, less_is_better=name == "ece")


def compared(value: float | None, before: float | None, less_is_better: bool = False) -> Compared:
    """A share beside the baseline's."""
    text = number(value, digits=1, scale=100)
    if value is None or before is None:
        return Compared(text, "", "", "the same")
    # Adding 0 makes a plain one of a negative one.
    points = round(100 * (value - before), 2) + 0
    tone, word = ("bad", "worse") if (points > 0) == less_is_better else ("good", "better")
    return Compared(text, signed(points, digits=2), *((tone, word) if points else ("", "the same")))


def notes(summary: Summary) -> list[str]:
    """What a reader must know of the averages."""
    images, classes = summary.evaluation.images, summary.evaluation.classes or 0
    words = [
        f"Macro: the mean over the {plural(classes, 'class', 'es')} that have images. Weighted: each class "
        "counts as often as it has images, which makes the recall top-1.",
        "A class that is never predicted has no precision; it counts as 0 in the averages, as scikit-learn has it.",
        f"ECE, the expected calibration error: how far confidence and accuracy lie apart, over {per_class.BINS} bins "
        "of equal width (Guo et al. 2017); less is better, and few images make it larger than it is.",
    ]
    if images < classes * FEWEST_IMAGES_PER_CLASS:
        words.append(f"With {images / classes:.1f} images of each class, figures of single classes say little.")
    return words


def _details(row: Row, reports: Mapping[str, ClassReport], labels: Labels) -> Details:
    """Beside the baseline's where both answered the same images."""
    before, after = reports[BASELINE.name] if _change(row) else None, reports[row.name]
    pairs = per_class.most_lost(before, after) if before else [(None, score) for score in per_class.lowest(after)]
    return Details(
        macro_f1=number(row.accuracy.averages.macro_f1 if row.accuracy else None, digits=1, scale=100),
        compared=before is not None,
        scores=[_score(old, new, labels) for old, new in pairs],
        matrices=_matrices(row.name, before, after, labels),
        confused=[
            Confused(labels.name(pair.label), labels.name(pair.predicted), pair.before, pair.after)
            for pair in per_class.most_confused(before or after, after)
        ],
    )


def _score(old: ClassScore | None, new: ClassScore, labels: Labels) -> Score:
    cells = [
        compared(new.precision, old.precision if old else None),
        compared(new.recall, old.recall if old else None),
        compared(new.f1, old.f1 if old else None),
    ]
    return Score(labels.name(new.label), new.support, cells)


def _matrices(name: str, before: ClassReport | None, after: ClassReport, labels: Labels) -> dict[str, str]:
    """The confusion matrices that can be read."""
    sides = {f"before, {BASELINE.name}": before, f"after, {name}": after} if before else {name: after}
    return {
        of: heatmap.confusion(report, labels, f"confusion-{name}-{place}", f"Confusion matrix {of}")
        for place, (of, report) in enumerate(sides.items())
        if report.drawable
    }


def flips(rows: Sequence[Row], labels: Labels) -> list[Flips]:
    """The most changed classes of each variant that changes any."""
    changes = {row.name: change for row in rows if (change := _change(row)) and change.classes}
    return [
        Flips(
            name,
            _flips(change),
            [FlippedClass(labels.name(one.label), one.images, one.lost, one.gained) for one in change.classes],
        )
        for name, change in changes.items()
    ]


def _flips(change: Change) -> str:
    """Flips in numbers, and how likely chance alone is to part them so unevenly."""
    adjusted = "" if change.mcnemar_p_holm is None else f", after Holm {p_value(change.mcnemar_p_holm)}"
    counts = f"{change.lost:g} lost, {change.gained:g} gained of {change.images:,} images"
    return f"{counts}; McNemar's p {p_value(change.mcnemar_p)}{adjusted}"
