"""reports/images.json: the image sets, which share no image; and where their files lie."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

IMAGES = Path("reports/images.json")
EVALUATION = Path("data/evaluation")
CALIBRATION = Path("data/calibration")
TRAINING = Path("data/train")
# Beside the files of a labelled set: their classes.
TABLE = "labels.csv"
# The source of a set that is a part of `split.source`.
SPLIT = "split"


@dataclass(frozen=True)
class ImageSet:
    """One set: how many images, of how many classes if they are labelled, and a digest of all pixels and labels."""

    source: str
    images: int
    digest: str
    classes: int | None = None
    # Of the calibration set: which images were drawn.
    seed: int | None = None


@dataclass(frozen=True)
class Split:
    """A source that was taken apart."""

    source: str
    evaluation: float
    seed: int
    images: int
    near_duplicates: int


@dataclass(frozen=True)
class ImagesRecord:
    """All sets of one run."""

    SCHEMA: ClassVar[int] = 1

    evaluation: ImageSet
    calibration: ImageSet
    train: ImageSet | None = None
    split: Split | None = None
