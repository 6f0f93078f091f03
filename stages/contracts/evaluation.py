"""reports/variants/V/evaluate.json: how many images a variant got right; predictions.csv has every answer."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from .conversion import record
from .status import Status
from .variant import BASELINE

# Of the images: so many may stay without an answer, which then count as wrong.
FEW = 0.01
# What to do where many do: of the model as it is, and of what is made of it.
ITSELF = (
    "the model itself does it, before anything is converted: mend its weights, or correct how images reach it "
    "(`custom.scale`, `mean` and `std` of one of your own)"
)
ELSEWHERE = "leave this variant out of `variants`, or choose a precision whose range holds what the model computes"


def evaluation_path(variant: str) -> Path:
    """Of the record of its evaluation."""
    return record(variant, "evaluate.json")


def predictions_path(variant: str) -> Path:
    """Of the table of its answers."""
    return record(variant, "predictions.csv")


@dataclass(frozen=True)
class Answered:
    """On how many images a model gives no finite answer, and the first of them by name; on how many several classes
    share the first place; whether it answers all images alike, which have several labels.
    """

    without: int = 0
    first_without: tuple[str, ...] = ()
    tied: int = 0
    alike: bool = False
    # Of the first of those without an answer: the layer that gives NaN or infinity first, where the runtime tells.
    first_layer: str = ""

    def missing(self, images: int) -> str:
        """How many have no answer, and the first of them."""
        names = ", ".join(self.first_without)
        layer = f", which first comes from {self.first_layer}" if self.first_layer else ""
        return f"{self.without:,} of {images:,} images have no answer (NaN or infinity{layer}), such as {names}"


@dataclass(frozen=True)
class Counts:
    """Images, and for how many the best class, or one of the best five, is the label; of a tie that is a share."""

    images: int
    top1_correct: float
    top5_correct: float
    answered: Answered = field(default_factory=Answered)

    def no_answers(self, variant: str) -> str | None:
        """Why the answers of a variant are none of a classifier; None where at most a few are missing."""
        answered = self.answered
        if answered.without > max(1, FEW * self.images):
            return f"{answered.missing(self.images)}: {ITSELF if variant == BASELINE.name else ELSEWHERE}"
        if answered.alike:
            return f"all {self.images:,} images have the same answer, whatever they show: the model does not see them"
        return None

    def fault(self, answers: int) -> str | None:
        """Why these cannot be the counts of so many answers; None where they can."""
        if not 0 <= self.top1_correct <= self.top5_correct <= self.images or not self.images:
            return f"{self.top1_correct:g} and {self.top5_correct:g} of {self.images} images right"
        return None if answers == self.images else f"{self.images} images, but {answers} predictions"


@dataclass(frozen=True)
class Probe:
    """How right the model is on every `step`th image, from 0 to 1, where images are resized otherwise than `here`."""

    here: str
    step: int
    top1: dict[str, list[float]]


@dataclass(frozen=True)
class Evaluation:
    """How the evaluation ended."""

    SCHEMA: ClassVar[int] = 1

    status: Status
    counts: Counts | None = None
    # Of the baseline.
    probe: Probe | None = None

    def fault(self, answers: int) -> str | None:
        """Why these cannot be the counts and the sample of so many answers; None where they can."""
        if self.counts is None:
            return "no counts"
        sizes = {len(right) for right in self.probe.top1.values()} if self.probe else set()
        if self.probe and sizes - {len(range(0, answers, self.probe.step))}:
            return f"a sample of {max(sizes)} images"
        return self.counts.fault(answers)
