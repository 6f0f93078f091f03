from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.runtimes import tflite
from stages.runtimes.contract import Job, Session, infer
from tests.fixtures import models
from tests.fixtures.models import save_tiny

SHAPE = (8, 8, 3)
CLASSES = 6


def tensor(scale: float, zero: int, dtype: type = np.int8) -> dict[str, Any]:
    return {"dtype": dtype, "quantization": (scale, zero), "index": 0}


def test_litert_is_the_only_need(machine: dict[str, Any]) -> None:
    assert tflite.unavailable("int8", machine) is None
    assert tflite.unavailable("int8", machine | {"litert": None}) == (
        "LiteRT is not installed: `pip install ai-edge-litert`"
    )


@pytest.mark.parametrize(("scale", "zero"), [(1 / 128, 0), (0.0078, -3), (1 / 255, -128)])
def test_quantising_and_back_loses_at_most_half_a_step(scale: float, zero: int) -> None:
    limits = scale * (np.array([-128, 127]) - zero)
    values = np.random.default_rng(0).uniform(*limits, (2, *SHAPE)).astype(np.float32)
    before = values.copy()
    stored = tflite._quantise(values, tensor(scale, zero))
    assert stored.dtype == np.int8
    np.testing.assert_allclose((stored.astype(np.float32) - zero) * scale, values, atol=scale * 0.501)
    np.testing.assert_array_equal(values, before)


def test_values_outside_the_range_are_clipped_and_do_not_wrap_around() -> None:
    values = np.array([-1000.0, -1.0, 0.0, 1.0, 1000.0], np.float32)
    assert tflite._quantise(values, tensor(1 / 128, 0)).tolist() == [-128, -128, 0, 127, 127]
    assert tflite._quantise(values, tensor(1 / 255, 0, np.uint8)).tolist() == [0, 0, 0, 255, 255]


def test_rounding_is_to_the_nearest_step() -> None:
    assert tflite._quantise(np.array([0.4, 0.6, -0.6], np.float32), tensor(1.0, 0)).tolist() == [0, 1, -1]


def test_a_float_interface_gets_the_images_untouched() -> None:
    images = np.ones((1, *SHAPE), np.float32)
    assert tflite._quantise(images, tensor(0.0, 0, np.float32)) is images


example = partial(models.example, shape=SHAPE)
calibration = partial(models.calibration, shape=SHAPE)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """SavedModel of a convolution and a softmax, and the same as a function of NumPy arrays."""
    folder = tmp_path_factory.mktemp("saved_model")
    return folder, save_tiny(folder, SHAPE, CLASSES)


def converted(model: tuple[Path, Any], target: Path, precision: str) -> tuple[dict[str, Any], Session]:
    options = {"xnnpack": True}
    details = tflite.convert(
        Job(model[0], target / "unused.onnx", target, precision, SHAPE, calibration, (1, 4), options)
    )
    assert [path.name for path in target.iterdir()] == [tflite.FILE]
    return details, tflite.load(target, precision, options, 1)


def test_fp32_gives_the_same_answers_at_every_batch_size(model: tuple[Path, Any], tmp_path: Path) -> None:
    details, session = converted(model, tmp_path, "fp32")
    assert (details["input_type"], details["output_type"], details["xnnpack"]) == ("float32", "float32", True)
    assert "int8" not in details["tensors_by_type"]
    # Up, down, and up again: the input tensor is resized each time.
    for size in (1, 4, 3, 1, 4):
        found = infer(session, example(size))
        assert found.shape == (size, CLASSES)
        np.testing.assert_allclose(found, model[1](example(size)), atol=1e-5)


def test_int8_is_full_integer_and_close_at_every_batch_size(model: tuple[Path, Any], tmp_path: Path) -> None:
    details, session = converted(model, tmp_path, "int8")
    assert (details["input_type"], details["output_type"]) == ("int8", "int8")
    assert set(details["tensors_by_type"]) <= {"int8", "int32"}
    for size in (1, 4, 3, 1):
        session.put(example(size))
        raw = session.run()
        assert raw.dtype == np.int8
        found = session.probabilities(raw)
        assert found.dtype == np.float32
        assert found.shape == (size, CLASSES)
        np.testing.assert_allclose(found, model[1](example(size)), atol=0.03)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=0.02)


def test_a_tflite_session_is_synchronous_and_uses_no_gpu(model: tuple[Path, Any], tmp_path: Path) -> None:
    _, session = converted(model, tmp_path, "fp32")
    assert session.asynchronous is False
    assert session.gpu_peak_bytes() is None


def test_an_answer_is_not_overwritten_by_the_next(model: tuple[Path, Any], tmp_path: Path) -> None:
    _, session = converted(model, tmp_path, "fp32")
    first = infer(session, example(4))
    kept = first.copy()
    infer(session, np.zeros((4, *SHAPE), np.float32))
    np.testing.assert_array_equal(first, kept)
