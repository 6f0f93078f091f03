"""reports/summary.md: the result table that `make repro` prints."""

from collections.abc import Sequence
from pathlib import Path

from stages.contracts.images import remarks
from stages.contracts.row import HERE, Interval, Row, Summary
from stages.contracts.variant import BASELINE
from stages.contracts.variant import title as edition
from stages.reporting import figures, resizes
from stages.reporting.format import interval, number, times
from stages.reporting.grid import Cell, Section, grid, lines
from stages.reporting.notes import notes, other_notes, prepared, status
from stages.reporting.proofs import proofs

SUMMARY_TABLE = Path("reports/summary.md")
# Below these, averages over classes are more of a lottery than of a measurement.
FEWEST_CLASSES = 2
FEWEST_IMAGES_PER_CLASS = 5
AVERAGES = {
    "macro_precision": "macro precision %",
    "macro_recall": "macro recall %",
    "macro_f1": "macro F1 %",
    "weighted_f1": "weighted F1 %",
    "ece": "ECE %",
}


def markdown(summary: Summary) -> str:
    """The tables and the sentences below them, as Markdown that also reads well in a terminal."""
    rows = summary.here
    table = grid(lines(rows, _results(summary)), texts=2 + _has_versions(summary))
    proven = [line for proof in proofs(rows) for line in ("", *grid(proof.cells, proof.texts))]
    told = _titled(resizes.section(summary)) + _listed(
        [
            *notes(rows, summary.model.classes),
            *prepared(summary),
            *remarks(summary.evaluation, summary.calibration),
        ]
    )
    return "\n".join([title(summary), "", *table, *_averages(summary), *proven, *told, *_others(summary), ""])


def title(summary: Summary) -> str:
    """What was measured, on what."""
    machine = summary.environments[HERE].machine
    return f"{summary.model.name} on {summary.evaluation.images} images ({machine.name})"


def _has_versions(summary: Summary) -> bool:
    return any(row.variant.version for row in summary.here)


def _results(summary: Summary) -> dict[str, Cell]:
    """The columns of the result table."""
    sizes, baseline = figures.batch_sizes(summary.here), summary.baseline()
    return {
        "variant": lambda row: row.name,
        **({"runtime": lambda row: edition(row.variant.edition)} if _has_versions(summary) else {}),
        "status": status,
        "top-1 % [95 % CI]": _top1,
        "drop, points [95 % CI]": _drop,
        "agreement %": _agreement,
        **{f"p50 ms, batch {size}": _p50(size) for size in sizes},
        **{f"p90 ms, batch {size}": _p90(size) for size in sizes[:1]},
        **{f"speed-up, batch {size}": _speed_up(baseline, size) for size in sizes[:1]},
        "size MB": lambda row: _plain(row.size_bytes, digits=1, scale=1e-6),
        "peak memory MB": lambda row: _plain(figures.peak_memory_bytes(row), digits=0, scale=1e-6),
    }


def _plain(value: float | None, digits: int, scale: float = 1) -> str:
    return number(value, digits=digits, scale=scale, plain=True)


def _percent(value: float, ends: Interval) -> str:
    return f"{_plain(value, 1, 100)} {interval(ends, digits=1, scale=100, plain=True)}"


def _top1(row: Row) -> str:
    return _percent(row.accuracy.top1.value, row.accuracy.top1.ci95) if row.accuracy else ""


def _drop(row: Row) -> str:
    change = row.accuracy.change if row.accuracy else None
    return _percent(change.drop, change.drop_ci95) if change else ""


def _agreement(row: Row) -> str:
    return _plain(row.accuracy.agreement, 1, 100) if row.accuracy else ""


def _p50(size: int) -> Cell:
    return lambda row: _plain(figures.p50_ms(row, size), 2)


def _p90(size: int) -> Cell:
    def cell(row: Row) -> str:
        timed = figures.latency(row, size)
        return _plain(timed.p90_ms, 2) if timed else ""

    return cell


def _speed_up(baseline: Row | None, size: int) -> Cell:
    return lambda row: times(figures.speed_up(row, baseline, size), "x")


def _averages(summary: Summary) -> list[str]:
    """Precision, recall and F1 over the classes; nothing where there are too few images of each."""
    images, classes = summary.evaluation.images, summary.evaluation.classes or 0
    rows = [row for row in summary.here if row.accuracy]
    if not rows or classes < FEWEST_CLASSES or images < classes * FEWEST_IMAGES_PER_CLASS:
        return []
    columns: dict[str, Cell] = {"variant": lambda row: row.name, "top-1 %": _top1_alone}
    return ["", *grid(lines(rows, columns | {AVERAGES[key]: _average(key) for key in AVERAGES}), texts=1)]


def _top1_alone(row: Row) -> str:
    return _plain(row.accuracy.top1.value, 1, 100) if row.accuracy else ""


def _average(key: str) -> Cell:
    return lambda row: _plain(getattr(row.accuracy.averages, key), 1, 100) if row.accuracy else ""


def others(summary: Summary) -> Section | None:
    """Every variant on other devices, each compared with the baseline there."""
    tables = [lines(summary.on(device), _other(summary, device)) for device in summary.others]
    name = f"On other GPUs, with the speed-up against {BASELINE.name} on the same GPU"
    return Section(name, 3, [tables[0][0], *(line for _, *body in tables for line in body)]) if tables else None


def _other(summary: Summary, device: str) -> dict[str, Cell]:
    """The columns of the table of other devices, which has the batch sizes of all of them."""
    sizes = figures.batch_sizes([row for row in summary.rows if row.device != HERE])
    baseline, name = summary.baseline(device), figures.device_name(summary, device)
    return {
        "GPU": lambda row: name,
        "variant": lambda row: row.name,
        "status": status,
        "top-1 %": _top1_alone,
        **{f"p50 ms, batch {size}": _p50(size) for size in sizes},
        **{f"speed-up, batch {size}": _speed_up(baseline, size) for size in sizes[:1]},
        **{f"images/s, batch {size}": _throughput(size) for size in sizes[-1:]},
    }


def _throughput(size: int) -> Cell:
    def cell(row: Row) -> str:
        timed = figures.latency(row, size)
        return _plain(timed.throughput_ips, 1) if timed else ""

    return cell


def _others(summary: Summary) -> list[str]:
    return [*_titled(others(summary)), *_listed(other_notes(summary))]


def _titled(table: Section | None) -> list[str]:
    return ["", f"{table.name}:", "", *grid(table.cells, table.texts)] if table else []


def _listed(sentences: Sequence[str]) -> list[str]:
    return [""] * bool(sentences) + [f"- {sentence}" for sentence in sentences]
