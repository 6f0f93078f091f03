import numpy as np
import pytest

from stages.contracts.predictions import Prediction
from stages.contracts.row import AtChance
from stages.statistics.chance import at_chance


def answered(correct: int, labels: list[int]) -> list[Prediction]:
    """The first images right, the others taken for class 99,999."""
    return [
        Prediction.plain(f"{i}.jpg", label, [label if i < correct else 99_999], [0.5]) for i, label in enumerate(labels)
    ]


TWO_CLASSES = [0, 1] * 10
TWENTY_CLASSES = list(range(20))


@pytest.mark.parametrize(
    ("correct", "labels", "chance"),
    [
        (2, TWO_CLASSES, 0.5),
        (7, TWO_CLASSES, 0.5),
        (0, TWENTY_CLASSES, 0.05),
        (2, TWENTY_CLASSES, 0.05),
        (1, list(range(1000)), 0.001),
        (91, [0] * 90 + [1] * 10 + [0] * 900, 0.99),
        (50, [0, 1] * 50, 0.5),
    ],
)
def test_a_guess_comes_with_what_chance_is(correct: int, labels: list[int], chance: float) -> None:
    assert at_chance(answered(correct, labels)) == AtChance(correct, len(labels), pytest.approx(chance))


@pytest.mark.parametrize(
    ("correct", "labels"),
    [
        (10, TWENTY_CLASSES),
        # Better than 1 in 20 for all that 20 images tell, but not known to be useless.
        (3, TWENTY_CLASSES),
        (14, TWO_CLASSES),
        (20, TWO_CLASSES),
        # Above the share of the most frequent label by more than chance allows.
        (10, list(range(1000))),
        (62, [0, 1] * 50),
    ],
)
def test_what_may_well_be_better_than_chance_is_not_called_a_guess(correct: int, labels: list[int]) -> None:
    assert at_chance(answered(correct, labels)) is None


@pytest.mark.parametrize("labels", [[], [0] * 20, [0, 1], [0, 1, 2, 3]])
def test_a_single_class_and_a_handful_of_images_tell_nothing(labels: list[int]) -> None:
    assert at_chance(answered(0, labels)) is None


def test_always_answering_the_most_frequent_label_is_a_guess() -> None:
    found = [Prediction.plain(f"{i}.jpg", int(i % 10 == 0), [0], [0.9]) for i in range(1000)]
    assert at_chance(found) == AtChance(900, 1000, 0.9)


@pytest.mark.parametrize(("images", "classes"), [(20, 2), (20, 10), (100, 2), (400, 1000)])
def test_a_model_halfway_from_chance_to_perfect_is_hardly_ever_called_a_guess(images: int, classes: int) -> None:
    rng = np.random.default_rng(images + classes)
    labels = [i % classes for i in range(images)]
    share = (1 + 1 / min(classes, images)) / 2
    called = [at_chance(answered(int(correct), labels)) for correct in rng.binomial(images, share, 500)]
    assert np.mean([one is not None for one in called]) <= 0.01
