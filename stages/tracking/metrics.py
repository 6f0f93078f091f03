"""A row of the summary as MLflow's metrics, under the names that its tables and charts show."""

from dataclasses import asdict
from typing import NamedTuple

from stages.contracts.row import Accuracy, Row
from stages.contracts.system import Sample
from stages.contracts.training import QatTraining, Run
from stages.statistics.tables import flat

# Columns beyond these make MLflow's table of runs unreadable; with what the machine did, of which Sample has five.
MOST = 25 - len(Sample._fields[1:])


Values = dict[str, float | None]


class Point(NamedTuple):
    """One metric value; without a time, that of its being logged."""

    name: str
    value: float
    step: int
    time_ms: int | None = None


def of_row(row: Row, batch_size: int) -> list[Point]:
    """The numbers of a row, latencies at that batch size, the most telling first; summary.json has all of them.

    A name that holds `.batch8` is of that batch size, and a latency without one of single images: so each column of
    MLflow's table is of one batch size, whatever a run was asked for.
    """
    values = {
        **(_accuracy(row.accuracy) if row.accuracy else {}),
        **_latency(row, batch_size),
        **_footprint(row),
        **{_at("p50_ms", speed.batch_size): speed.latency.p50_ms for speed in row.speeds},
        "load_ms": row.load_ms,
        "convert_s": row.conversion.seconds if row.conversion else None,
        **{_at("throughput_ips", speed.batch_size): speed.latency.throughput_ips for speed in row.speeds},
    }
    known = [Point(name, value, 0) for name, value in values.items() if value is not None]
    return known[:MOST]


def _accuracy(accuracy: Accuracy) -> Values:
    trained, (low, high) = accuracy.change_from_int8, accuracy.top1.ci95
    return {
        "top1": accuracy.top1.value,
        "top1_ci95_low": low,
        "top1_ci95_high": high,
        "top5": accuracy.top5.value,
        "agreement": accuracy.agreement,
        "macro_f1": accuracy.averages.macro_f1,
        "ece": accuracy.averages.ece,
        "won_back_points": trained.points_won if trained else None,
    }


def _latency(row: Row, batch_size: int) -> Values:
    speed = row.speed(batch_size)
    if speed is None:
        return {}
    latency, (low, high) = speed.latency, speed.latency.p50_ci95_ms
    values = {
        "p50_ms": latency.p50_ms,
        "p50_ci95_ms_low": low,
        "p50_ci95_ms_high": high,
        "p90_ms": latency.p90_ms,
        "p99_ms": latency.p99_ms,
        "throughput_ips": latency.throughput_ips,
    }
    return {_at(name, batch_size): value for name, value in values.items()}


def _footprint(row: Row) -> Values:
    memory = row.footprint
    return {
        "size_bytes": row.size_bytes,
        "peak_memory_bytes": memory.peak_memory_bytes if memory else None,
        "gpu_peak_memory_bytes": memory.gpu_peak_memory_bytes if memory else None,
    }


def _at(figure: str, batch_size: int) -> str:
    return figure if batch_size == 1 else f"{figure}.batch{batch_size}"


def of_training(run: Run) -> list[Point]:
    """What a training tells of itself, but for its seed."""
    return [Point(name, value, 0) for name, value in flat(asdict(run)).items() if name != "seed"]


def of_qat(training: QatTraining) -> list[Point]:
    """The same of quantization-aware training, with what it started from."""
    return [*of_training(training.run), *(Point(name, value, 0) for name, value in flat(asdict(training)).items())]


def of_epochs(curve: list[dict[str, float]]) -> list[Point]:
    """A learning curve: the step is the epoch."""
    return [
        Point(name, value, int(epoch["epoch"]))
        for epoch in curve
        for name, value in epoch.items()
        if name not in ("seed", "epoch")
    ]


def of_machine(samples: list[Sample]) -> list[Point]:
    """What the machine did, where MLflow's UI looks for it."""
    return [
        Point(f"system/{name}", value, step, sample.time_ms)
        for step, sample in enumerate(samples)
        for name, value in sample._asdict().items()
        if name != "time_ms" and value is not None
    ]
