from functools import partial
from typing import Any

import numpy as np
import pytest

from stages.runtimes.contract import infer
from stages.runtimes.tflite.session import TFLiteSession, quantize
from stages.runtimes.tflite.tests.conftest import SHAPE, Convert
from tests.fixtures import tiny

example = partial(tiny.example, shape=SHAPE)


def tensor(scale: float, zero: int, dtype: type = np.int8) -> dict[str, Any]:
    return {"dtype": dtype, "quantization": (scale, zero), "index": 0}


@pytest.mark.parametrize(("scale", "zero"), [(1 / 128, 0), (0.0078, -3), (1 / 255, -128)])
def test_quantizing_and_back_loses_at_most_half_a_step(scale: float, zero: int) -> None:
    low, high = scale * (-128 - zero), scale * (127 - zero)
    values = np.random.default_rng(0).uniform(low, high, (2, *SHAPE)).astype(np.float32)
    before = values.copy()
    stored = quantize(values, tensor(scale, zero))
    assert stored.dtype == np.int8
    np.testing.assert_allclose((stored.astype(np.float32) - zero) * scale, values, atol=scale * 0.501)
    np.testing.assert_array_equal(values, before)


def test_values_outside_the_range_are_clipped_and_do_not_wrap_around() -> None:
    values = np.array([-1000.0, -1.0, 0.0, 1.0, 1000.0], np.float32)
    assert quantize(values, tensor(1 / 128, 0)).tolist() == [-128, -128, 0, 127, 127]
    assert quantize(values, tensor(1 / 255, 0, np.uint8)).tolist() == [0, 0, 0, 255, 255]


def test_rounding_is_to_the_nearest_step() -> None:
    assert quantize(np.array([0.4, 0.6, -0.6], np.float32), tensor(1.0, 0)).tolist() == [0, 1, -1]


def test_a_float_interface_gets_the_images_untouched() -> None:
    images = np.ones((1, *SHAPE), np.float32)
    assert quantize(images, tensor(0.0, 0, np.float32)) is images


@pytest.fixture(scope="module")
def session(converted: Convert, tmp_path_factory: pytest.TempPathFactory) -> TFLiteSession:
    return converted("fp32", tmp_path_factory.mktemp("fp32"))[1]


def test_it_is_synchronous_and_uses_no_gpu(session: TFLiteSession) -> None:
    assert session.asynchronous is session.on_gpu is False
    assert session.gpu_peak_bytes() is None
    assert session.parts_ms() is None


def test_there_is_nothing_to_fall_back_to(session: TFLiteSession) -> None:
    session.put(example(1))
    session.prove()


def test_an_answer_is_not_overwritten_by_the_next(session: TFLiteSession) -> None:
    first = infer(session, example(4))
    copy = first.copy()
    infer(session, np.zeros((4, *SHAPE), np.float32))
    np.testing.assert_array_equal(first, copy)
