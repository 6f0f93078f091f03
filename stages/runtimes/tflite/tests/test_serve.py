from pathlib import Path

import pytest

from stages.runtimes.tflite.serve import describe
from stages.runtimes.tflite.tests.conftest import CLASSES, SHAPE, Convert


@pytest.mark.parametrize(("precision", "kind"), [("fp32", "float32"), ("int8", "int8")])
def test_a_server_gets_the_tensors_of_the_file(converted: Convert, tmp_path: Path, precision: str, kind: str) -> None:
    converted(precision, tmp_path)
    found = describe(tmp_path)
    assert (found.input.type, found.input.shape) == (kind, (-1, *SHAPE))
    assert (found.output.type, found.output.shape) == (kind, (-1, CLASSES))
    assert found.input.name and found.output.name
    assert (found.input.scale is None) is (found.output.zero_point is None) is (kind == "float32")
    if kind == "int8":
        assert found.output.scale == pytest.approx(1 / 256)
        assert found.output.zero_point == -128
    assert (found.batch_sizes, found.engines) == ((), ())
