import numpy as np
import pytest

from stages.contracts.predictions import top_k
from stages.statistics.accuracy import plain, wilson_ci95


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        (18, 20, 0.6990, 0.9721),
        # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
    ],
)
def test_wilson_matches_published_values(correct: int, total: int, low: float, high: float) -> None:
    assert wilson_ci95(correct, total) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_wilson_of_none_and_of_all_stays_inside_0_and_1() -> None:
    assert wilson_ci95(0, 5)[0] == 0
    assert wilson_ci95(5, 5)[1] == 1
    assert 0 < wilson_ci95(0, 5)[1] < 1


def test_top_k_is_best_first_and_per_row() -> None:
    found = top_k(np.array([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]], np.float32), 2)
    assert found.tolist() == [[1, 2], [0, 2]]


def test_top_k_gives_ties_to_the_lower_class() -> None:
    values = np.zeros((1, 1000), np.float32)
    values[0, [7, 900, 12]] = 0.25
    assert top_k(values).tolist() == [[7, 12, 900, 0, 1]]


def test_top_k_asks_for_no_more_than_there_is() -> None:
    assert top_k(np.array([[0.1, 0.9]], np.float32), 5).tolist() == [[1, 0]]


def test_plain_numbers_have_the_ends_of_intervals_and_no_nulls() -> None:
    record = {"top1": 0.5, "top1_ci95": (0.25, 0.75), "p99_ci95_ms": [3, None], "top5_ci95": None, "n": 4, "name": "a"}
    assert plain(record) == {"top1": 0.5, "n": 4, "top1_ci95_low": 0.25, "top1_ci95_high": 0.75, "p99_ci95_ms_low": 3}
