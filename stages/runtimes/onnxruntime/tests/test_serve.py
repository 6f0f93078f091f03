from pathlib import Path
from typing import Any

from stages.runtimes.contract import Interface, Tensor
from stages.runtimes.onnxruntime.serve import describe
from stages.runtimes.onnxruntime.tests.conftest import CLASSES, SHAPE


def test_a_server_gets_the_tensors_of_the_graph(model: tuple[Path, Any]) -> None:
    source = Tensor("images", "float32", (-1, *SHAPE))
    assert describe(model[0].parent) == Interface(source, Tensor("probabilities", "float32", (-1, CLASSES)))
