"""The section of the page on training: its curves, and what quantisation-aware training won back of INT8's loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages.contracts.row import Change, Row, Summary
from stages.contracts.training import CURVES, QAT_CURVE, QatRecord, QatTraining
from stages.contracts.variant import BASELINE, title
from stages.reporting import curves, figures
from stages.reporting.curves import Curve
from stages.reporting.format import Figure, figure, interval, number, p_value, signed
from stages.training.curves import read_curve

QAT = "QAT"
COLUMNS = (
    ("FP32", "top-1 % [95 % CI]"),
    ("INT8, post-training", "top-1 % [95 % CI]"),
    ("INT8, QAT", "top-1 % [95 % CI]"),
    ("Won back", "points [95 % CI]"),
    ("McNemar's p", ""),
    ("p50 of both INT8", "ms, post-training / QAT"),
    ("Size of both INT8", "MB, post-training / QAT"),
)


@dataclass(frozen=True)
class Line:
    """FP32 and both INT8 of one runtime; `fp32` names the variant, and `cells` are in the order of COLUMNS."""

    runtime: str
    fp32: str | None
    cells: list[Figure]


@dataclass(frozen=True)
class TrainingSection:
    """What the page shows of training; `lines` and `notes` are of quantisation-aware training."""

    chart: str | None
    lines: list[Line]
    notes: list[str]
    columns: tuple[tuple[str, str], ...] = COLUMNS


def read_curves(summary: Summary) -> dict[str, Curve]:
    """Every epoch of each training that the model went through, by the training's name."""
    runs = summary.model.training.runs if summary.model.training else ()
    trainings: dict[str, Curve] = {f"seed {run.seed}": read_curve(CURVES, run.seed) for run in runs}
    if summary.qat and summary.qat.training:
        trainings[QAT] = read_curve(QAT_CURVE, summary.qat.training.run.seed)
    return trainings


def section(summary: Summary, trainings: Mapping[str, Curve], batch_size: int) -> TrainingSection | None:
    """What the page shows of training; None where nothing was trained or should have been."""
    if not trainings and not summary.qat:
        return None
    notes = qat_notes(summary.qat, trainings) if summary.qat else []
    return TrainingSection(curves.chart(trainings), lines(summary.here, batch_size), notes)


def lines(rows: Sequence[Row], batch_size: int) -> list[Line]:
    """FP32 and both INT8 side by side: a line for each runtime that has a variant with quantisation-aware training."""
    by_name = {row.name: row for row in rows}
    shown = []
    for row in (row for row in rows if row.variant.qat):
        candidates = [by_name.get(name) for name in (f"{row.variant.edition}-fp32", BASELINE.name)]
        fp32 = next((one for one in candidates if one and one.accuracy), None)
        before = by_name.get(row.variant.post_training.name)
        shown.append(
            Line(title(row.variant.edition), fp32.name if fp32 else None, _cells(fp32, before, row, batch_size))
        )
    return shown


def top1(row: Row | None) -> Figure:
    """In percent, with its interval; empty for a variant that was not evaluated."""
    share = row.accuracy.top1 if row and row.accuracy else None
    return figure(share.value, share.ci95, digits=1, scale=100) if share else Figure()


def _cells(fp32: Row | None, before: Row | None, after: Row, batch_size: int) -> list[Figure]:
    """The numbers of a runtime, in the order of COLUMNS."""
    both = (before, after)
    return [
        *(top1(row) for row in (fp32, *both)),
        *_won(after.accuracy.change_from_int8 if after.accuracy else None),
        _pair([number(figures.p50_ms(row, batch_size), digits=3) for row in both]),
        _pair([number(row.size_bytes if row else None, digits=2, scale=1e-6) for row in both]),
    ]


def _pair(texts: Sequence[str]) -> Figure:
    return Figure(" / ".join(text or "\N{EN DASH}" for text in texts) if any(texts) else "")


def _won(change: Change | None) -> list[Figure]:
    """Points won back, and how likely chance alone is to win or lose as many."""
    if not change:
        return [Figure(), Figure()]
    points = Figure(signed(change.points_won, digits=2), interval(change.points_won_ci95, digits=2))
    return [points, Figure(p_value(change.mcnemar_p))]


def qat_notes(qat: QatRecord, trainings: Mapping[str, Curve]) -> list[str]:
    """What a reader must know of the table: its terms, and how the training went."""
    terms = (
        "Won back: top-1 with quantisation-aware training (QAT) minus that of the post-training INT8 on the same "
        "images; above 0 is better. Tango's score interval, exact McNemar's test. The weights learn on, so that QAT "
        "may end above FP32."
    )
    if not qat.training:
        return [terms, f"QAT {qat.status.state}: {(qat.status.reason or '').removeprefix('qat: ')}."]
    return [terms, *_course(qat.training, trainings[QAT])]


def _course(training: QatTraining, curve: Curve) -> list[str]:
    """How the training went, and what it could not simulate."""
    before, after = (
        number(share, digits=1, scale=100) for share in (training.first_val_accuracy, training.run.best_val_accuracy)
    )
    notes = [
        f"QAT was best after epoch {training.run.best_epoch} of {curve[-1]['epoch']:.0f}: with INT8 simulated, "
        f"{after} % of the {training.validation_images:,} validation images were right, and {before} % before it "
        f"learned (epoch 0). It took {training.run.train_s:,.0f} s on {training.train_images:,} images."
    ]
    if not training.run.best_epoch:
        notes.append("No epoch was better than none: lower qat.learning_rate, or train on more images.")
    if kinds := training.layers_not_simulated:
        left = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        notes.append(f"Layers that QAT did not simulate, whose ranges the calibration set gives: {left}.")
    return notes
