"""reports/report.html: all that the page shows, gathered from the records of the stages before."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stages.contracts import labels
from stages.contracts.images import EVALUATION
from stages.contracts.row import HERE, Summary
from stages.contracts.selection import Selection
from stages.contracts.timing import Repeats, Series, read_samples
from stages.contracts.variant import BASELINE
from stages.params.load import PARAMS
from stages.reporting import (
    charts,
    classes,
    decision,
    distributions,
    facts,
    gallery,
    notes,
    proofs,
    reliability,
    resizes,
    results,
    table,
    training,
)
from stages.reporting.classes import AVERAGES, ClassSection, Flips
from stages.reporting.curves import Curve
from stages.reporting.decision import Best
from stages.reporting.facts import Facts
from stages.reporting.gallery import KINDS, Gallery
from stages.reporting.grid import Section
from stages.reporting.results import COLUMNS, Column, Line, TimeLine
from stages.reporting.training import TrainingSection
from stages.statistics.per_class import ClassReport

PAGE = Path("reports/report.html")
# How the gallery marks what an image's prediction became: tone, sign and word.
MARKS = {"lost": ("bad", "✕", "lost"), "gained": ("good", "✓", "gained"), "other": ("unsure", "≠", "wrong still")}


@dataclass(frozen=True)
class Code:
    """The commit of the code that ran, None outside a checkout, and whether it had changes that are in no commit."""

    commit: str | None
    changed: bool


@dataclass(frozen=True)
class Measured:
    """What is read beside the summary: calls, classes of the model, class by class each variant, trainings, params."""

    calls: Mapping[Series, Repeats]
    labels: labels.Labels
    reports: Mapping[str, ClassReport]
    curves: Mapping[str, Curve]
    params: str

    @classmethod
    def read(cls, summary: Summary) -> "Measured":
        """PipelineError where something is missing or damaged."""
        return cls(
            calls=read_samples(),
            labels=labels.read(),
            reports={row.name: ClassReport.read(row.name) for row in summary.here if row.accuracy},
            curves=training.read_curves(summary),
            params=PARAMS.read_text(encoding="utf-8"),
        )


@dataclass(frozen=True)
class Report:
    """The names that the template uses."""

    title: str
    machine: str
    summary: Summary
    selection: Selection
    code: Code
    params: str
    chosen: str
    guess: str | None
    budget: list[str]
    best: Best | None
    losers: list[tuple[str, list[str]]]
    lines: list[Line]
    notes: list[str]
    shares: list[TimeLine]
    proofs: list[Section]
    resizes: Section | None
    others: Section | None
    other_notes: list[str]
    charts: dict[str, str | None]
    training: TrainingSection | None
    classes: ClassSection
    flips: list[Flips]
    galleries: list[Gallery]
    opened: str | None
    settings: dict[str, Facts]
    baseline: str = BASELINE.name
    columns: tuple[Column, ...] = COLUMNS
    average_names: tuple[str, ...] = tuple(AVERAGES.values())
    kinds: dict[str, str] = field(default_factory=lambda: KINDS)
    marks: dict[str, tuple[str, str, str]] = field(default_factory=lambda: MARKS)


def gather(summary: Summary, selection: Selection, code: Code) -> Report:
    """All of it; the files of variants, samples and curves are read here."""
    measured, rows, size = Measured.read(summary), summary.here, selection.batch_size
    upright = summary.model.preprocessing.orientation

    def thumbnail(file: str) -> str | None:
        return gallery.thumbnail(EVALUATION / file, upright)

    shown = gallery.galleries(rows, measured.labels, thumbnail)
    return Report(
        title=selection.headline,
        machine=summary.environments[HERE].machine.name,
        summary=summary,
        selection=selection,
        code=code,
        params=measured.params,
        chosen=selection.mark,
        guess=decision.guess(summary),
        budget=decision.limits(selection),
        best=decision.best(summary, selection),
        losers=decision.losers(rows, selection),
        lines=results.lines(summary, selection),
        notes=results.notes(summary, size),
        shares=results.times_by_part(rows),
        proofs=proofs.proofs(rows),
        resizes=resizes.section(summary),
        others=table.others(summary),
        other_notes=notes.other_notes(summary),
        charts=drawn(summary, selection, measured),
        training=training.section(summary, measured.curves, size),
        classes=classes.section(summary, measured.reports, measured.labels),
        flips=classes.flips(rows, measured.labels),
        galleries=shown,
        opened=min(shown, key=lambda one: one.variant != selection.winner).variant if shown else None,
        settings=facts.settings(summary),
    )


def drawn(summary: Summary, selection: Selection, measured: Measured) -> dict[str, str | None]:
    """The charts of results; None for one that no variant has figures for."""
    rows, size = summary.here, selection.batch_size
    words = {selection.winner: selection.mark} if selection.winner else {}
    return {
        "accuracy": charts.accuracy(rows, size, selection.pareto, words),
        "distributions": distributions.distributions(distributions.spreads(rows, measured.calls, size), size),
        "latency": charts.latency_by_batch(rows),
        "throughput": charts.throughput_by_batch(rows),
        "size": charts.size_by_part(rows),
        "reliability": reliability.reliability(measured.reports),
    }
