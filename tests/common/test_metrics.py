import numpy as np
import pytest

from stages.common.metrics import Latency, top_k, wilson_ci95


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


def test_latency_percentiles_and_mean() -> None:
    found = Latency.from_samples([float(ms) for ms in range(101)], 1)
    assert (found.p50_ms, found.p90_ms, found.p99_ms, found.mean_ms, found.samples) == (50, 90, 99, 50, 101)


def test_latency_does_not_depend_on_the_order_of_samples() -> None:
    assert Latency.from_samples([3, 1, 2], 1) == Latency.from_samples([1, 2, 3], 1)


def test_throughput_is_images_by_the_mean_time() -> None:
    assert Latency.from_samples([10, 30], 8).throughput_ips == pytest.approx(8 / 0.02)
    assert Latency.from_samples([4], 1).throughput_ips == pytest.approx(250)
