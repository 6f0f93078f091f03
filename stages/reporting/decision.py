"""The head of the page: which variant to ship, its figures, what decided, and why not the others."""

from collections.abc import Sequence
from dataclasses import dataclass

from stages.contracts.row import Row, Summary
from stages.contracts.selection import Limits, Selection
from stages.contracts.variant import BASELINE
from stages.reporting import figures, notes
from stages.reporting.format import NBSP, Figure, number, times
from stages.reporting.results import drop, p50
from stages.reporting.training import top1

OBJECTIVES = {
    "latency": "the lowest p50 latency at batch {batch_size}",
    "throughput": "the most images per second",
    "size": "the smallest size on disk",
    "top1": "the highest top-1 accuracy",
}


@dataclass(frozen=True)
class Card:
    """A figure that matters, with what stands below it."""

    name: str
    unit: str
    figure: Figure
    beside: str = ""


@dataclass(frozen=True)
class Best:
    """The variant whose figures stand on top, with the reason in its heading."""

    heading: str
    cards: list[Card]


def guess(summary: Summary) -> str | None:
    """What makes the accuracy worthless: that the baseline's outputs are other classes, and that it is at chance."""
    baseline = summary.baseline()
    found = baseline.accuracy if baseline else None
    told = []
    if found and found.permuted:
        order = f" They are in the order of {summary.class_order}." if summary.class_order else ""
        told.append(f"{notes.permuted(found.permuted)}.{order} Until then no accuracy here is the model's own.")
    if found and found.at_chance:
        told.append(
            f"{BASELINE.name} {notes.at_chance(found.at_chance)}. Until that is mended, no comparison means much."
        )
    return " ".join(told) or None


def best(summary: Summary, selection: Selection) -> Best | None:
    """The variant that won, or that alone is known to do, or has the best figure so far, or that nearly did."""
    winner, miss = selection.winner, selection.nearest_miss
    row = figures.find(summary, winner or (miss.variant if miss else None))
    if row is None:
        return None
    first = "Known to be within budget" if selection.budget.any else "Best figure"
    heading = f"{winner} in figures" if selection.outcome == "selected" else f"{first}: {winner}"
    if miss and not winner:
        heading = f"Nearest to the budget: {miss.variant}, {miss.reason}"
    return Best(heading, cards(row, summary.baseline(), selection.batch_size))


def limits(selection: Selection) -> list[str]:
    """The objective and each limit in words."""
    objective = OBJECTIVES[selection.objective].format(batch_size=selection.batch_size)
    return [f"Objective: {objective}", *_limits(selection.budget)]


def _limits(budget: Limits) -> list[str]:
    words = []
    if budget.max_top1_drop is not None:
        points = 100 * budget.max_top1_drop
        words.append(f"top-1 drop at most {points:g} point{'s' * (points != 1)}")
    if budget.max_p99_ms is not None:
        words.append(f"p99 at batch {budget.p99_batch_size} at most {budget.max_p99_ms:g} ms")
    if budget.max_size_bytes is not None:
        words.append(f"size at most {budget.max_size_bytes / 1e6:g} MB")
    if budget.max_peak_memory_bytes is not None:
        words.append(f"peak memory at most {budget.max_peak_memory_bytes / 1e6:g} MB")
    return words


def cards(row: Row, baseline: Row | None, batch_size: int) -> list[Card]:
    """The figures that matter of one variant, each beside the baseline's."""
    other = baseline if baseline is not row else None
    shown = [
        Card("Top-1 accuracy", "%", top1(row), _drop(row)),
        Card(f"p50 latency, batch {batch_size}", "ms", p50(row, batch_size), _speed_up(row, other, batch_size)),
        _megabytes("Size on disk", row.size_bytes, other.size_bytes if other else None, digits=1),
        _megabytes(
            "Peak memory",
            figures.peak_memory_bytes(row),
            figures.peak_memory_bytes(other) if other else None,
            digits=0,
        ),
    ]
    return [card for card in shown if card.figure.text]


def _drop(row: Row) -> str:
    points = drop(row)
    return f"drop {points.text} points {points.interval}" if points.text else ""


def _speed_up(row: Row, baseline: Row | None, batch_size: int) -> str:
    factor = times(figures.speed_up(row, baseline, batch_size))
    p50_ms = number(figures.p50_ms(baseline, batch_size), digits=2)
    return f"{factor} as fast as {BASELINE.name}, {p50_ms}{NBSP}ms" if factor else ""


def _megabytes(name: str, value: int | None, baseline: int | None, digits: int) -> Card:
    beside = ""
    if value and baseline:
        whole = number(baseline, digits=digits, scale=1e-6)
        beside = f"{100 * value / baseline:,.0f}{NBSP}% of {BASELINE.name}, {whole}{NBSP}MB"
    return Card(name, "MB", Figure(number(value, digits=digits, scale=1e-6)), beside)


def losers(rows: Sequence[Row], selection: Selection) -> list[tuple[str, list[str]]]:
    """Why each variant was not chosen; those with one reason share it."""
    names: dict[str, list[str]] = {}
    for row in rows:
        if row.name != selection.winner:
            judged = selection.variants.get(row.name)
            reason = (judged and judged.reason) or row.status.explanation or "No reason is on record."
            names.setdefault(reason, []).append(row.name)
    return list(names.items())
