"""One tiny model for the tests of this folder, converted as they need it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.contracts.conversion import Proof
from stages.runtimes.onnxruntime.convert import convert
from stages.runtimes.onnxruntime.options import Options
from stages.runtimes.onnxruntime.session import ONNXRuntimeSession, open_session
from tests.fixtures import tiny

SHAPE, CLASSES = (8, 8, 3), 6
Convert = Callable[..., tuple[Proof, ONNXRuntimeSession]]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Callable[[Any], Any]]:
    """ONNX file of a convolution and a softmax, and the same as a function of NumPy arrays."""
    folder = tmp_path_factory.mktemp("model")
    answer = tiny.save_tiny_onnx(folder, SHAPE, CLASSES)
    return folder / "model.onnx", answer


@pytest.fixture(scope="session")
def converted(model: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory) -> Convert:
    """Convert the model to a precision; the proof, and a session on the file."""
    images = tiny.calibration_images(tmp_path_factory.mktemp("calibration") / "images", SHAPE)

    def run(precision: str, target: Path, **options: Any) -> tuple[Proof, ONNXRuntimeSession]:
        chosen = Options(**options)
        proof = convert(tiny.convert_job(model[0], target, precision, images, SHAPE), chosen)
        return proof, open_session(target, precision, chosen, 1)

    return run
