import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from stages.contracts.conversion import ConvertJob
from stages.core.errors import PipelineError
from stages.runtimes.contract import infer
from stages.runtimes.onnxruntime.convert import LAYERS
from stages.runtimes.onnxruntime.session import FILE
from stages.runtimes.onnxruntime.tests.conftest import SHAPE, Convert
from stages.runtimes.shared import onnx_precision
from tests.fixtures import tiny

example = partial(tiny.example, shape=SHAPE)


def weights(path: Path) -> list[Any]:
    """The stored INT8 weights."""
    arrays = [onnx.numpy_helper.to_array(constant) for constant in onnx.load(path).graph.initializer]
    return [array for array in arrays if array.dtype == np.int8 and array.ndim > 1]


def test_fp32_answers_as_the_model_does_at_any_batch_size(
    model: tuple[Path, Any], converted: Convert, tmp_path: Path
) -> None:
    proof, session = converted("fp32", tmp_path)
    assert (proof.kind, proof.layers, proof.notes) == ("graph_layers", {"int8": 0, "fp32": 2}, ())
    assert proof.facts["provider"] == "CPUExecutionProvider"
    assert not {"calibrator", "reduce_range"} & proof.facts.keys()
    for size in (1, 4, 3):
        np.testing.assert_allclose(infer(session, example(size)), model[1](example(size)), atol=1e-6)


@pytest.mark.parametrize("calibrator", ["minmax", "percentile", "entropy"])
def test_int8_computes_every_layer_in_int8_and_stays_near(
    model: tuple[Path, Any], converted: Convert, tmp_path: Path, calibrator: str
) -> None:
    proof, session = converted("int8", tmp_path, calibrator=calibrator)
    assert proof.layers == {"int8": 2, "fp32": 0}
    assert (proof.facts["calibrator"], proof.facts["reduce_range"]) == (calibrator, True)
    assert proof.facts["operations.QLinearConv"] == 1
    for size in (1, 4):
        answer = infer(session, example(size))
        assert answer.dtype == np.float32
        np.testing.assert_allclose(answer, model[1](example(size)), atol=0.06)


@pytest.mark.parametrize(("reduce_range", "largest"), [(True, 64), (False, 127)])
def test_a_reduced_range_takes_seven_bits(converted: Convert, tmp_path: Path, reduce_range: bool, largest: int) -> None:
    converted("int8", tmp_path, reduce_range=reduce_range)
    stored = weights(tmp_path / FILE)
    assert len(stored) == 2
    assert max(np.abs(array.astype(int)).max() for array in stored) == largest


def test_weights_have_a_scale_for_each_channel(converted: Convert, tmp_path: Path) -> None:
    converted("int8", tmp_path)
    scales = [c for c in onnx.load(tmp_path / FILE).graph.initializer if c.name.endswith("_scale")]
    assert {8, 6} <= {c.dims[0] for c in scales if c.dims}


def test_a_graph_without_an_int8_layer_is_a_failure(
    converted: Convert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget(job: ConvertJob, path: Path, *options: Any) -> None:
        shutil.copy(job.onnx, path)

    monkeypatch.setattr(onnx_precision, "quantize_for_cpu", forget)
    with pytest.raises(PipelineError) as caught:
        converted("int8", tmp_path)
    assert caught.value.code == "onnxruntime-no-int8"
    assert {*LAYERS["fp32"]} & {*caught.value.values["operations"]}  # type: ignore[misc]


def test_quantizing_is_silent(converted: Convert, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    converted("int8", tmp_path, calibrator="entropy")
    assert capfd.readouterr().out == ""
