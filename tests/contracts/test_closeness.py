import numpy as np
import pytest

from stages.contracts.closeness import distance


@pytest.mark.parametrize(
    ("first", "second", "gap"),
    [
        ([0.1, 0.9], [0.2, 0.8], 0.1),
        ([np.nan, 0.5], [np.nan, 0.5], 0),
        ([np.nan, 0.5], [0.5, 0.5], np.inf),
        ([0.5, np.inf], [0.5, 0.5], np.inf),
    ],
)
def test_no_number_is_infinitely_far_from_a_number(first: list[float], second: list[float], gap: float) -> None:
    pair = (np.array([values], np.float32) for values in (first, second))
    assert distance(*pair) == pytest.approx(gap)
