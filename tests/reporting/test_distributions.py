from array import array

import numpy as np

from stages.contracts.timing import Repeats, Series
from stages.reporting import distributions
from stages.reporting.distributions import Spread
from tests.reporting.reader import Reader
from tests.reporting.rows import BASELINE, INT8, MIXED, NO_MEMORY, stopped

HUNDRED = [[array("d", range(1, 51))], [array("d", range(51, 100)), array("d", [100])]]
CALLS: dict[Series, Repeats] = {
    Series("savedmodel-fp32", 1, "latency"): HUNDRED,
    Series("savedmodel-fp32", 1, "latency_host"): [[array("d", [900])]],
    Series("savedmodel-fp32", 8, "latency"): [[array("d", [800])]],
    Series("tflite-fp32", 1, "latency"): [[array("d", [700])]],
}


def test_a_spread_is_of_all_calls_of_run_alone_at_that_batch_size() -> None:
    (spread,) = distributions.spreads(MIXED, CALLS, 1)
    assert spread.name == "savedmodel-fp32" and sorted(spread.calls) == list(range(1, 101))
    percentiles = (spread.first, spread.low, spread.middle, spread.high, spread.last)
    assert np.allclose(percentiles, (1.99, 25.75, 50.5, 75.25, 99.01))


def test_a_variant_that_was_timed_but_failed_elsewhere_has_no_line() -> None:
    assert distributions.spreads([stopped("tflite-fp32", NO_MEMORY)], CALLS, 1) == []


def test_figures_in_words_are_those_of_the_spread() -> None:
    chart = distributions.distributions(distributions.spreads(MIXED, CALLS, 1), 1)
    assert Reader(chart).texts("desc") == [
        "savedmodel-fp32: 100 calls, median 50.50 ms, half of them from 25.75 to 75.25 ms, 98 % from 1.99 to 99.01 ms."
    ]
    assert "50.50 ms" in Reader(chart).texts("text")


def test_equal_calls_and_a_single_one_can_be_drawn() -> None:
    for calls in (np.array([4.0]), np.full(9, 4.0)):
        assert distributions.distributions([Spread("savedmodel-fp32", "#020000", calls, *[4.0] * 5)], 1)


def test_without_calls_there_is_no_chart() -> None:
    assert distributions.distributions(distributions.spreads([BASELINE, INT8], {}, 1), 1) is None
