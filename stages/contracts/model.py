"""reports/model.json: the model that all variants are made of, and where it lies."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from .preprocessing import Preprocessing
from .training import Training

MODEL = Path("reports/model.json")
WEIGHTS = Path("data/model")
# Stem of the user's own model there.
OWN = "own"
SAVED_MODEL = Path("models/saved_model")
ONNX = Path("models/onnx/model.onnx")


@dataclass(frozen=True)
class ModelRecord:
    """The SavedModel: its input, its classes, how an image becomes input, and how far saving moved its answers."""

    SCHEMA: ClassVar[int] = 1

    name: str
    weights_sha256: str
    parameters: int
    input_shape: tuple[int, int, int]
    classes: int
    preprocessing: Preprocessing
    training: Training | None
    save_difference: float
    size_bytes: int
