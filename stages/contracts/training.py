"""What `train` and `qat` tell of their trainings, and where their models lie."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from .preprocessing import Preprocessing
from .status import Status

TRAIN = Path("reports/train.json")
CURVES = Path("reports/training.csv")
TRAINED = Path("models/trained/model.keras")
QAT_RECORD = Path("reports/qat.json")
QAT_CURVE = Path("reports/qat.csv")
# What quantisation-aware training makes of the SavedModel and the ONNX file, with its fake quantisation in them.
QAT = Path("models/qat")
QAT_SAVED_MODEL, QAT_ONNX = QAT / "saved_model", QAT / "model.onnx"


@dataclass(frozen=True)
class Run:
    """The training with one seed: its best epoch, and the seconds that it took."""

    seed: int
    best_epoch: int
    best_val_loss: float
    best_val_accuracy: float
    train_s: float


@dataclass(frozen=True)
class Training:
    """Trainings of the user's model with each seed; `seed` is that of the best model, which stays."""

    backbone: str
    seed: int
    train_images: int
    validation_images: int
    preprocessing: Preprocessing
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class TrainRecord:
    """reports/train.json."""

    SCHEMA: ClassVar[int] = 1

    status: Status
    training: Training | None = None


@dataclass(frozen=True)
class QatTraining:
    """What quantisation-aware training made of the model; epoch 0 is the simulation before it learned anything."""

    run: Run
    first_val_accuracy: float
    train_images: int
    validation_images: int
    # Names of layers by their kind.
    layers_not_simulated: dict[str, int]


@dataclass(frozen=True)
class QatRecord:
    """reports/qat.json; `digest` is of what the variants that take this training convert, or why there is nothing."""

    SCHEMA: ClassVar[int] = 1

    status: Status
    digest: str | None
    training: QatTraining | None = None
