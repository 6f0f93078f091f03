import itertools
import time
from collections.abc import Sequence

import numpy as np
import pytest

from stages.contracts.predictions import Prediction, Predictions
from stages.contracts.row import Permuted
from stages.statistics.assignment import permuted

# Folders 0 to 10 in the order of text, which their numbers are not: 2 is answered as 3, and 10 as 2.
TEXT_ORDER = [sorted(map(str, range(11))).index(str(label)) for label in range(11)]
# Classes 3 and 7 of eleven.
SWAPPED = [0, 1, 2, 7, 4, 5, 6, 3, 8, 9, 10]


def answered(pairs: Sequence[tuple[int, int | None]]) -> Predictions:
    """From a label and the best class, which may be none."""
    return Predictions(
        Prediction.plain(f"{i}.jpg", label, [] if best is None else [best], [] if best is None else [0.9])
        for i, (label, best) in enumerate(pairs)
    )


def throughout(outputs: list[int], each: int) -> list[tuple[int, int | None]]:
    """So many images of each class, all of which get its output."""
    return [(label, output) for label, output in enumerate(outputs) for _ in range(each)]


def noisy(outputs: list[int], each: int, right: float, rng: np.random.Generator) -> Predictions:
    """A share of the images gets the output of its class, the others any one."""
    labels = np.repeat(np.arange(len(outputs)), each)
    known = rng.random(len(labels)) < right
    answers = np.where(known, np.array(outputs)[labels], rng.integers(0, len(outputs), len(labels)))
    return answered(list(zip(labels.tolist(), answers.tolist(), strict=True)))


@pytest.mark.parametrize("each", [3, 18])
def test_classes_in_the_order_of_text_are_seen(each: int) -> None:
    found = permuted(answered(throughout(TEXT_ORDER, each)))
    assert found == Permuted(moved=9, classes=11, images=11 * each, named=2 * each, assigned=11 * each)


def test_the_best_assignment_is_the_best_of_all() -> None:
    """By trying each of 120."""
    confusion = [[0, 2, 12, 0, 2], [10, 2, 2, 2, 0], [2, 10, 4, 0, 0], [0, 0, 0, 14, 2], [0, 0, 0, 0, 16]]
    pairs = [(label, best) for label in range(5) for best in range(5) for _ in range(confusion[label][best])]
    best = max(sum(map(list.__getitem__, confusion, order)) for order in itertools.permutations(range(5)))
    assert permuted(answered(pairs)) == Permuted(moved=3, classes=5, images=80, named=2 + 4 + 14 + 16, assigned=best)


def test_an_image_without_an_answer_counts_as_wrong() -> None:
    pairs = [(label, None if i % 6 == 0 else best) for i, (label, best) in enumerate(throughout(TEXT_ORDER, 6))]
    assert permuted(answered(pairs)) == Permuted(9, 11, 66, 10, 55)


def test_a_class_with_two_images_does_not_count() -> None:
    pairs = [*throughout(TEXT_ORDER, 5), (11, 12), (11, 12), (12, 11)]
    assert permuted(answered(pairs)) == Permuted(9, 11, 55, 10, 55)


def test_a_class_is_answered_as_another_throughout_if_most_of_its_images_are() -> None:
    pairs = [(label, best) for label, best in throughout(TEXT_ORDER, 20) if label != 5]
    half = [(5, 6)] * 10 + [(5, None)] * 10
    assert permuted(answered([*pairs, *half])) == Permuted(8, 11, 220, 40, 210)
    assert permuted(answered([*pairs, *half[:-1], (5, 6)])) == Permuted(9, 11, 220, 40, 211)


def test_outputs_may_be_classes_that_have_no_images() -> None:
    pairs = throughout([500 + label for label in range(10)], 5)
    assert permuted(answered(pairs)) == Permuted(10, 10, 50, 0, 50)


@pytest.mark.parametrize(
    ("each", "found"),
    [
        # Six of six may be two classes that look alike, of 55 pairs: 55 / 2**6 is 86 %.
        (3, None),
        (6, None),
        (7, Permuted(2, 11, 77, 63, 77)),
        (100, Permuted(2, 11, 1100, 900, 1100)),
    ],
)
def test_two_swapped_classes_of_eleven_are_seen_with_images_enough(each: int, found: Permuted | None) -> None:
    """They are 18 % of the images, and yet no model takes each for the other throughout."""
    assert permuted(answered(throughout(SWAPPED, each))) == found


