"""One tiny model for the tests of this folder, converted as they need it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.contracts.conversion import Proof
from stages.runtimes.tflite.convert import convert
from stages.runtimes.tflite.options import Options
from stages.runtimes.tflite.session import TFLiteSession, open_session
from tests.fixtures import tiny

SHAPE, CLASSES = (8, 8, 3), 6
Convert = Callable[[str, Path], tuple[Proof, TFLiteSession]]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Callable[[Any], Any]]:
    """SavedModel of a convolution and a softmax, and the same as a function of NumPy arrays."""
    folder = tmp_path_factory.mktemp("saved_model")
    return folder, tiny.save_tiny(folder, SHAPE, CLASSES)


@pytest.fixture(scope="session")
def converted(model: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory) -> Convert:
    """Convert the model to a precision; the proof, and a session on the file."""
    images = tiny.calibration_images(tmp_path_factory.mktemp("calibration") / "images", SHAPE)

    def run(precision: str, target: Path) -> tuple[Proof, TFLiteSession]:
        options = Options()
        proof = convert(tiny.convert_job(model[0], target, precision, images, SHAPE), options)
        return proof, open_session(target, precision, options, 1)

    return run
