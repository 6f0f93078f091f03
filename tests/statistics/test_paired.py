import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from stages.contracts.predictions import Prediction
from stages.contracts.row import Change, ClassChange
from stages.statistics.paired import (
    adjust,
    bootstrap_ci95,
    compare,
    holm,
    images_needed,
    mcnemar,
    same_images,
    score_ci95,
)


def prediction(label: int, best: int) -> Prediction:
    return Prediction.plain("a.jpg", label, [best, 90, 91, 92, 93], [0.5, 0.2, 0.1, 0.1, 0.1])


def between(*images: tuple[int, int, int]) -> Change:
    """From (label, the baseline's class, the variant's class) of each image."""
    return compare(
        [prediction(label, old) for label, old, _ in images], [prediction(label, new) for label, _, new in images]
    )


def test_flips_are_counted_in_each_direction() -> None:
    found = between((1, 1, 1), (1, 1, 2), (1, 2, 1), (1, 2, 3), (1, 2, 2), (1, 1, 3))
    assert (found.images, found.changed, found.lost, found.gained) == (6, 4, 2, 1)
    assert found.drop == pytest.approx(1 / 6)


def test_a_tie_loses_its_share() -> None:
    """Sure and right before; afterwards one of four alike, which the label is among."""
    tied = prediction(1, 1)._replace(tied=4, top1=0.25)
    found = compare([prediction(1, 1)] * 8, [tied] * 8)
    assert (found.lost, found.gained, found.drop, found.changed) == (6, 0, 0.75, 0)
    assert found.classes == (ClassChange(1, 8, 6, 0),)
    assert found.mcnemar_p == mcnemar(6, 0)


def test_the_most_changed_classes_come_first() -> None:
    found = between((5, 5, 1), (5, 5, 1), (5, 5, 5), (6, 1, 6), (7, 7, 1), (8, 1, 2), (9, 9, 9))
    assert found.classes == (ClassChange(5, 3, 2, 0), ClassChange(7, 1, 1, 0), ClassChange(6, 1, 0, 1))


def test_different_numbers_of_images_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="shorter"):
        compare([prediction(1, 1)] * 2, [prediction(1, 1)])


@pytest.mark.parametrize(
    ("lost", "gained", "p_value"),
    # By hand from the binomial distribution: 2 * (1 + 14 + 91) / 2**14, and 2 * 1 / 2**5.
    [(12, 2, 212 / 2**14), (2, 12, 212 / 2**14), (5, 0, 2 / 2**5), (3, 3, 1.0), (0, 0, 1.0)],
)
def test_mcnemar_is_exact(lost: int, gained: int, p_value: float) -> None:
    assert mcnemar(lost, gained) == pytest.approx(p_value)


def test_points_won_are_the_drop_the_other_way_round() -> None:
    won = replace(between((1, 1, 1)), drop=-0.125, drop_ci95=(-0.25, 0.0))
    assert (won.points_won, won.points_won_ci95) == (12.5, (0, 25))
    # In words a negative 0 would have a sign.
    none = replace(won, drop=0.0, drop_ci95=(0.0, 0.0))
    assert [str(value) for value in (none.points_won, *none.points_won_ci95)] == ["0.0"] * 3


def test_holm_steps_down_and_keeps_the_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.001]) == pytest.approx([0.5, 0.002])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