def test_two_classes_that_move_and_do_not_exchange_outputs_gain_too_little() -> None:
    """They are taken for classes without images, as their look-alikes among a thousand are."""
    assert permuted(answered(throughout([0, 1, 2, 700, 4, 5, 6, 300, 8, 9, 10], 100))) is None
    assert permuted(answered(throughout([0, 1, 700, 3, 300], 100))) == Permuted(2, 5, 500, 300, 500)


@pytest.mark.parametrize(("right", "wrong", "seen"), [(50, 50, False), (40, 60, False), (25, 75, True)])
def test_look_alikes_are_not_taken_for_swapped_ones(right: int, wrong: int, seen: bool) -> None:
    """Two of eleven classes, of which the model cannot tell one from the other."""
    others = [pair for pair in throughout(list(range(11)), 100) if pair[0] not in (3, 7)]
    alike = [(3, 3), (7, 7)] * right + [(3, 7), (7, 3)] * wrong
    assert (permuted(answered([*others, *alike])) is not None) == seen


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        throughout(list(range(11)), 20),
        # One class for all images, the more frequent or the rarer one.
        [(0, 0)] * 80 + [(1, 0)] * 20,
        [(0, 1)] * 80 + [(1, 1)] * 20,
        [(i % 10, 4) for i in range(200)],
        # One class taken for another, which stays itself.
        throughout([0, 1, 1, 3], 20),
        # The assignment gets fewer than half right: 9 of 20, and the others are no class's.
        [(label, (label + 1) % 5 if i < 9 else 90 + i) for label in range(5) for i in range(20)],
        [(label, None) for label in range(5) for _ in range(20)],
        # Two classes of five exchanged, and no answer to the others: 40 % right.
        [*throughout([1, 0], 20), *((label, None) for label in (2, 3, 4) for _ in range(20))],
        # One class moves alone; another is mostly taken for one that stays itself.
        [*throughout([7], 20), *[(1, 2)] * 12, *[(1, 1)] * 8, *[(2, 2)] * 20],
    ],
)
def test_what_no_assignment_explains_is_not_told(pairs: list[tuple[int, int | None]]) -> None:
    assert permuted(answered(pairs)) is None


@pytest.mark.parametrize(
    ("classes", "each"), [(2, 3), (2, 4), (2, 20), (3, 3), (3, 5), (3, 8), (4, 3), (5, 3), (11, 3), (11, 18), (100, 3)]
)
def test_random_answers_are_hardly_ever_a_permutation(classes: int, each: int) -> None:
    """At 1 %: of 300 more than nine would come once in 300 times."""
    rng = np.random.default_rng(classes * each)
    found = [permuted(noisy(list(range(classes)), each, 0.0, rng)) for _ in range(300 if classes < 100 else 30)]
    assert sum(one is not None for one in found) <= 9


@pytest.mark.parametrize("right", [0.3, 0.5, 0.8])
@pytest.mark.parametrize(("classes", "each"), [(2, 10), (3, 3), (11, 3), (11, 18)])
def test_a_model_that_knows_its_classes_is_never_a_permutation(classes: int, each: int, right: float) -> None:
    rng = np.random.default_rng(classes * each)
    assert {permuted(noisy(list(range(classes)), each, right, rng)) for _ in range(100)} == {None}


def test_a_model_with_errors_in_another_order_is_seen() -> None:
    rng = np.random.default_rng(0)
    found = [permuted(noisy(TEXT_ORDER, 10, 0.7, rng)) for _ in range(50)]
    assert all(one and one.moved >= 5 for one in found)


def test_many_classes_are_cheap() -> None:
    """A good model of 10,000 makes no matrix; of a permuted one those with the most images are looked at."""
    good, moved = (answered(throughout([(i + by) % 10_000 for i in range(10_000)], 3)) for by in (0, 1))
    began = time.process_time()
    assert permuted(good) is None
    found = permuted(moved)
    assert found and (found.classes, found.named) == (2000, 0)
    assert time.process_time() - began < 20
