"""Images of equal pixels in one labelled set: copies, and those that are labelled as two things."""

from collections.abc import Sequence
from dataclasses import dataclass

from stages.contracts.images import COPIES_SHOWN, Twins
from stages.contracts.labels import Labels
from stages.data.image_file import ImageFile


@dataclass(frozen=True)
class Exam:
    """The images without further copies, with their digests; how many copies there were, and pairs that contradict."""

    images: list[ImageFile]
    digests: list[str]
    copies: int
    first_copies: tuple[str, ...]
    pairs: list[Twins]


def find(digests: Sequence[str], images: Sequence[ImageFile], labels: Labels) -> Exam:
    """Of each picture and label the first image, since a copy is no second observation.

    A picture with two labels stays with both: one of them is wrong, and only a person can tell which.
    """
    kept: dict[tuple[str, int | None], ImageFile] = {}
    first: dict[str, ImageFile] = {}
    copies, pairs = [], []
    for digest, image in zip(digests, images, strict=True):
        if (digest, image.label) in kept:
            copies.append(image.name)
            continue
        kept[digest, image.label] = image
        if (other := first.setdefault(digest, image)) is not image:
            pairs.append(_twins(other, image, labels))
    return Exam(list(kept.values()), [digest for digest, _ in kept], len(copies), tuple(copies[:COPIES_SHOWN]), pairs)


def _twins(first: ImageFile, second: ImageFile, labels: Labels) -> Twins:
    return Twins(first.name, labels.name(first.label or 0), second.name, labels.name(second.label or 0))
