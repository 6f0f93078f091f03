"""What lies in a champion's folder beside its code, and how images become its input; travels with the model."""

from dataclasses import dataclass
from typing import ClassVar

from ..contracts.preprocessing import Preprocessing

SETTING, LABELS, MODEL = "served.json", "labels.csv", "model"


@dataclass(frozen=True)
class Setting:
    """How images become input, and how many at a time: the evaluation's own batches, so that its engines fit."""

    SCHEMA: ClassVar[int] = 1

    preprocessing: Preprocessing
    batch_size: int
