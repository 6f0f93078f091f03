"""A row of the summary as MLflow's metrics, under the names that its tables and charts show."""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from typing import NamedTuple

from stages.contracts.conversion import Proof
from stages.contracts.row import Accuracy, Row, Speed
from stages.contracts.system import Sample
from stages.contracts.training import QatTraining, Run
from stages.statistics.tables import flat, latency_figures

# Families of a proof's facts that are worth a column for each member; other dotted facts stay in convert.json.
FAMILIES = ("engine_build_s", "ops_outside")


class Point(NamedTuple):
    """One metric value; without a time, that of its being logged."""

    name: str
    value: float
    step: int
    time_ms: int | None = None


def of_row(row: Row) -> list[Point]:
    """Every number of a row; the step of a latency is its batch size, so that MLflow draws it by batch.

    MLflow's table of runs shows the last step alone, so that medians and throughput are there by name too.
    """
    single = [Point(name, value, 0) for name, value in flat(_single(row)).items()]
    return [*single, *chain.from_iterable(map(_at_batch_size, row.speeds))]


def _single(row: Row) -> dict[str, object]:
    conversion, footprint = row.conversion, row.footprint
    return (
        (_proof(conversion.proof) if conversion and conversion.proof else {})
        | (_accuracy(row.accuracy) if row.accuracy else {})
        | (asdict(footprint) if footprint else {})
        | {
            "first_inference_ms": row.speeds[0].first_inference_ms if row.speeds else None,
            "load_ms": row.load_ms,
            "convert_s": conversion and conversion.seconds,
            "size_bytes": row.size_bytes,
        }
    )


def _proof(proof: Proof) -> dict[str, object]:
    facts = {name: value for name, value in proof.facts.items() if "." not in name or name.startswith(FAMILIES)}
    return {**facts, **{f"{precision}_layers": count for precision, count in proof.layers.items()}}


def _accuracy(accuracy: Accuracy) -> dict[str, object]:
    trained = accuracy.change_from_int8
    return {
        "top1": accuracy.top1.value,
        "top1_ci95": accuracy.top1.ci95,
        "top5": accuracy.top5.value,
        "top5_ci95": accuracy.top5.ci95,
        "agreement": accuracy.agreement,
        "won_back_points": trained and trained.points_won,
        "won_back_points_ci95": trained and trained.points_won_ci95,
        **asdict(accuracy.averages),
    }


def _at_batch_size(speed: Speed) -> Iterator[Point]:
    size, latency = speed.batch_size, speed.latency
    parts = {f"{name}_ms": ms for name, ms in asdict(speed.parts_ms).items()} if speed.parts_ms else {}
    host = latency_figures(speed.latency_host) | parts
    yield from (Point(name, value, size) for name, value in latency_figures(latency).items())
    yield from (Point(f"host_{name}", value, size) for name, value in host.items())
    yield Point(f"p50_ms.batch{size}", latency.p50_ms, 0)
    yield Point(f"throughput_ips.batch{size}", latency.throughput_ips, 0)


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
