from pathlib import Path

from stages.runtimes.contract import EngineFile, Interface, Tensor
from stages.runtimes.tensorrt.serve import describe
from stages.runtimes.tensorrt.tests.conftest import SHAPE, Convert

SOURCE, RESULT = Tensor("images", "float32", (-1, *SHAPE)), Tensor("probabilities", "float32", None)


def test_a_server_gets_an_engine_of_one_size_as_such(converted: Convert, tmp_path: Path) -> None:
    converted(tmp_path, "fp32", engines="each")
    engines = (EngineFile("batch1.plan", 1, True), EngineFile("batch4.plan", 4, True))
    assert describe(tmp_path) == Interface(SOURCE, RESULT, (1, 4), engines)


def test_a_server_gets_an_engine_of_all_sizes_with_the_largest(converted: Convert, tmp_path: Path) -> None:
    converted(tmp_path, "fp32", engines="profile")
    assert describe(tmp_path) == Interface(SOURCE, RESULT, (1, 4), (EngineFile("batch1-4.plan", 4, False),))
