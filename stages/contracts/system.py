"""What the machine did while a stage worked, once a second: V/convert_system.csv and V/evaluate_system.csv."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..core import files
from .conversion import record


class Sample(NamedTuple):
    """The machine at one moment, under the names of MLflow's own system metrics; None where no GPU tells."""

    time_ms: int
    cpu_utilization_percentage: float | None
    system_memory_usage_megabytes: float | None
    gpu_0_utilization_percentage: float | None
    gpu_0_memory_usage_megabytes: float | None
    gpu_0_power_usage_watts: float | None


def system_path(variant: str, stage: str) -> Path:
    """Of the samples that `convert` or `evaluate` took."""
    return record(variant, f"{stage}_system.csv")


def write(samples: Sequence[Sample], path: Path) -> None:
    """One line per sample; what is None is an empty cell."""
    files.write_csv(path, Sample._fields, samples)


def read(path: Path) -> list[Sample]:
    """In the order of time; empty where the file is missing."""
    if not path.exists():
        return []
    lines = (row.values() for _, row in files.read_csv(path))
    return [Sample(int(when), *(float(cell) if cell else None for cell in cells)) for when, *cells in lines]
