from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import norm

from stages.contracts import codec
from stages.contracts.row import Latency
from stages.core.errors import PipelineError
from stages.statistics.latency import across_repeats95, calls_needed, interval95, summarize

Calls = npt.NDArray[np.float64]


def one_block(*ms: float) -> Latency:
    return summarize([[list(ms), list(ms)]], 1)


def test_percentiles_and_mean() -> None:
    found = summarize([[list(range(101))] * 7], 1)
    assert (found.p50_ms, found.p90_ms, found.p99_ms, found.mean_ms, found.samples) == (50, 90, 99, 50, 707)


def test_the_order_of_calls_within_blocks_does_not_matter() -> None:
    assert summarize([[[3, 1], [2, 4]]], 1) == summarize([[[1, 3], [4, 2]]], 1)


def test_throughput_is_images_by_the_mean_time() -> None:
    assert summarize([[[10, 30], [10, 30]]], 8).throughput_ips == pytest.approx(8 / 0.02)
    assert one_block(4).throughput_ips == pytest.approx(250)


@pytest.mark.parametrize(("quantile", "calls"), [(0.5, 11), (0.9, 64), (0.95, 130), (0.99, 662)])
def test_calls_needed_are_mlperfs(quantile: float, calls: int) -> None:
    assert calls_needed(quantile) == calls


@pytest.mark.parametrize(
    ("calls", "p90", "p99"), [(63, False, False), (64, True, False), (661, True, False), (662, True, True)]
)
def test_a_percentile_of_too_few_calls_is_not_quoted(calls: int, p90: bool, p99: bool) -> None:
    found = summarize([[np.arange(calls - 9.0), np.arange(9.0)]], 1)
    assert (found.p90_ms is not None, found.p99_ms is not None) == (p90, p99)


def test_repeats_have_a_spread_and_one_has_none() -> None:
    found = summarize([[[9.0] * 4] * 3, [[10.0] * 4] * 3, [[11.0] * 4] * 3], 1)
    assert found.repeat_p50_ms == (9, 10, 11)
    assert found.repeat_cv == pytest.approx(0.1)
    assert found.samples == 36
    alone = summarize([[[9.0] * 4] * 3], 1)
    assert (alone.repeat_p50_ms, alone.repeat_cv) == ((9,), None)


def test_an_end_that_so_few_calls_cannot_bound_is_none() -> None:
    low, high = interval95([np.arange(10.0)] * 10, 0.99)
    assert high is None
    assert low is not None
    assert interval95([[1.0, 2.0], [3.0, 4.0]], 0.5) == (None, None)


def test_blocks_that_differ_widen_the_interval_and_equal_calls_have_none() -> None:
    generator = np.random.default_rng(0)
    alike = generator.normal(100, 1, (10, 10))
    apart = np.sort(alike.ravel()).reshape(10, 10)  # the same calls, each block at another level
    (low, high), (wide_low, wide_high) = interval95(list(alike), 0.5), interval95(list(apart), 0.5)
    assert low and high and wide_low and wide_high
    assert wide_low < low < 100 < high < wide_high
    assert interval95([[2.0] * 10] * 10, 0.5) == (2, 2)


# Calls as a benchmark makes them, ten blocks of one variant, with a known distribution: lognormal, sigma 0.3.


def independent(generator: np.random.Generator, blocks: int, calls: int) -> Calls:
    return np.exp(0.3 * generator.normal(size=(blocks, calls)))


def autocorrelated(generator: np.random.Generator, blocks: int, calls: int) -> Calls:
    """AR(1) within a block, correlation 0.9 from call to call."""
    state = generator.normal(size=blocks)
    found = [state]
    for _ in range(calls - 1):
        state = 0.9 * state + np.sqrt(1 - 0.9**2) * generator.normal(size=blocks)
        found.append(state)
    return np.exp(0.3 * np.stack(found, axis=1))


