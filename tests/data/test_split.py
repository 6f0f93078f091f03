import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from stages.core.errors import PipelineError
from stages.data import split
from stages.data.image_file import Photo


def photos(*counts: int) -> list[Photo]:
    """So many photographs of class 0, 1 and so on."""
    return [
        Photo(Path(f"{label}/{index}.png"), f"{label}/{index}.png", label)
        for label, count in enumerate(counts)
        for index in range(count)
    ]


def shares(evaluation: list[Photo]) -> dict[int | None, int]:
    return dict(sorted(Counter(photo.label for photo in evaluation).items()))


def alone(found: list[Photo]) -> range:
    return range(len(found))


def test_a_fifth_of_5000_digits_is_1000_of_which_each_class_has_100() -> None:
    digits = photos(*[500] * 10)
    rest, evaluation = split.divide(digits, alone(digits), 0.2, 0)
    assert shares(evaluation) == dict.fromkeys(range(10), 100)
    assert len(rest) == 4000
    assert sorted(rest + evaluation) == sorted(digits)
    assert evaluation == sorted(evaluation, key=lambda photo: photo.name)


def test_remainders_add_up_to_the_share_of_the_whole() -> None:
    found = photos(*[7] * 100)
    _, evaluation = split.divide(found, alone(found), 0.2, 0)
    assert len(evaluation) == 140
    assert set(shares(evaluation).values()) == {1, 2}


@pytest.mark.parametrize("share", [0.01, 0.2, 0.99])
def test_a_class_of_two_images_is_on_both_sides(share: float) -> None:
    found = photos(2, 2, 300)
    rest, evaluation = split.divide(found, alone(found), share, 0)
    assert shares(rest)[0] == shares(rest)[1] == shares(evaluation)[0] == shares(evaluation)[1] == 1


def test_a_class_of_one_image_is_on_the_larger_side() -> None:
    found = photos(1, 100)
    assert shares(split.divide(found, alone(found), 0.2, 0)[0])[0] == 1
    assert shares(split.divide(found, alone(found), 0.8, 0)[1])[0] == 1


def test_the_order_of_the_input_and_the_numbers_of_groups_do_not_matter() -> None:
    found = photos(40, 30, 3)
    groups = [index // 2 for index in range(73)]
    mixed = random.Random(1).sample(list(zip(found, groups, strict=True)), 73)
    again = split.divide([photo for photo, _ in mixed], [1000 - group for _, group in mixed], 0.3, 5)
    assert again == split.divide(found, groups, 0.3, 5)


def test_the_seed_decides() -> None:
    found = photos(40, 30)
    first, again, other = (split.divide(found, alone(found), 0.3, seed)[1] for seed in (0, 0, 1))
    assert first == again != other
    assert shares(first) == shares(other)


def test_every_image_has_the_same_chance() -> None:
    found = photos(10)
    times = Counter(photo.name for seed in range(1000) for photo in split.divide(found, alone(found), 0.3, seed)[1])
    assert all(250 < count < 350 for count in times.values())


def test_groups_stay_together_and_classes_keep_their_shares() -> None:
    rng = random.Random(0)
    found = photos(*[200] * 5)
    groups = [int(photo.label or 0) * 1000 + rng.randrange(80) for photo in found]
    rest, evaluation = split.divide(found, groups, 0.2, 0)
    side = dict.fromkeys(rest, False) | dict.fromkeys(evaluation, True)
    assert len({(group, side[photo]) for photo, group in zip(found, groups, strict=True)}) == len(set(groups))
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
        _, evaluation = split.divide(photos(10), groups, share, seed)
        assert abs(len(evaluation) - share * 10) == abs(expected - share * 10)


def test_a_group_of_several_classes_is_counted_in_each() -> None:
    found = photos(10, 10, 10)
    groups = [*range(10), *range(10), *range(20, 30)]
    rest, evaluation = split.divide(found, groups, 0.3, 0)
    assert shares(evaluation) == {0: 3, 1: 3, 2: 3}
    assert {photo.path.name for photo in evaluation if photo.label == 0} == {
        photo.path.name for photo in evaluation if photo.label == 1
    }
    assert len(rest) == 21


def test_unlabelled_images_are_divided_as_one_class() -> None:
    found = [photo._replace(label=None) for photo in photos(50)]
    rest, evaluation = split.divide(found, alone(found), 0.1, 0)
    assert (len(rest), len(evaluation)) == (45, 5)


@pytest.mark.parametrize("count", [1, 20])
def test_images_that_are_all_alike_cannot_be_divided(count: int) -> None:
    with pytest.raises(
        PipelineError, match=rf"^{count} images in 1 groups of near duplicates cannot be divided with 0.2"
    ):
        split.divide(photos(count), [0] * count, 0.2, 0)


# A choice of some.


def test_a_choice_takes_of_each_class_its_share() -> None:
    found = photos(100, 50, 50)
    chosen = split.choose(found, 20, 0)
    assert shares(chosen) == {0: 10, 1: 5, 2: 5}
    assert chosen == split.choose(found[::-1], 20, 0) != split.choose(found, 20, 1)
    assert chosen == sorted(chosen, key=lambda photo: photo.name)


@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_a_choice_has_as_many_as_are_asked_for(count: int) -> None:
    assert len(set(split.choose(photos(1, 2, 4), count, 0))) == count


def test_unlabelled_images_are_chosen_from_as_one_class() -> None:
    found = [photo._replace(label=None) for photo in photos(50)]
    assert len(set(split.choose(found, 20, 0))) == 20


# Near duplicates.


def scene(seed: int) -> Image.Image:
    """Blobs of colour with edges and texture between them, as no other seed has."""
    rng = np.random.default_rng(seed)
    blobs = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8)).resize((320, 240), Image.Resampling.BICUBIC)
    texture = rng.normal(0, 8, (240, 320, 1)) + rng.normal(0, 40, (24, 32, 1)).repeat(10, 0).repeat(10, 1)
    return Image.fromarray((np.asarray(blobs) * 0.8 + 25 + texture).clip(0, 255).astype(np.uint8))


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Photo]:
    def save(name: str, image: Image.Image, **options: int) -> Photo:
        image.save(tmp_path / name, **options)
        return Photo(tmp_path / name, name)

    return save


