"""Accuracy and latency from raw values; the figures live with the code that defines them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# The figures of a variant that are one number each; latencies come by batch size.
NUMBERS = (
    "top1",
    "top5",
    "agreement",
    "first_inference_ms",
    "load_ms",
    "convert_s",
    "size_bytes",
    "peak_memory_bytes",
)


def wilson_ci95(correct: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % score interval for a share (Wilson 1927, JASA 22:209): honest near 0, near 1 and for 20 images."""
    from scipy.stats import binomtest  # takes a second to import, and only `report` needs it

    interval = binomtest(correct, total).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def top_k(probabilities: npt.NDArray[np.float32], k: int = 5) -> npt.NDArray[np.int64]:
    """Best classes of each row [n, classes] -> [n, k], best first; ties go to the lower class."""
    return np.argsort(-probabilities, axis=1, kind="stable")[:, :k]


@dataclass(frozen=True)
class Latency:
    """Statistics of one set of timed calls, in milliseconds; throughput in images per second."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float
    throughput_ips: float
    samples: int

    @classmethod
    def from_samples(cls, milliseconds: Sequence[float], batch_size: int) -> "Latency":
        """Summarise the calls, each of which answered `batch_size` images."""
        p50, p90, p99 = np.percentile(milliseconds, (50, 90, 99))
        mean = float(np.mean(milliseconds))
        return cls(float(p50), float(p90), float(p99), mean, batch_size * 1000 / mean, len(milliseconds))
