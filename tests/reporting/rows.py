"""Rows as `summarize` makes them, by hand: what a test does not name is the same in each."""

from dataclasses import replace

from stages.contracts.conversion import Conversion, Proof
from stages.contracts.row import (
    HERE,
    Accuracy,
    Change,
    ClassAverages,
    ClassChange,
    Footprint,
    Latency,
    Row,
    Share,
    Speed,
    Summary,
)
from stages.contracts.selection import Judged, Limits, Selection
from stages.contracts.status import OK, Status
from stages.contracts.timing import Parts
from stages.contracts.variant import Variant
from tests.fixtures.records import CPU_MACHINE, PROOF, SETS, TINY, environment

AVERAGES = ClassAverages(1.0, 0.75, 0.857, 1.0, 0.75, 0.857, 0.25)
# One image of four lost.
DROP = Change(4, 1, 1, 0, 0.25, (-0.362, 0.699), (0.0, 0.75), 1.0, (ClassChange(0, 4, 1, 0),), 1.0)
NO_GPU = Status("skipped", "no NVIDIA GPU")
NO_MEMORY = Status("failed", "no memory", "convert")


def latency(p50: float) -> Latency:
    """Of 100 calls, from which no p99 is quoted."""
    around, above = (p50 - 0.5, p50 + 0.5), (p50, None)
    return Latency(p50, p50 + 1, None, around, above, (None, None), p50, 9.5, 100, (p50,), None)


def speed(p50: float, batch_size: int = 1, parts: Parts | None = None) -> Speed:
    """From host to host it takes a millisecond more."""
    return Speed(batch_size, 30.0, latency(p50 * batch_size), latency(p50 * batch_size + 1), parts)


def accuracy(correct: int = 3, images: int = 4, change: Change | None = None) -> Accuracy:
    """With intervals of 20 points either way."""
    share = correct / images
    ends = (share - 0.2, share + 0.2)
    agreement = (change.images - change.changed) / change.images if change else None
    return Accuracy(Share(correct, images, ends), Share(images, images, ends), AVERAGES, agreement, change)


def row(name: str, p50: float = 4.0, proof: Proof = PROOF, size: int = 2_000_000, **changes: object) -> Row:
    """A variant that ran, with batches of 1 and 8."""
    variant = Variant.parse(name)
    done = Row(
        variant=variant,
        status=OK,
        conversion=Conversion(variant, OK, 1.5, {"model": size}, "f" * 64, proof),
        accuracy=accuracy(),
        speeds=(speed(p50), speed(p50, 8)),
        load_ms=12.5,
        footprint=Footprint(False, 300_000_000, None, None),
    )
    return replace(done, **changes)  # type: ignore[arg-type]


def stopped(name: str, status: Status = NO_GPU) -> Row:
    """A variant that could not be converted."""
    return Row(Variant.parse(name), status)


BASELINE = row("savedmodel-fp32")
INT8 = row("tflite-int8", 2.0, accuracy=accuracy(2, change=DROP))
# Two variants that ran, two that were skipped for one reason, one that failed.
MIXED = (BASELINE, stopped("tftrt-fp32"), stopped("tftrt-int8"), stopped("tflite-fp32", NO_MEMORY), INT8)


def summary(*rows: Row) -> Summary:
    """Of these rows on a machine without a GPU."""
    return Summary(TINY, {HERE: environment(CPU_MACHINE)}, SETS.evaluation, SETS.calibration, None, rows)


LIMITS = Limits(0.01, None, 1, None, None)
SELECTION = Selection(
    params="p" * 64,
    objective="latency",
    batch_size=1,
    budget=LIMITS,
    outcome="selected",
    headline="Ship tflite-int8",
    sentence="Ship tflite-int8 (2 ms), the best of 2 within budget.",
    winner="tflite-int8",
    rivals=(),
    nearest_miss=None,
    pareto=("tflite-int8",),
    variants={
        "savedmodel-fp32": Judged(True, None, None, "4 ms against the 2 ms of tflite-int8"),
        "tflite-int8": Judged(True, "within", None, None),
    },
)
