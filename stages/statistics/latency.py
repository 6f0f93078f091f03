"""Latency from timed calls: percentiles with intervals that hold although calls in a row resemble each other."""

import math
import statistics
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from stages.contracts.row import Interval, Latency

# Calls in a row make a block, blocks of one variant spread over the whole run make a repeat: milliseconds.
Block = Sequence[float]
Repeat = Sequence[Block]

# MLPerf's single-stream scenario quotes a percentile once so many calls bound it with this confidence.
EARLY_STOPPING_CONFIDENCE = 0.99
# trtexec warns above this coefficient of variation (NVIDIA/TensorRT, samples/common/sampleReporting.cpp).
STEADY_CV = 0.025


def summarize(repeats: Sequence[Repeat], batch_size: int) -> Latency:
    """Statistics of the calls of all repeats, each call an answer to `batch_size` images."""
    calls = np.concatenate([block for repeat in repeats for block in repeat])
    mean = float(np.mean(calls))
    medians = tuple(float(np.median(np.concatenate(repeat))) for repeat in repeats)
    return Latency(
        p50_ms=float(np.median(calls)),
        p90_ms=_quoted(calls, 0.9),
        p99_ms=_quoted(calls, 0.99),
        p50_ci95_ms=across_repeats95(repeats, 0.5),
        p90_ci95_ms=across_repeats95(repeats, 0.9),
        p99_ci95_ms=across_repeats95(repeats, 0.99),
        mean_ms=mean,
        throughput_ips=batch_size * 1000 / mean,
        samples=len(calls),
        repeat_p50_ms=medians,
        repeat_cv=statistics.stdev(medians) / statistics.mean(medians) if len(medians) > 1 else None,
    )


@cache
def calls_needed(quantile: float) -> int:
    """Fewest calls from which MLPerf's early-stopping rule quotes that quantile: 64 for p90, 662 for p99.

    The rule: if the quantile were any worse, at most one call would be slower with a chance of no more than 1 %
    (mlcommons/inference_policies, "Early Stopping Criterion").
    """
    from scipy.stats import binom

    calls = 1
    while binom.cdf(1, calls, 1 - quantile) > 1 - EARLY_STOPPING_CONFIDENCE:
        calls += 1
    return calls


def _quoted(calls: npt.NDArray[np.float64], quantile: float) -> float | None:
    """The percentile, or None where MLPerf would not quote it from so few calls."""
    return float(np.quantile(calls, quantile)) if len(calls) >= calls_needed(quantile) else None


def across_repeats95(repeats: Sequence[Repeat], quantile: float) -> Interval:
    """For a typical process: the interval of all blocks, widened to Student's t on the logarithms of the repeats' own.

    Fresh processes differ by more than the blocks of one of them tell. A single repeat cannot know by how much, so its
    interval holds for that run alone.
    """
    from scipy.stats import t

    low, high = interval95([block for repeat in repeats for block in repeat], quantile)
    if len(repeats) == 1:
        return low, high
    logarithms = [math.log(np.quantile(np.concatenate(repeat), quantile)) for repeat in repeats]
    middle = statistics.mean(logarithms)
    reach = t.ppf(0.975, len(repeats) - 1) * statistics.stdev(logarithms) / math.sqrt(len(repeats))
    return (
        None if low is None else min(low, math.exp(middle - reach)),
        None if high is None else max(high, math.exp(middle + reach)),
    )


def interval95(blocks: Sequence[Block], quantile: float) -> Interval:
    """Woodruff's interval for a quantile from order statistics (1952, JASA 47:635), with blocks as clusters.

    The share of calls below the quantile varies between blocks as a bootstrap over them would find, here in closed
    form and with Student's t, since ten blocks are few: a percentile bootstrap over them covers 71 to 91 %. The share
    is never taken to vary less than with independent calls. Its interval is the wider one of the linear and the logit
    scale at each end, as a share near 1 is skewed. tests/statistics/test_latency.py has the coverage.
    """
    from scipy.special import expit, logit
    from scipy.stats import t

    calls = np.sort(np.concatenate(blocks))
    count = len(calls)
    estimate = np.quantile(calls, quantile, method="inverted_cdf")
    shares = [float(np.mean(np.asarray(block) <= estimate)) for block in blocks]
    variance = quantile * (1 - quantile)
    error = max(statistics.stdev(shares) / math.sqrt(len(blocks)), math.sqrt(variance / count))
    reach = t.ppf(0.975, len(blocks) - 1) * error
    low = min(quantile - reach, expit(logit(quantile) - reach / variance))
    high = max(quantile + reach, expit(logit(quantile) + reach / variance))
    first, last = math.floor(count * low), math.ceil(count * high) + 1
    return float(calls[first - 1]) if first >= 1 else None, float(calls[last - 1]) if last <= count else None
