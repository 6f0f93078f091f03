"""A runtime has one answer to an image: alone or beside others, the first time or the second."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from stages.contracts.preprocessing import Floats
from stages.runtimes import repeated
from stages.runtimes.contract import Session
from tests.fixtures.errors import assert_helps, named, refused

Change = Callable[[Floats, int], Floats]


class Changed(Session):
    """The images themselves are its answers, changed by the number of the call, in one buffer that it uses again."""

    asynchronous = on_gpu = False

    def __init__(self, change: Change) -> None:
        self.change, self.calls, self.buffer = change, 0, np.zeros((12, 3), np.float32)

    def put(self, images: Floats) -> None:
        self.images = images

    def run(self) -> npt.NDArray[Any]:
        self.calls += 1
        self.buffer[: len(self.images)] = self.change(self.images, self.calls)
        return self.buffer[: len(self.images)]

    def probabilities(self, output: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return output


IMAGES = np.eye(3, dtype=np.float32)[np.arange(12) % 3]
SAME: Change = lambda images, _: images  # noqa: E731


def by_lot(far: float) -> Change:
    return lambda images, call: images + far * call


def by_neighbours(far: float) -> Change:
    return lambda images, _: images + far * (len(images) > 1)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (SAME, None),
        (lambda images, _: images * np.nan, None),
        (by_lot(0.1), "answers-random"),
        (lambda images, call: images * (np.nan if call > 9 else 1), "answers-random"),
        (by_neighbours(0.1), "answers-mixed"),
        (lambda images, _: np.roll(images, 1, axis=0), "answers-mixed"),
        (lambda images, _: np.repeat(images[:1], len(images), axis=0), "answers-mixed"),
    ],
    ids=["same", "without an answer", "by lot", "NaN at times", "by neighbours", "shifted", "the first one's"],
)
def test_what_answers_otherwise_is_refused(change: Change, code: str | None) -> None:
    if code is None:
        repeated.refuse(Changed(change), IMAGES, "tflite-fp32")
    else:
        assert refused(repeated.refuse, Changed(change), IMAGES, "tflite-fp32").code == code


@pytest.mark.parametrize(
    ("name", "far", "refuses"),
    [
        ("tflite-fp32", 0.01, False),
        ("tflite-fp32", 0.05, True),
        ("tensorrt-fp16", 0.05, True),
        ("tflite-int8", 0.05, False),
        ("tflite-int8-qat", 0.05, False),
        ("tflite-dynamic", 0.05, False),
        ("tflite-int8", 0.2, True),
    ],
)
def test_rounding_is_allowed_as_far_as_a_precision_takes_it(name: str, far: float, refuses: bool) -> None:
    if not refuses:
        repeated.refuse(Changed(by_neighbours(far)), IMAGES, name)
        return
    error = refused(repeated.refuse, Changed(by_neighbours(far)), IMAGES, name)
    code, difference = named(error, "difference")
    assert code == "answers-mixed" and difference == pytest.approx(far)
    assert_helps(error, "`variants`")


def test_a_model_that_changes_from_so_many_images_on_is_asked_for_a_whole_batch() -> None:
    lots = np.eye(3, dtype=np.float32)[np.arange(32) % 3]
    many: Change = lambda images, _: np.roll(images, 1, axis=1) if len(images) > 12 else images  # noqa: E731
    session = Changed(many)
    session.buffer = np.zeros((32, 3), np.float32)
    error = refused(repeated.refuse, session, lots, "savedmodel-fp32")
    assert error.code == "answers-mixed" and "asked for 32 images together" in str(error)


def test_an_evaluation_of_a_single_image_is_asked_twice() -> None:
    session = Changed(SAME)
    repeated.refuse(session, IMAGES[:1], "tflite-fp32")
    assert session.calls == 3
    assert refused(repeated.refuse, Changed(by_lot(0.1)), IMAGES[:1], "tflite-fp32").code == "answers-random"