Saved = Callable[..., Photo]


def test_copies_are_found_and_other_images_are_not(saved: Saved) -> None:
    originals = [saved(f"{seed}.png", scene(seed)) for seed in range(20)]
    changed = {
        "jpeg": lambda image: image,
        "half": lambda image: image.resize((160, 120)),
        "square": lambda image: image.resize((256, 256)),
        "cropped": lambda image: image.crop((2, 2, 318, 238)),
        "bright": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
        "dark": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
        "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    }
    copies = [
        saved(f"{name}_{seed}.jpg", change(scene(seed)), quality=40)
        for name, change in changed.items()
        for seed in range(20)
    ]
    groups = split.near_duplicates(originals + copies)
    assert len(set(groups[:20])) == 20
    assert groups == groups[:20] * 8


def test_images_that_differ_in_colour_alone_are_not_alike(saved: Saved) -> None:
    red = np.full((64, 64, 3), 255, np.uint8)
    red[16:40, 16:40, 1:] = 0
    lights = [saved("red.png", Image.fromarray(red)), saved("blue.png", Image.fromarray(red[:, :, ::-1]))]
    assert len(set(split.near_duplicates(lights))) == 2


def test_the_same_image_is_alike_even_if_it_shows_nothing(saved: Saved) -> None:
    found = [
        saved("a.png", Image.new("L", (8, 8), 90)),
        saved("b.png", scene(0)),
        saved("c.png", Image.new("L", (8, 8), 90)),
    ]
    first, other, again = split.near_duplicates(found)
    assert first == again != other


def test_a_chain_of_near_duplicates_is_one_group_across_blocks(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split, "BLOCK", 2)
    first, last = (np.asarray(scene(seed), np.float32) for seed in (0, 1))
    steps = [first * (1 - step) + last * step for step in np.linspace(0, 1, 31)]
    chain = [saved(f"{index:02d}.png", Image.fromarray(step.astype(np.uint8))) for index, step in enumerate(steps)]
    assert len(set(split.near_duplicates([chain[0], chain[-1]]))) == 2
    assert len(set(split.near_duplicates(random.Random(0).sample(chain, 31)))) == 1


def test_every_pair_within_the_distance_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    base = rng.choice(np.float32([-1, 1]), split.BITS)
    look = rng.integers(0, 256, (16, 16, 3), np.uint8)
    found = photos(3)
    features = {}
    for photo, flips in zip(found, (0, split.DISTANCE, split.DISTANCE + 1), strict=True):
        signs = base.copy()
        signs[rng.choice(split.BITS, flips, replace=False)] *= -1
        features[photo] = (signs, -signs, look)
    monkeypatch.setattr(split, "_features", features.get)
    first, near, far = split.near_duplicates(found)
    assert first == near != far


def test_no_images_have_no_groups() -> None:
    assert split.near_duplicates([]) == []
