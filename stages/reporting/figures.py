"""Figures of a row that tables, charts and the page show alike."""

from collections.abc import Sequence

from stages.contracts.conversion import Proof
from stages.contracts.row import Latency, Row, Summary


def batch_sizes(rows: Sequence[Row]) -> list[int]:
    """Those that any variant was timed with, smallest first."""
    return sorted({speed.batch_size for row in rows for speed in row.speeds})


def latency(row: Row | None, batch_size: int) -> Latency | None:
    """Of `run` alone at a batch size; None where there is none."""
    speed = row.speed(batch_size) if row else None
    return speed.latency if speed else None


def p50_ms(row: Row | None, batch_size: int) -> float | None:
    """Median latency in milliseconds."""
    timed = latency(row, batch_size)
    return timed.p50_ms if timed else None


def speed_up(row: Row, baseline: Row | None, batch_size: int) -> float | None:
    """How many times as fast as the baseline; None where either was not timed."""
    ours, theirs = p50_ms(row, batch_size), p50_ms(baseline, batch_size)
    return theirs / ours if ours and theirs else None


def peak_memory_bytes(row: Row) -> int | None:
    """Most memory that the timed process held."""
    return row.footprint.peak_memory_bytes if row.footprint else None


def proof(row: Row) -> Proof | None:
    """Of the conversion, where the variant has all its figures."""
    return row.conversion.proof if row.conversion and row.status.ok else None


def seconds(row: Row) -> float | None:
    """That the conversion took."""
    return row.conversion.seconds if row.conversion else None


def device_name(summary: Summary, device: str) -> str:
    """The GPU that other rows were measured on; the cluster's name for it where its driver does not tell."""
    gpus = summary.environments[device].machine.gpus
    return gpus[0].name if gpus else device


def find(summary: Summary, name: str | None) -> Row | None:
    """The variant of that name on this machine."""
    return next((row for row in summary.here if row.name == name), None)
