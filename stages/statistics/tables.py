"""What `summarize` writes beside its record: metrics and plots that DVC compares, and tables of every class."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from stages.contracts import predictions
from stages.contracts.evaluation import predictions_path
from stages.contracts.labels import Labels
from stages.contracts.row import Accuracy, Latency, Row, Summary
from stages.core import files
from stages.statistics.per_class import CLASSES, ClassReport

METRICS = Path("reports/metrics.json")
PLOTS = Path("reports/plots")

# Figures by name, those at a batch size by that too.
Figures = dict[str, float | dict[str, float]]


def write(summary: Summary, labels: Labels) -> None:
    """All of them, of this device alone."""
    files.write_json(METRICS, metrics(summary))
    with files.new_directory(PLOTS) as folder:
        write_plots(summary, folder)
    with files.new_directory(CLASSES) as folder:
        write_classes(summary, labels, folder)


def metrics(summary: Summary) -> dict[str, Figures]:
    """The figures that `dvc metrics diff` compares, by variant; it does not look into lists."""
    return {row.name: _figures(row) for row in summary.here if row.status.ok}


def _figures(row: Row) -> Figures:
    figures: dict[str, float | None] = _accuracy_figures(row.accuracy) if row.accuracy else {}
    figures |= {
        "first_inference_ms": row.speeds[0].first_inference_ms if row.speeds else None,
        "load_ms": row.load_ms,
        "convert_s": row.conversion.seconds if row.conversion else None,
        "size_bytes": row.size_bytes,
        "peak_memory_bytes": row.footprint.peak_memory_bytes if row.footprint else None,
    }
    by_size = {f"batch{speed.batch_size}": latency_figures(speed.latency) for speed in row.speeds}
    return {name: value for name, value in figures.items() if value is not None} | by_size


def _accuracy_figures(accuracy: Accuracy) -> dict[str, float | None]:
    return {
        "top1": accuracy.top1.value,
        "top5": accuracy.top5.value,
        "agreement": accuracy.agreement,
        "macro_f1": accuracy.averages.macro_f1,
        "ece": accuracy.averages.ece,
    }


def latency_figures(latency: Latency) -> dict[str, float]:
    """Its numbers under flat names, the ends of an interval as NAME_low and NAME_high; without those not known."""
    return flat(asdict(latency))


def flat(figures: Mapping[str, object]) -> dict[str, float]:
    """Numbers by name, the ends of an interval (`_ci95` in its name) as NAME_low and NAME_high; nothing else."""
    ends = {
        f"{name}_{end}": value
        for name, pair in figures.items()
        if "_ci95" in name and isinstance(pair, (tuple, list))
        for end, value in zip(("low", "high"), pair, strict=True)
    }
    numbers = {name: value for name, value in {**figures, **ends}.items() if isinstance(value, (int, float))}
    return {name: float(value) for name, value in numbers.items() if not isinstance(value, bool)}


def write_plots(summary: Summary, folder: Path) -> None:
    """The values that `dvc plots` draws and compares between revisions."""
    done = [row for row in summary.here if row.status.ok]
    overview = [
        (row.name, row.accuracy.top1.value, row.speeds[0].latency.p50_ms, round((row.size_bytes or 0) / 1e6, 3))
        for row in done
        if row.accuracy and row.speeds
    ]
    files.write_csv(folder / "variants.csv", ("variant", "top1", "p50_ms", "size_mb"), overview)
    latencies = [
        (row.name, speed.batch_size, speed.latency.p50_ms, speed.latency.throughput_ips)
        for row in done
        for speed in row.speeds
    ]
    files.write_csv(folder / "latency.csv", ("variant", "batch_size", "p50_ms", "throughput_ips"), latencies)


def write_classes(summary: Summary, labels: Labels, folder: Path) -> None:
    """Class by class what each evaluated variant gets right."""
    for row in summary.here:
        if row.accuracy:
            answers = predictions.read(predictions_path(row.name))
            ClassReport.from_predictions(answers).write(folder, row.name, labels)
