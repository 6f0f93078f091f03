"""INT8 graphs keep their operators: what a converter folds no more costs accuracy, and nothing else would tell.

Where a change is meant, `python -m tests.runtimes.operators` writes tests/runtimes/operators.json anew.
"""

from pathlib import Path

import pytest

from stages.model import onnx_folding
from tests.runtimes import operators

ANEW = "if that is meant, write the table anew: python -m tests.runtimes.operators"


@pytest.mark.parametrize("model", operators.MODELS)
def test_int8_graphs_have_the_operators_that_were_committed(model: str, tmp_path: Path) -> None:
    found = operators.changes(operators.committed()[model], operators.count(operators.MODELS[model], tmp_path))
    assert not found, "\n".join([f"operators of {model} in INT8 have changed", *found, ANEW])


def test_a_normalisation_that_is_folded_no_more_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_folding, "fold", lambda model: 0)
    before = operators.committed()["squeeze-and-excite"]
    found = operators.changes(before, operators.count(operators.squeezing, tmp_path))
    count = before["onnxruntime-int8"]["QLinearMul"]
    assert f"onnxruntime-int8: {count} QLinearMul became {count + 2}" in found


def test_an_operator_that_vanishes_is_named() -> None:
    before = {"tflite-int8": {"CONV_2D": 2, "MUL": 1}}
    assert operators.changes(before, {"tflite-int8": {"CONV_2D": 2}}) == ["tflite-int8: 1 MUL became 0"]
    assert operators.changes(before, before) == []
