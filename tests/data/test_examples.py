"""What two forms of a model are compared on: real images as the model takes them, and noise in its own range."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.contracts.images import CALIBRATION
from stages.contracts.preprocessing import Preprocessing
from stages.data import examples

# Pixels as they are, up to 255.
PREPARED = Preprocessing(6, 8, "stretch", 1.0, (1.0,) * 3, (0.0,) * 3, "rgb")


def write(folder: Path, count: int) -> None:
    """Images that are as bright as their number."""
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (20, 20), (number,) * 3).save(folder / f"{number:03}.png")


@pytest.mark.parametrize(("count", "chosen"), [(3, [0, 1, 2]), (200, [0, 13, 26, 39, 53, 66, 79, 92])])
def test_real_images_are_taken_from_all_over_the_calibration_set(checkout: Path, count: int, chosen: list[int]) -> None:
    write(CALIBRATION, count)
    found = examples.read(PREPARED)
    real = min(count, examples.REAL)
    assert found.images.shape == (real + 12, 6, 8, 3)
    assert found.images[: len(chosen), 0, 0, 0].tolist() == chosen
    assert found.words == f"{real} images of data/calibration and 12 images of noise"
    np.testing.assert_array_equal(found.asked, found.images[:real])


@pytest.mark.parametrize("empty", [True, False])
def test_without_images_it_says_that_there_is_noise_alone(checkout: Path, empty: bool) -> None:
    if empty:
        CALIBRATION.mkdir(parents=True)  # as a calibration set that failed leaves it
    found = examples.read(PREPARED)
    assert (len(found.images), found.words, len(found.asked)) == (12, "12 images of noise", 12)
    # In the range of the model, and not from 0 to 1.
    assert found.images.max() > 250


def test_a_few_are_real_ones_and_those_that_differ_most(checkout: Path) -> None:
    write(CALIBRATION, 3)
    found = examples.read(PREPARED)
    assert len(found.few) == 12 and found.few[:3, 0, 0, 0].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(found.few[4:], examples.varied(PREPARED))


def test_noise_differs_from_image_to_image() -> None:
    means = examples.varied(PREPARED).mean(axis=(1, 2, 3))
    assert np.ptp(means) > 150 and np.diff(np.sort(means)).min() > 1
