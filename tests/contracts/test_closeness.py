"""A comparison can fail: by probabilities, by what a saturated softmax hides, by a NaN, and where all is alike."""

from typing import Any

import numpy as np
import pytest

from stages.contracts import closeness
from stages.contracts.closeness import Gap, distance
from stages.contracts.preprocessing import Floats


def compared(first: Any, second: Any, most: float = 1e-4) -> Gap:
    ours, theirs = np.array(first, np.float32), np.array(second, np.float32)
    return closeness.between(ours, theirs, "the images", most)


def softmax(*logits: list[float]) -> Floats:
    powers = np.exp(np.array(logits, np.float32))
    found: Floats = powers / powers.sum(axis=1, keepdims=True)
    return found


@pytest.mark.parametrize(
    ("second", "most", "close"),
    [
        ([[0.2, 0.5, 0.3], [0.5, 0.25, 0.25]], 1e-4, True),
        ([[0.20005, 0.49995, 0.3], [0.5, 0.25, 0.25]], 1e-4, True),
        ([[0.2005, 0.4995, 0.3], [0.5, 0.25, 0.25]], 1e-4, False),
        ([[0.2005, 0.4995, 0.3], [0.5, 0.25, 0.25]], 1e-2, True),
        ([[np.nan, 0.5, 0.3], [0.5, 0.25, 0.25]], 1, False),
        ([[0.2, np.inf, 0.3], [0.5, 0.25, 0.25]], 1, False),
    ],
)
def test_probabilities_are_close_as_far_as_rounding_goes(second: Any, most: float, close: bool) -> None:
    assert compared([[0.2, 0.5, 0.3], [0.5, 0.25, 0.25]], second, most).close == close


def test_it_counts_the_images_that_get_another_class() -> None:
    gap = compared([[0.2, 0.5, 0.3], [0.5, 0.25, 0.25], [0, 0, 1]], [[0.5, 0.2, 0.3], [0.5, 0.25, 0.25], [1, 0, 0]])
    assert (gap.moved, gap.difference, gap.close) == (2, 1, False)
    assert str(gap) == "1 away on the images (allowed: 0.0001), and 2 of 3 get another class"


def test_a_saturated_softmax_does_not_hide_other_logits() -> None:
    """All probabilities are 0 and 1 to seven digits, and what went into them is a third away."""
    gap = compared(softmax([0, 20, 40], [30, 0, 60]), softmax([0, 30, 60], [40, 0, 60]))
    assert gap.difference < 1e-7 and not gap.close
    assert "of the range of its logarithms" in str(gap)
    assert compared(softmax([0, 20, 40], [30, 0, 60]), softmax([0, 20.001, 40.002], [30, 0, 60.002])).close


def test_one_that_is_1_less_another_may_be_coarse() -> None:
    step = 2.0**-24
    assert compared([[step, 1 - step], [0.5, 0.5]], [[3 * step, 1 - 3 * step], [0.5, 0.5]]).close
    assert compared([[step, 1 - step], [0.5, 0.5]], [[0, 1], [0.5, 0.5]]).close
    assert not compared([[1.1 * step, 1], [0.5, 0.5]], [[3.1 * step, 1], [0.5, 0.5]]).close
    assert not compared(softmax([0, 20], [30, 0]), softmax([0, 30], [40, 0])).close


def test_steps_of_int8_are_no_question_of_logarithms() -> None:
    assert compared(softmax([0, 5, 40]), softmax([0, 9, 40]), 0.1).close


def test_what_neither_answers_is_equal_but_not_if_it_is_all() -> None:
    nothing, something = [np.nan] * 3, [0.2, 0.5, 0.3]
    assert compared([nothing, something], [nothing, something]).close
    assert not compared([nothing], [nothing]).close


@pytest.mark.parametrize(
    ("half", "logits", "most"), [(False, 1, 1e-4), (False, 1e3, 1e-3), (False, 1e9, 5e-2), (True, 1, 1e-2)]
)
def test_what_is_allowed_knows_the_precision_and_the_range_of_logits(half: bool, logits: float, most: float) -> None:
    assert closeness.allowed(half, logits) == pytest.approx(most)


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


@pytest.mark.parametrize("answers", [[[0.2, 0.8]] * 3, [[0, 1]] * 3, [[np.nan, 1]] * 3])
def test_answers_are_alike_where_no_image_is_told_from_another(answers: list[list[float]]) -> None:
    assert closeness.alike(np.array(answers, np.float32))


def test_a_saturated_softmax_that_tells_images_apart_is_not_alike() -> None:
    assert not closeness.alike(softmax([0, 20, 40], [0, 21, 40]))
    assert not closeness.alike(np.array([[np.nan] * 3, [0.2, 0.3, 0.5]], np.float32))
