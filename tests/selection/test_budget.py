from dataclasses import replace

import pytest

from stages.contracts.row import Change, Interval
from stages.contracts.selection import Limits
from stages.core.errors import PipelineError
from stages.selection.budget import UNDECIDED, Measured, Miss, judge, measured
from tests.fixtures.summaries import UNBOUNDED, change, latency, row, with_p99

NONE = Limits(None, None, 1, None, None)
BASELINE, INT8 = "savedmodel-fp32", "tflite-int8"


def variant(drop: Change | None = None, name: str = INT8) -> Measured:
    return measured(row(name, change=drop, latencies={1: latency(4.0), 8: latency(2.0)}), 1, 8)


def test_what_is_measured_is_read_at_the_batch_sizes_of_the_question() -> None:
    found = variant()
    assert (found.latency.p50_ms, found.p99.p50_ms) == (4, 2)
    # The most images/s at any batch size.
    assert found.throughput_ips == 500


@pytest.mark.parametrize("lacking", ["accuracy", "footprint", "conversion", "speeds"])
def test_a_figure_that_is_missing_is_an_error_that_names_the_variant(lacking: str) -> None:
    incomplete = replace(row(INT8), **{lacking: () if lacking == "speeds" else None})
    with pytest.raises(PipelineError) as caught:
        measured(incomplete, 1, 1)
    assert caught.value.code == "figure-missing"
    assert caught.value.values == {"variant": INT8, "batch_size": 1, "p99_batch_size": 1}


def test_without_limits_every_variant_is_eligible_and_none_is_judged() -> None:
    found = judge(variant(), NONE)
    assert (found.eligible, found.verdict, found.images_needed, found.misses) == (True, None, None, ())


@pytest.mark.parametrize(
    ("drop", "verdict", "needed"),
    [
        (change(3, 2, 10_000), "within", None),
        (change(400, 100, 10_000), "exceeds", None),
        (change(0, 0, 20), "cannot tell", 780),
        # A drop that is the limit itself is told by no number of images.
        (change(4, 0, 400), "cannot tell", None),
        (None, "cannot tell", None),
    ],
)
def test_a_drop_is_judged_by_its_whole_interval(drop: Change | None, verdict: str, needed: int | None) -> None:
    found = judge(variant(drop), replace(NONE, max_top1_drop=0.01))
    assert (found.verdict, found.images_needed, found.eligible) == (verdict, needed, verdict == "within")
    assert found.undecided == (verdict != "exceeds")


def test_the_baseline_drops_by_nothing() -> None:
    assert judge(variant(name=BASELINE), replace(NONE, max_top1_drop=0.0)).verdict == "within"


def test_the_excess_of_a_drop_is_in_shares_of_the_limit() -> None:
    (miss,) = judge(variant(change(400, 100, 10_000)), replace(NONE, max_top1_drop=0.01)).misses
    assert miss == Miss("drop", pytest.approx(2))
    # Against a limit of 0, of one point.
    (miss,) = judge(variant(change(400, 100, 10_000)), replace(NONE, max_top1_drop=0.0)).misses
    assert miss.excess == pytest.approx(3)


@pytest.mark.parametrize(
    ("ci95", "misses"),
    [
        ((15.0, 20.0), ()),
        ((15.0, 21.0), (Miss("p99"),)),
        ((15.0, None), (Miss("p99"),)),
        (UNBOUNDED, (Miss("p99"),)),
        ((20.5, 40.0), (Miss("p99", pytest.approx(0.5)),)),
        ((20.5, None), (Miss("p99", pytest.approx(0.5)),)),
    ],
)
def test_a_p99_is_judged_by_its_whole_interval(ci95: Interval, misses: tuple[Miss, ...]) -> None:
    one = replace(variant(), p99=with_p99(2.0, 30.0, ci95))
    assert judge(one, replace(NONE, max_p99_ms=20)).misses == misses


def test_a_p99_from_too_few_calls_cannot_be_told() -> None:
    assert judge(variant(), replace(NONE, max_p99_ms=50)).misses == (Miss("p99", UNDECIDED),)


def test_bytes_are_known_exactly() -> None:
    limits = replace(NONE, max_size_bytes=2_000_000, max_peak_memory_bytes=200_000_000)
    found = judge(variant(), limits)
    assert found.misses == (Miss("memory", pytest.approx(0.5)),)
    assert (found.eligible, found.undecided, found.excess) == (False, False, pytest.approx(0.5))


def test_a_limit_that_is_just_reached_is_kept() -> None:
    limits = replace(NONE, max_size_bytes=2_000_000, max_peak_memory_bytes=300_000_000, max_p99_ms=20.0)
    one = replace(variant(), p99=with_p99(2.0, 18.0, (15.0, 20.0)))
    assert judge(one, limits).misses == ()
    less = replace(limits, max_size_bytes=1_999_999, max_peak_memory_bytes=299_999_999)
    assert [miss.limit for miss in judge(one, less).misses] == ["size", "memory"]


@pytest.mark.parametrize(
    ("ci95", "verdict"),
    [
        ((0.0, 0.01), "within"),
        ((0.0, 0.0101), "cannot tell"),
        ((0.01, 0.02), "cannot tell"),
        ((0.0101, 0.02), "exceeds"),
    ],
)
def test_a_drop_whose_interval_ends_at_the_limit(ci95: tuple[float, float], verdict: str) -> None:
    drop = replace(change(3, 2, 10_000), drop_ci95=ci95)
    assert judge(variant(drop), replace(NONE, max_top1_drop=0.01)).verdict == verdict


def test_a_p99_whose_interval_begins_at_the_limit_may_keep_it() -> None:
    one = replace(variant(), p99=with_p99(2.0, 30.0, (20.0, 40.0)))
    assert judge(one, replace(NONE, max_p99_ms=20)).misses == (Miss("p99"),)


def test_every_limit_that_is_missed_is_there() -> None:
    found = judge(variant(change(400, 100, 10_000)), Limits(0.01, 50, 8, 1_000_000, 100_000_000))
    assert [miss.limit for miss in found.misses] == ["drop", "p99", "size", "memory"]
    assert found.excess == UNDECIDED
