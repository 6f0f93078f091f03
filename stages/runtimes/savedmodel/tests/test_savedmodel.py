from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.core import files
from stages.runtimes.contract import Interface, Tensor, infer
from stages.runtimes.savedmodel.convert import convert
from stages.runtimes.savedmodel.discover import discover
from stages.runtimes.savedmodel.options import Options
from stages.runtimes.savedmodel.serve import describe
from stages.runtimes.savedmodel.session import open_session
from tests.fixtures import tiny
from tests.fixtures.records import CPU_MACHINE

SHAPE, CLASSES = (8, 8, 3), 6
example = partial(tiny.example, shape=SHAPE)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Callable[[Any], Any]]:
    """SavedModel of a convolution and a softmax, and the same as a function of NumPy arrays."""
    folder = tmp_path_factory.mktemp("saved_model")
    return folder, tiny.save_tiny(folder, SHAPE, CLASSES)


def test_the_baseline_is_the_model_itself(model: tuple[Path, Any], tmp_path: Path) -> None:
    job = tiny.convert_job(model[0], tmp_path / "out", "fp32", tmp_path, SHAPE)
    proof = convert(job, Options(tf32=False))
    assert files.tree_digest(tmp_path / "out") == files.tree_digest(model[0])
    assert (proof.kind, proof.layers, proof.notes) == ("saved_model", {}, ())
    sizes = files.sizes(model[0])
    assert proof.facts == {
        "tf32": False,
        "variables_bytes": sum(size for name, size in sizes.items() if name.startswith("variables/")),
        "graph_bytes": sizes["saved_model.pb"],
        "engine_bytes": 0,
    }
    assert proof.facts["variables_bytes"]


def test_a_session_answers_as_the_model_does_at_any_batch_size(model: tuple[Path, Any]) -> None:
    session = open_session(model[0], "fp32", Options(), None)
    for size in (1, 4, 3):
        np.testing.assert_allclose(infer(session, example(size)), model[1](example(size)), atol=1e-6)
    session.prove()
    assert session.parts_ms() is None
    assert (session.gpu_peak_bytes() is None) is not session.on_gpu


def test_a_server_gets_the_tensors_of_the_signature(model: tuple[Path, Any]) -> None:
    source = Tensor("images", "float32", (-1, *SHAPE))
    assert describe(model[0]) == Interface(source, Tensor("probabilities", "float32", None))


def test_tensorflow_runs_everywhere() -> None:
    found = discover(CPU_MACHINE)
    assert any(found.versions.get(wheel, "").startswith("2.") for wheel in ("tensorflow", "tensorflow-cpu"))
    assert found.unavailable == {"fp32": None}
