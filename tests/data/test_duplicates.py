import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from stages.data import duplicates
from stages.data.image_file import ImageFile


def scene(seed: int) -> Image.Image:
    """Blobs of colour with edges and texture between them, as no other seed has."""
    rng = np.random.default_rng(seed)
    blobs = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8)).resize((320, 240), Image.Resampling.BICUBIC)
    texture = rng.normal(0, 8, (240, 320, 1)) + rng.normal(0, 40, (24, 32, 1)).repeat(10, 0).repeat(10, 1)
    return Image.fromarray((np.asarray(blobs) * 0.8 + 25 + texture).clip(0, 255).astype(np.uint8))


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., ImageFile]:
    def save(name: str, image: Image.Image, **options: int) -> ImageFile:
        image.save(tmp_path / name, **options)
        return ImageFile(tmp_path / name, name)

    return save


Saved = Callable[..., ImageFile]


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
    groups = duplicates.near_duplicates(originals + copies)
    assert len(set(groups[:20])) == 20
    assert groups == groups[:20] * 8


def test_images_that_differ_in_colour_alone_are_not_alike(saved: Saved) -> None:
    red = np.full((64, 64, 3), 255, np.uint8)
    red[16:40, 16:40, 1:] = 0
    lights = [saved("red.png", Image.fromarray(red)), saved("blue.png", Image.fromarray(red[:, :, ::-1]))]
    assert len(set(duplicates.near_duplicates(lights))) == 2


def test_the_same_image_is_alike_even_if_it_shows_nothing(saved: Saved) -> None:
    found = [
        saved("a.png", Image.new("L", (8, 8), 90)),
        saved("b.png", scene(0)),
        saved("c.png", Image.new("L", (8, 8), 90)),
    ]
    first, other, again = duplicates.near_duplicates(found)
    assert first == again != other


def test_a_chain_of_near_duplicates_is_one_group_across_blocks(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "BLOCK", 2)
    first, last = (np.asarray(scene(seed), np.float32) for seed in (0, 1))
    steps = [first * (1 - step) + last * step for step in np.linspace(0, 1, 31)]
    chain = [saved(f"{index:02d}.png", Image.fromarray(step.astype(np.uint8))) for index, step in enumerate(steps)]
    assert len(set(duplicates.near_duplicates([chain[0], chain[-1]]))) == 2
    assert len(set(duplicates.near_duplicates(random.Random(0).sample(chain, 31)))) == 1


def test_every_pair_within_the_distance_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    base = rng.choice(np.float32([-1, 1]), duplicates.BITS)
    look = rng.integers(0, 256, (16, 16, 3), np.uint8)
    found = [ImageFile(Path(f"{index}.png"), f"{index}.png") for index in range(3)]
    features = {}
    for image, flips in zip(found, (0, duplicates.DISTANCE, duplicates.DISTANCE + 1), strict=True):
        signs = base.copy()
        signs[rng.choice(duplicates.BITS, flips, replace=False)] *= -1
        features[image] = (signs, -signs, look)
    monkeypatch.setattr(duplicates, "_features", features.get)
    first, near, far = duplicates.near_duplicates(found)
    assert first == near != far


def test_no_images_have_no_groups() -> None:
    assert duplicates.near_duplicates([]) == []
