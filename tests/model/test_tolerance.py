"""What two forms of a model are compared by: answers that tell images apart."""

import numpy as np
import pytest

from stages.data.examples import Examples
from stages.model import tolerance
from tests.fixtures.errors import assert_helps, named, refused


def test_both_are_asked_for_the_same_images() -> None:
    shown = Examples(np.array([[0.2, 0.8], [0.5, 0.5]], np.float32), "two images")
    gap = tolerance.compare(lambda images: images, lambda images: images[:, ::-1], shown, 0.1)
    assert gap.difference == pytest.approx(0.6)
    assert (gap.moved, gap.allowed, gap.words, gap.answers[0, 0]) == (1, 0.1, "two images", np.float32(0.8))


def test_a_model_that_tells_no_image_from_another_proves_nothing() -> None:
    shown = Examples(np.zeros((3, 1), np.float32), "16 images of data/calibration")
    error = refused(tolerance.refuse_alike, "mine", np.array([[0.2, 0.8]] * 3, np.float32), shown)
    assert named(error, "model", "key") == ("answers-alike", "mine", "custom.scale")
    assert_helps(error, "16 images of data/calibration")
    tolerance.refuse_alike("mine", np.array([[0.2, 0.8], [0.3, 0.7], [0.2, 0.8]], np.float32), shown)
