"""The model that all variants are made of: what was downloaded, saved and exported, and where it lies."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from .preprocessing import Preprocessing
from .status import OK, Status
from .training import Training

DOWNLOAD = Path("reports/download.json")
MODEL = Path("reports/model.json")
ONNX_RECORD = Path("reports/onnx.json")
WEIGHTS = Path("data/model")
# Stem of the user's own model there.
CUSTOM_STEM = "custom"
SAVED_MODEL = Path("models/saved_model")
ONNX = Path("models/onnx/model.onnx")


@dataclass(frozen=True)
class DownloadRecord:
    """reports/download.json: what params.yaml names, and the file that came of it; None where all is trained here."""

    SCHEMA: ClassVar[int] = 1

    model: str
    weights: str
    path: str | None
    file: str | None
    sha256: str | None
    # In words, whose order the classes have.
    class_order: str = ""


@dataclass(frozen=True)
class ModelRecord:
    """reports/model.json: its input and classes, how an image becomes input, and how far saving moved its answers."""

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
    # The images on which it was compared with its SavedModel, and before with its file's own runtime, in words.
    compared_on: str = ""
    # From what the runtime of its file answers, where it was converted to be opened.
    import_difference: float | None = None
    # The largest logit on seeded noise, by which FP32 rounds; 1 for probabilities.
    largest_logit: float = 1.0
    # Its own layers that resize, scale or normalise, a sentence each.
    inside: tuple[str, ...] = ()
    # Whether its file was opened without a look for what can run commands, as model.trusted says.
    trusted: bool = False
    # What this system could not keep the process that opened it from; None where nobody tried.
    unguarded: tuple[str, ...] | None = None
    # How far rounding alone may move a probability, by the precision of its graph and by the largest logit.
    allowed_difference: float = 1e-4


@dataclass(frozen=True)
class OnnxRecord:
    """reports/onnx.json: its operators and how many there are of each, and how far exporting moved its answers.

    Where there is no ONNX file, `status` says why, and all else but `sources` is left out. That has by variant what its
    conversion takes of this, for DVC to compare: the file's digest, or why there is none; None for nothing.
    """

    SCHEMA: ClassVar[int] = 1

    opset: int | None = None
    nodes: dict[str, int] = field(default_factory=dict)
    onnx_difference: float | None = None
    size_bytes: int | None = None
    # The images on which it was compared with the SavedModel, in words.
    compared_on: str = ""
    status: Status = OK
    sources: dict[str, str | None] = field(default_factory=dict)
