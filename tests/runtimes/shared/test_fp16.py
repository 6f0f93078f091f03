"""Weights that FP16 cannot hold are named, with their layer and number."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.runtimes.shared import fp16, onnx_precision, saved_model
from stages.runtimes.shared.fp16 import Weights
from tests.fixtures import tiny
from tests.fixtures.errors import assert_helps, refused


def of(*values: float, name: str = "model/conv2d_1/kernel:0") -> Weights:
    return Weights(name, np.array(values, np.float32))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ((1, 200_000, 3), "1 of 3 weights of model/conv2d_1 is beyond 65,504"),
        ((-65_505, 200_000), "2 of 2 weights of model/conv2d_1 are beyond 65,504"),
        ((1, np.nan, 3, np.inf), "2 of 4 weights of model/conv2d_1 are NaN or infinite"),
    ],
)
def test_weights_beyond_its_range_are_refused_by_layer_and_number(values: tuple[float, ...], told: str) -> None:
    error = refused(fp16.check, [of(1, 2), of(*values)])
    assert (error.code, error.values["layers"]) == ("fp16-range", [told])
    assert_helps(error, told)


def test_the_largest_number_is_no_loss() -> None:
    assert fp16.check([of(65_504, -65_504, 0, 6e-8)]) == ({"fp16_weights_to_0": 0}, ())


def test_weights_that_become_0_are_counted_and_told_where_they_are_many() -> None:
    few, many = np.ones(5000, np.float32), np.ones(100, np.float32)
    few[:2], many[:40] = 1e-9, -1e-9
    facts, notes = fp16.check([Weights("few/kernel", few), Weights("many/kernel", many)])
    assert facts == {"fp16_weights_to_0": 42}
    assert notes == ("rounds 40 of 100 weights of many to 0",)


def test_the_weights_of_a_savedmodel_and_of_its_onnx_file_are_read(tmp_path: Path) -> None:
    tiny.save_tiny_onnx(tmp_path, (8, 8, 3), 5)
    exported = [one.values.size for one in onnx_precision.weights(tmp_path / "model.onnx")]
    tiny.save_tiny(tmp_path / "saved", (8, 8, 3), 5)
    saved: list[Any] = saved_model.weights(tmp_path / "saved")
    assert {3 * 3 * 3 * 8, 8 * 5} <= set(exported)
    assert {3 * 3 * 3 * 8, 8 * 5} <= {one.values.size for one in saved}
