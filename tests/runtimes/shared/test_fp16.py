"""Weights that FP16 cannot hold are named, with their layer and number."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.contracts.conversion import ConvertJob
from stages.runtimes.shared import fp16, onnx_precision, saved_model
from stages.runtimes.shared.tensors import Flow, Weights
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


def test_of_many_layers_that_lose_weights_the_worst_is_named() -> None:
    layers = [of(*[1e-9] * lost, *[1.0] * (10 - lost), name=f"layer{lost}/kernel") for lost in (1, 3, 2)]
    assert fp16.check(layers).notes == (
        "rounds 3 of 10 weights of layer3 to 0, the largest share in 3 layers that lose some",
    )


def test_the_weights_of_a_savedmodel_and_of_its_onnx_file_are_read(tmp_path: Path) -> None:
    tiny.save_tiny_onnx(tmp_path, (8, 8, 3), 5)
    exported = [one.values.size for one in onnx_precision.weights(tmp_path / "model.onnx")]
    tiny.save_tiny(tmp_path / "saved", (8, 8, 3), 5)
    saved: list[Any] = saved_model.weights(tmp_path / "saved")
    assert {3 * 3 * 3 * 8, 8 * 5} <= set(exported)
    assert {3 * 3 * 3 * 8, 8 * 5} <= {one.values.size for one in saved}


def flow(*peaks: float) -> Flow:
    """Layers that multiply the brightest pixel by so much."""
    return lambda images: (
        (f"model/layer{i}/Conv2D:0", images.max() * np.float32([-peak, 1])) for i, peak in enumerate(peaks)
    )


def job(folder: Path) -> ConvertJob:
    calibration = tiny.write_images(folder / "images", *(np.full((4, 4, 3), value) for value in (0, 100, 50)))
    return tiny.convert_job(folder, folder / "out", "fp16", calibration, (4, 4, 3))


def test_values_between_layers_beyond_its_range_name_the_first_tensor(tmp_path: Path) -> None:
    """A pixel of 100 is 100 / 127.5 - 1 to the model, and one of 0 is -1."""
    error = refused(fp16.between_layers, "fp16", job(tmp_path), lambda: flow(1, 70_000, 80_000, 2))
    assert (error.code, error.values["layer"]) == ("fp16-activations", "model/layer1")
    assert error.values["tensors"] == ["model/layer1/Conv2D:0", "model/layer2/Conv2D:0"]
    assert error.values["largest"] == pytest.approx(70_000)
    assert_helps(error, "model/layer1 gives values up to 70,000 on 3 calibration images")


def test_the_largest_value_that_fits_is_a_fact(tmp_path: Path) -> None:
    assert fp16.between_layers("fp16", job(tmp_path), lambda: flow(1, 65_504)) == {
        "fp16_largest_value": 65_504,
        "fp16_images": 3,
    }


def test_a_number_that_fp32_does_not_have_either_is_no_question_of_fp16(tmp_path: Path) -> None:
    found = fp16.between_layers("fp16", job(tmp_path), lambda: flow(np.inf, np.nan, 2))
    assert found["fp16_largest_value"] == 2


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_other_precisions_look_at_nothing(tmp_path: Path, precision: str) -> None:
    assert fp16.between_layers(precision, job(tmp_path), lambda: flow(1e9)) == {}
