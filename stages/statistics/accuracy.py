"""Accuracy from raw values, and the names of the figures that every variant has."""

from typing import Any

# The figures of a variant that are one number each; latencies come by batch size.
NUMBERS = (
    "top1",
    "top5",
    "agreement",
    "macro_f1",
    "ece",
    "first_inference_ms",
    "load_ms",
    "convert_s",
    "size_bytes",
    "peak_memory_bytes",
)


def wilson_ci95(correct: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % score interval for a share (Wilson 1927, JASA 22:209): honest near 0, near 1 and for 20 images."""
    from scipy.stats import binomtest  # takes a second to import, and only `summarize` needs it

    interval = binomtest(correct, total).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def plain(record: dict[str, Any]) -> dict[str, float]:
    """The numbers of a record under flat names, the ends of an interval as NAME_low and NAME_high; no nulls."""
    ends = {
        f"{name}_{end}": value
        for name, pair in record.items()
        if "_ci95" in name and pair is not None
        for end, value in zip(("low", "high"), pair, strict=True)
    }
    return {name: float(value) for name, value in (record | ends).items() if type(value) in (int, float)}