def score_by_search(lost: int, gained: int, images: int, limit: float) -> float:
    """Tango's statistic with the likelihood maximised by search, under a drop of `limit`."""

    def unlikely(share_gained: float) -> float:
        share_lost = share_gained + limit
        rest = 1 - share_lost - share_gained
        terms = ((lost, share_lost), (gained, share_gained), (images - lost - gained, rest))
        return -sum(count * math.log(max(share, 1e-300)) for count, share in terms if count)

    bounds = (max(0.0, -limit), (1 - limit) / 2)
    share = minimize_scalar(unlikely, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    variance = images * (2 * share + limit * (1 - limit))
    return float((lost - gained - images * limit) / math.sqrt(variance))


@pytest.mark.parametrize(
    ("lost", "gained", "images"), [(12, 2, 50), (2, 12, 50), (5, 5, 400), (30, 11, 1000), (1, 0, 44)]
)
def test_the_score_interval_ends_where_the_statistic_is_196(lost: int, gained: int, images: int) -> None:
    low, high = score_ci95(lost, gained, images)
    assert low < (lost - gained) / images < high
    assert score_by_search(lost, gained, images, low) == pytest.approx(1.95996, abs=2e-3)
    assert score_by_search(lost, gained, images, high) == pytest.approx(-1.95996, abs=2e-3)


@pytest.mark.parametrize("images", [1, 20, 400])
def test_no_flip_bounds_the_drop_by_the_number_of_images_alone(images: int) -> None:
    z2 = 1.959964**2
    assert score_ci95(0, 0, images) == (pytest.approx(-z2 / (images + z2)), pytest.approx(z2 / (images + z2)))


def test_intervals_stay_within_all_or_nothing() -> None:
    assert score_ci95(20, 0, 20)[1] == 1
    assert score_ci95(0, 20, 20)[0] == -1


def test_the_bootstrap_agrees_with_resampling_the_images() -> None:
    drops = np.array([1] * 30 + [-1] * 12 + [0] * 358)
    generator = np.random.default_rng(3)
    means = generator.choice(drops, (4000, 400)).mean(axis=1)
    assert bootstrap_ci95(30, 12, 400) == pytest.approx(np.percentile(means, (2.5, 97.5)), abs=0.004)
    assert bootstrap_ci95(0, 0, 20) == (0, 0)


@pytest.mark.parametrize(
    ("share_lost", "share_gained", "images"), [(0.05, 0.05, 20), (0.02, 0.01, 400), (0.0, 0.0, 20), (0.1, 0.02, 100)]
)
def test_the_score_interval_covers_the_true_drop(share_lost: float, share_gained: float, images: int) -> None:
    counts = np.random.default_rng(5).multinomial(
        images, [share_lost, share_gained, 1 - share_lost - share_gained], 800
    )
    ends = [score_ci95(lost, gained, images) for lost, gained, _ in counts]
    truth = share_lost - share_gained
    assert np.mean([low <= truth <= high for low, high in ends]) >= 0.94


def test_images_needed_would_indeed_tell() -> None:
    for lost, gained, images, limit in [(2, 0, 400, 0.01), (0, 0, 20, 0.01), (10, 0, 400, 0.01), (6, 3, 400, 0.005)]:
        needed = images_needed(lost, gained, images, limit)
        assert needed is not None
        low, high = score_ci95(lost * needed / images, gained * needed / images, needed)
        assert high < limit or low > limit
        third = needed / 3
        low, high = score_ci95(lost * third / images, gained * third / images, third)
        assert low <= limit < high


def test_no_number_of_images_tells_a_drop_that_is_the_limit() -> None:
    assert images_needed(4, 0, 400, 0.01) is None


def test_images_needed_has_two_digits() -> None:
    assert images_needed(2, 0, 400, 0.01) == 3200


def test_with_the_images_needed_four_draws_in_five_tell() -> None:
    needed = images_needed(4, 2, 400, 0.02)
    assert needed is not None
    draws = np.random.default_rng(2).multinomial(needed, [4 / 400, 2 / 400, 394 / 400], 400)
    assert 0.72 < np.mean([score_ci95(lost, gained, needed)[1] <= 0.02 for lost, gained, _ in draws]) < 0.9


def test_the_same_images_have_the_same_names_in_the_same_order() -> None:
    first, second = prediction(1, 1), prediction(1, 2)._replace(file="b.jpg")
    assert same_images([first, second], [first._replace(classes=[7]), second])
    assert not same_images([first, second], [second, first])
    assert not same_images([first, second], [first])
    assert not same_images([], [])


def test_adjusted_changes_keep_their_names_and_all_else() -> None:
    worse = between(*((1, 1, 2) for _ in range(8)))
    found = adjust({"a": worse, "b": between((1, 1, 1))})
    assert found["a"] == replace(worse, mcnemar_p_holm=pytest.approx(4 / 2**8))
    assert found["b"].mcnemar_p_holm == 1