def drifting(generator: np.random.Generator, blocks: int, calls: int) -> Calls:
    """A third of the variance is between blocks."""
    shared, own = generator.normal(size=(blocks, 1)), generator.normal(size=(blocks, calls))
    return np.exp(0.3 * (np.sqrt(1 / 3) * shared + np.sqrt(2 / 3) * own))


@pytest.mark.parametrize("draw", [independent, autocorrelated, drifting])
@pytest.mark.parametrize(("quantile", "calls"), [(0.5, 10), (0.9, 10), (0.99, 67)])
def test_intervals_cover_at_least_as_often_as_they_say(
    draw: Callable[[np.random.Generator, int, int], Calls], quantile: float, calls: int
) -> None:
    generator = np.random.default_rng(7)
    truth = np.exp(0.3 * norm.ppf(quantile))
    found = [interval95(list(draw(generator, 10, calls)), quantile) for _ in range(600)]
    covered = [(low is None or low <= truth) and (high is None or truth <= high) for low, high in found]
    assert np.mean(covered) >= 0.95


@pytest.mark.parametrize("repeats", [2, 3, 5])
@pytest.mark.parametrize(("quantile", "calls"), [(0.5, 10), (0.9, 10), (0.99, 34)])
@pytest.mark.parametrize("spread", [0.02, 0.1])
def test_intervals_cover_although_fresh_processes_differ(
    repeats: int, quantile: float, calls: int, spread: float
) -> None:
    """A process is faster or slower as a whole; the truth is the quantile of a typical one."""
    # Student's t is exact here, so it covers 95 % and no more: two standard errors of 400 draws are allowed for.
    generator = np.random.default_rng(7)
    truth = np.exp(0.1 * norm.ppf(quantile))
    covered = []
    for _ in range(400):
        levels = np.exp(spread * generator.normal(size=repeats))
        calls_of = [level * np.exp(0.1 * generator.normal(size=(10, calls))) for level in levels]
        low, high = across_repeats95([list(found) for found in calls_of], quantile)
        covered.append((low is None or low <= truth) and (high is None or truth <= high))
    assert np.mean(covered) >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / 400)


def test_repeats_that_differ_widen_the_interval() -> None:
    generator = np.random.default_rng(0)
    same = [list(generator.normal(100, 1, (10, 10))) for _ in range(3)]
    apart = [[block * level for block in repeat] for repeat, level in zip(same, (0.95, 1.0, 1.05), strict=True)]
    low, high = across_repeats95(apart, 0.5)
    assert low is not None and high is not None
    assert low < 93 and high > 107
    assert across_repeats95(same[:1], 0.5) == interval95(same[0], 0.5)


def test_intervals_of_independent_calls_are_hardly_wider_than_they_must_be() -> None:
    """An interval from nought to infinity would cover, too."""
    generator = np.random.default_rng(7)
    found = [interval95(list(independent(generator, 10, 10)), 0.5) for _ in range(200)]
    widths = [high - low for low, high in found if low is not None and high is not None]
    assert len(widths) == 200
    # The exact binomial interval of 100 independent calls: ranks 40 to 61.
    exact = np.mean([np.subtract(*np.sort(generator.lognormal(0, 0.3, 100))[[60, 39]]) for _ in range(200)])
    assert np.mean(widths) < 1.35 * exact


@dataclass(frozen=True)
class Record:
    SCHEMA: ClassVar[int] = 1

    latency: Latency


def test_a_latency_is_read_as_it_was_written() -> None:
    record = Record(summarize([[[1.0, 2.0], [1.5, 2.5]], [[1.0, 3.0], [2.0, 2.0]]], 8))
    assert record.latency.p99_ms is None
    assert codec.decode(Record, codec.encode(record, "a record"), "a record") == record


def test_a_call_that_took_no_finite_time_reaches_no_record() -> None:
    record = Record(one_block(1.0, float("nan")))
    with pytest.raises(PipelineError) as caught:
        codec.encode(record, "a record")
    assert (caught.value.code, caught.value.values["field"]) == ("record-not-finite", "latency.p50_ms")
