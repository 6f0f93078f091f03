import random
from collections import Counter
from pathlib import Path

import pytest

from stages.core.errors import PipelineError
from stages.data import split
from stages.data.image_file import ImageFile


def images(*counts: int) -> list[ImageFile]:
    """So many images of class 0, 1 and so on."""
    return [
        ImageFile(Path(f"{label}/{index}.png"), f"{label}/{index}.png", label)
        for label, count in enumerate(counts)
        for index in range(count)
    ]


def shares(evaluation: list[ImageFile]) -> dict[int | None, int]:
    return dict(sorted(Counter(image.label for image in evaluation).items()))


def alone(found: list[ImageFile]) -> range:
    return range(len(found))


def test_a_fifth_of_5000_digits_is_1000_of_which_each_class_has_100() -> None:
    digits = images(*[500] * 10)
    rest, evaluation = split.divide(digits, alone(digits), 0.2, 0)
    assert shares(evaluation) == dict.fromkeys(range(10), 100)
    assert len(rest) == 4000
    assert sorted(rest + evaluation) == sorted(digits)
    assert evaluation == sorted(evaluation, key=lambda image: image.name)


def test_remainders_add_up_to_the_share_of_the_whole() -> None:
    found = images(*[7] * 100)
    _, evaluation = split.divide(found, alone(found), 0.2, 0)
    assert len(evaluation) == 140
    assert set(shares(evaluation).values()) == {1, 2}


@pytest.mark.parametrize("share", [0.01, 0.2, 0.99])
def test_a_class_of_two_images_is_on_both_sides(share: float) -> None:
    found = images(2, 2, 300)
    rest, evaluation = split.divide(found, alone(found), share, 0)
    assert shares(rest)[0] == shares(rest)[1] == shares(evaluation)[0] == shares(evaluation)[1] == 1


def test_a_class_of_one_image_is_on_the_larger_side() -> None:
    found = images(1, 100)
    assert shares(split.divide(found, alone(found), 0.2, 0)[0])[0] == 1
    assert shares(split.divide(found, alone(found), 0.8, 0)[1])[0] == 1


def test_the_order_of_the_input_and_the_numbers_of_groups_do_not_matter() -> None:
    found = images(40, 30, 3)
    groups = [index // 2 for index in range(73)]
    mixed = random.Random(1).sample(list(zip(found, groups, strict=True)), 73)
    again = split.divide([image for image, _ in mixed], [1000 - group for _, group in mixed], 0.3, 5)
    assert again == split.divide(found, groups, 0.3, 5)


def test_the_seed_decides() -> None:
    found = images(40, 30)
    first, again, other = (split.divide(found, alone(found), 0.3, seed)[1] for seed in (0, 0, 1))
    assert first == again != other
    assert shares(first) == shares(other)


def test_every_image_has_the_same_chance() -> None:
    found = images(10)
    times = Counter(image.name for seed in range(1000) for image in split.divide(found, alone(found), 0.3, seed)[1])
    assert all(250 < count < 350 for count in times.values())


def test_groups_stay_together_and_classes_keep_their_shares() -> None:
    rng = random.Random(0)
    found = images(*[200] * 5)
    groups = [int(image.label or 0) * 1000 + rng.randrange(80) for image in found]
    rest, evaluation = split.divide(found, groups, 0.2, 0)
    side = dict.fromkeys(rest, False) | dict.fromkeys(evaluation, True)
    assert len({(group, side[image]) for image, group in zip(found, groups, strict=True)}) == len(set(groups))
    assert shares(evaluation) == dict.fromkeys(range(5), 40)


@pytest.mark.parametrize(
    ("sizes", "share", "expected"),
    [((4, 3, 3), 0.6, 6), ((4, 3, 3), 0.5, 4), ((9, 1), 0.5, 1), ((5, 5), 0.1, 5), ((8, 1, 1), 0.25, 2)],
)
def test_a_class_comes_as_near_to_its_share_as_whole_groups_allow(
    sizes: tuple[int, ...], share: float, expected: int
) -> None:
    groups = [group for group, size in enumerate(sizes) for _ in range(size)]
    for seed in range(5):
        _, evaluation = split.divide(images(10), groups, share, seed)
        assert abs(len(evaluation) - share * 10) == abs(expected - share * 10)


def test_a_group_of_several_classes_is_counted_in_each() -> None:
    found = images(10, 10, 10)
    groups = [*range(10), *range(10), *range(20, 30)]
    rest, evaluation = split.divide(found, groups, 0.3, 0)
    assert shares(evaluation) == {0: 3, 1: 3, 2: 3}
    assert {image.path.name for image in evaluation if image.label == 0} == {
        image.path.name for image in evaluation if image.label == 1
    }
    assert len(rest) == 21


def test_unlabelled_images_are_divided_as_one_class() -> None:
    found = [image._replace(label=None) for image in images(50)]
    rest, evaluation = split.divide(found, alone(found), 0.1, 0)
    assert (len(rest), len(evaluation)) == (45, 5)


@pytest.mark.parametrize("count", [1, 20])
def test_images_that_are_all_alike_cannot_be_divided(count: int) -> None:
    with pytest.raises(PipelineError) as caught:
        split.divide(images(count), [0] * count, 0.2, 0)
    assert caught.value.code == "split-impossible"
    assert caught.value.values == {"images": count, "groups": 1, "share": 0.2}


def test_a_choice_takes_of_each_class_its_share() -> None:
    found = images(100, 50, 50)
    chosen = split.choose(found, 20, 0)
    assert shares(chosen) == {0: 10, 1: 5, 2: 5}
    assert chosen == split.choose(found[::-1], 20, 0) != split.choose(found, 20, 1)
    assert chosen == sorted(chosen, key=lambda image: image.name)


@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_a_choice_has_as_many_as_are_asked_for(count: int) -> None:
    assert len(set(split.choose(images(1, 2, 4), count, 0))) == count


def test_unlabelled_images_are_chosen_from_as_one_class() -> None:
    found = [image._replace(label=None) for image in images(50)]
    assert len(set(split.choose(found, 20, 0))) == 20
