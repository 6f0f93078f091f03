"""reports/variants/V/evaluate.json: how many images a variant got right; predictions.csv has every answer."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from .conversion import record
from .status import Status


def evaluation_path(variant: str) -> Path:
    """Of the record of its evaluation."""
    return record(variant, "evaluate.json")


def predictions_path(variant: str) -> Path:
    """Of the table of its answers."""
    return record(variant, "predictions.csv")


@dataclass(frozen=True)
class Counts:
    """Images, and for how many the best class, or one of the best five, is the label."""

    images: int
    top1_correct: int
    top5_correct: int

    def fault(self, answers: int) -> str | None:
        """Why these cannot be the counts of so many answers; None where they can."""
        if not 0 <= self.top1_correct <= self.top5_correct <= self.images or not self.images:
            return f"{self.top1_correct} and {self.top5_correct} of {self.images} images right"
        return None if answers == self.images else f"{self.images} images, but {answers} predictions"


@dataclass(frozen=True)
class Evaluation:
    """How the evaluation ended."""

    SCHEMA: ClassVar[int] = 1

    status: Status
    counts: Counts | None = None
