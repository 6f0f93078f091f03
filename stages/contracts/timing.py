"""reports/benchmark.json and samples.csv: what the timing saw, raw; statistics come later, from these files alone."""

import math
import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ..core import files
from .cpu import CpuUse
from .status import Status

TIMING = Path("reports/benchmark.json")
SAMPLES = Path("reports/samples.csv")
# What is timed: `run` alone on a settled input tensor, and the whole way from NumPy array to NumPy array.
TERMS = ("latency", "latency_host")
# What the GPU does in one inference from host to host.
PARTS = ("input_copy", "compute", "output_copy")
HEADER = ("variant", "batch_size", "term", "repeat", "block", "ms")


@dataclass(frozen=True)
class Parts:
    """Median milliseconds of the copies and of the compute inside `latency_host`, by the GPU's own clock."""

    input_copy: float
    compute: float
    output_copy: float


@dataclass(frozen=True)
class GpuState:
    """One GPU at one moment; values that its driver does not tell are None."""

    sm_clock_mhz: int | None
    memory_clock_mhz: int | None
    temperature_c: int | None
    power_w: float | None
    throttled_by: tuple[str, ...]


@dataclass(frozen=True)
class WarmUp:
    """First call at a batch size, and calls until the median of each term was stable, or time was up.

    `call_ms` by term sizes the blocks, and is quoted nowhere.
    """

    first_inference_ms: float
    calls: int
    stable: bool
    call_ms: dict[str, float]


@dataclass(frozen=True)
class Memory:
    """Whether a GPU computes, most memory the process had resident, and most GPU memory its runtime held."""

    on_gpu: bool
    peak_memory_bytes: int
    gpu_peak_memory_bytes: int | None


@dataclass(frozen=True)
class GpuWatch:
    """GPU memory of the process by NVML, processes of others, and the state of the GPU after each block."""

    process_memory_bytes: int | None
    other_processes: int | None
    states: tuple[GpuState, ...]


@dataclass(frozen=True)
class RepeatTiming:
    """One fresh process of a variant: by batch size its warm-up, who used the CPUs in each block, and how many blocks
    were timed again since others did.
    """

    load_ms: float
    memory: Memory
    warm_up: dict[str, WarmUp]
    gpu: GpuWatch | None = None
    # Empty where the system does not tell.
    cpu: dict[str, tuple[CpuUse, ...]] = field(default_factory=dict)
    # By batch size all blocks of all variants, with the time between them: it tells where blocks are too short.
    window: dict[str, CpuUse] = field(default_factory=dict)
    retimed: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class VariantTiming:
    """All repeats of a variant; none where one of them failed."""

    status: Status
    repeats: tuple[RepeatTiming, ...] = ()

    @property
    def fault(self) -> str | None:
        """Why these cannot be the repeats of a timing that ended well; None where they can."""
        if not self.repeats:
            return "no repeats"
        keys = [size for repeat in self.repeats for size in repeat.warm_up]
        wrong = [size for size in keys if not re.fullmatch("[1-9][0-9]*", size)]
        if wrong:
            return f"`{wrong[0]}` is no batch size"
        if any(
            use.seconds <= 0 or use.cpus < 1 for repeat in self.repeats for uses in repeat.cpu.values() for use in uses
        ):
            return "a block without time or CPUs"
        alike = all(repeat.warm_up.keys() == self.repeats[0].warm_up.keys() for repeat in self.repeats)
        return None if keys and alike else "no batch sizes, or not the same in all repeats"


@dataclass(frozen=True)
class Timing:
    """One run in which all variants were timed in turns, each latency in so many blocks or more.

    `max_foreign_cpu` is the share of the CPUs that others might take; None where nobody looked.
    """

    SCHEMA: ClassVar[int] = 1

    blocks: int
    variants: dict[str, VariantTiming]
    max_foreign_cpu: float | None = None

    @property
    def came_to_nothing(self) -> bool:
        """Whether all was lost together: the stage was ended, or its worker of a cluster."""
        failed = [not variant.status.ok for variant in self.variants.values()]
        return self.max_foreign_cpu is None and any(failed) and all(failed)


@dataclass(frozen=True, order=True)
class Series:
    """What a set of timed calls is of; `term` is one of TERMS or PARTS."""

    variant: str
    batch_size: int
    term: str


# Milliseconds of each call, by repeat and block, in the order they were made.
Repeats = list[list["array[float]"]]
Sample = tuple[str, int, str, int, int, float]


def write_samples(samples: Iterable[Sample], path: Path = SAMPLES) -> None:
    """One line per call: variant, batch size, term, repeat, block and milliseconds with six digits."""
    files.write_csv(path, HEADER, ((*where, f"{ms:.6g}") for *where, ms in samples))


def read_samples(path: Path = SAMPLES) -> dict[Series, Repeats]:
    """The inverse of `write_samples`, 8 bytes a call; PipelineError for a missing or damaged table."""
    calls: dict[Series, Repeats] = {}

    def add(line: dict[str, str]) -> None:
        series = Series(line["variant"], int(line["batch_size"]), line["term"])
        block = _block(calls.setdefault(series, []), int(line["repeat"]), int(line["block"]))
        block.append(_positive(float(line["ms"])))

    for _ in files.parse_csv(path, add, "timed calls"):
        pass
    return calls


def _block(repeats: Repeats, repeat: int, block: int) -> "array[float]":
    """Where a call goes; ValueError unless they come in order and without gaps."""
    if repeat == len(repeats):
        repeats.append([])
    blocks = repeats[-1] if repeats else []
    if block == len(blocks):
        blocks.append(array("d"))
    if min(repeat, block) < 0 or (repeat, block) != (len(repeats) - 1, len(blocks) - 1):
        raise ValueError(f"repeat {repeat}, block {block} out of order")
    return blocks[-1]


def _positive(ms: float) -> float:
    if not 0 < ms < math.inf:
        raise ValueError(f"a call of {ms} ms")
    return ms
