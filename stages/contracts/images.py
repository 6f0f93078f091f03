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
# Files and folders whose names begin with a dot, or that systems make beside the user's: of the system and of tools.
HIDDEN = "hidden"
# In place of a class, none.
EMPTY = "empty folder"
# Of a folder, as behind a link: it counts once.
AGAIN = "second way to a folder"
# What to say of one such folder, and of more.
FOLDERS = {
    EMPTY: ("{} of its folders has no image", "{:,} of its folders have no image"),
    AGAIN: (
        "{} link was left out, since its folder counts under another name",
        "{:,} links were left out, since their folders count under other names",
    ),
}
# Names that a record or a sentence shows.
SHOWN = 10
# Names of copies.
COPIES_SHOWN = 3
# The source of a set that is a part of `split.source`.
SPLIT = "split"


def _were(count: int, what: str) -> str:
    return f"1 {what} was" if count == 1 else f"{count:,} {what}s were"


@dataclass(frozen=True)
class LeftOut:
    """Files below a source that are no part of its set: of what kind (a suffix, or a word), how many, and the first."""

    kind: str
    files: int
    first: str


@dataclass(frozen=True)
class Twins:
    """Two files that show the same and have different labels."""

    file: str
    label: str
    other: str
    other_label: str

    def __str__(self) -> str:
        return f"{self.file} and {self.other} show the same and are labelled {self.label} and {self.other_label}"


@dataclass(frozen=True)
class ImageSet:
    """One set: how many images, of how many classes if they are labelled, and a digest of all pixels and labels."""

    source: str
    images: int
    digest: str
    classes: int | None = None
    # Of the calibration set: which images were drawn.
    seed: int | None = None
    left_out: tuple[LeftOut, ...] = ()
    # Of a labelled set: copies of the same pixels with the same label, of which the first counts.
    copies: int = 0
    first_copies: tuple[str, ...] = ()
    # Pairs of which no model gets both right: how many, and the first ones.
    contradictions: int = 0
    twins: tuple[Twins, ...] = ()
    # Names of classes without an image, where most have some.
    empty_classes: tuple[str, ...] = ()
    # Why there are no images, where that is a failure.
    failed: str | None = None
    # Images with an EXIF tag that turns them.
    turned: int = 0

    @property
    def remarks(self) -> list[str]:
        """What a person should know of its files, a sentence each."""
        hidden = [one for one in self.left_out if one.kind == HIDDEN]
        folders = [one for one in self.left_out if one.kind in FOLDERS]
        others = [one for one in self.left_out if one.kind not in (HIDDEN, *FOLDERS)]
        told = [f"{_were(one.files, 'hidden file')} left out, such as {one.first}" for one in hidden]
        told += [f"{FOLDERS[one.kind][one.files > 1].format(one.files)}, such as {one.first}" for one in folders]
        if others:
            kinds = ", ".join(f"{one.files:,} {one.kind}" for one in others)
            files = sum(one.files for one in others)
            told.append(f"{_were(files, 'file')} left out: {kinds}, such as {others[0].first}")
        if self.copies:
            copies = _were(self.copies, "image")
            told.append(
                f"{copies} left out as a copy of another with the same label, such as {', '.join(self.first_copies)}"
            )
        told += map(str, self.twins)
        if self.contradictions > len(self.twins):
            more = self.contradictions - len(self.twins)
            told.append(f"and so in {more:,} more pair{'s' if more > 1 else ''}")
        if self.empty_classes:
            names = ", ".join(self.empty_classes[:SHOWN])
            told.append(f"classes without an image ({len(self.empty_classes):,}): {names}")
        return told


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


def remarks(evaluation: ImageSet, calibration: ImageSet) -> list[str]:
    """What a person should know of the files of both sets that every run has, each with the set's name."""
    sets = {"evaluation": evaluation, "calibration": calibration}
    return [f"{name}: {remark}" for name, found in sets.items() for remark in found.remarks]
