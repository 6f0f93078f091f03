from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.core.errors import PipelineError
from stages.runtimes.contract import infer
from stages.runtimes.tflite.convert import convert
from stages.runtimes.tflite.options import Options
from stages.runtimes.tflite.session import FILE
from stages.runtimes.tflite.tests.conftest import CLASSES, SHAPE, Convert
from tests.fixtures import tiny

example = partial(tiny.example, shape=SHAPE)


def test_fp32_gives_the_same_answers_at_every_batch_size(
    model: tuple[Path, Any], converted: Convert, tmp_path: Path
) -> None:
    proof, session = converted("fp32", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert (proof.kind, proof.layers, proof.notes) == ("tensor_types", {}, ())
    facts = proof.facts
    assert (facts["input_type"], facts["output_type"], facts["xnnpack"]) == ("float32", "float32", True)
    assert "int8" not in proof.under("tensors")
    # Up, down, and up again: the input tensor is resized each time.
    for size in (1, 4, 3, 1, 4):
        answer = infer(session, example(size))
        assert answer.shape == (size, CLASSES)
        np.testing.assert_allclose(answer, model[1](example(size)), atol=1e-5)


def test_int8_is_full_integer_and_close_at_every_batch_size(
    model: tuple[Path, Any], converted: Convert, tmp_path: Path
) -> None:
    proof, session = converted("int8", tmp_path)
    assert (proof.facts["input_type"], proof.facts["output_type"]) == ("int8", "int8")
    assert proof.under("tensors").keys() <= {"int8", "int32"}
    assert proof.facts["tensors.int8"]
    for size in (1, 4, 3, 1):
        session.put(example(size))
        raw = session.run()
        assert raw.dtype == np.int8
        answer = session.probabilities(raw)
        assert answer.dtype == np.float32
        assert answer.shape == (size, CLASSES)
        np.testing.assert_allclose(answer, model[1](example(size)), atol=0.03)
        np.testing.assert_allclose(answer.sum(axis=1), 1, atol=0.02)


@pytest.mark.parametrize(("precision", "stored"), [("fp16", "float16"), ("dynamic", "int8")])
def test_other_precisions_are_those_of_the_weights_alone(
    model: tuple[Path, Any], converted: Convert, tmp_path: Path, precision: str, stored: str
) -> None:
    proof, session = converted(precision, tmp_path)
    assert (proof.facts["input_type"], proof.facts["output_type"]) == ("float32", "float32")
    if precision == "fp16":  # of so small a model `dynamic` quantizes nothing
        assert proof.facts[f"tensors.{stored}"]
    np.testing.assert_allclose(infer(session, example(4)), model[1](example(4)), atol=0.02)


def test_no_calibration_image_is_an_error(model: tuple[Path, Any], tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    job = tiny.convert_job(model[0], tmp_path / "out", "int8", tmp_path / "none", SHAPE)
    with pytest.raises(PipelineError) as caught:
        convert(job, Options())
    assert caught.value.code == "calibration-too-few"
