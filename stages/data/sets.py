"""The image sets of a run: gathered from their sources, kept apart by their pixels, and written with their record."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.contracts import labels
from stages.contracts.images import (
    CALIBRATION,
    EVALUATION,
    SHOWN,
    SPLIT,
    TABLE,
    TRAINING,
    ImageSet,
    ImagesRecord,
    LeftOut,
    Split,
)
from stages.core import files
from stages.core.errors import PipelineError, reason
from stages.data import decode, sources, twins
from stages.data.duplicates import near_duplicates
from stages.data.image_file import ImageFile, examine
from stages.data.sources import Found
from stages.data.split import choose, divide

CROP_SIDE = 256


@dataclass(frozen=True)
class Division:
    """A labelled source to take apart: which share of it evaluates, and the seed that says which images."""

    source: str
    evaluation: float
    seed: int


@dataclass(frozen=True)
class Draw:
    """So many images of a source, and the seed that says which ones."""

    source: str
    images: int
    seed: int


@dataclass(frozen=True)
class Request:
    """The sources of all sets, of which each may be SPLIT; `train` is None where nothing is trained."""

    evaluation: str
    calibration: Draw
    train: str | None = None
    split: Division | None = None


@dataclass(frozen=True)
class Parts:
    """A source in two, with a group number for each image: near duplicates have the same."""

    evaluation: list[ImageFile] = field(default_factory=list)
    rest: list[ImageFile] = field(default_factory=list)
    groups: dict[ImageFile, int] = field(default_factory=dict)
    record: Split | None = None
    left_out: tuple[LeftOut, ...] = ()


class Look(NamedTuple):
    """A digest of an image's pixels, upright, and whether its file has a tag that turns it."""

    digest: str
    turned: bool


def collect(request: Request, checkout: Path, work: Path) -> tuple[ImagesRecord, list[PipelineError]]:
    """All sets, gathered below `work`, checked and written: their record, and what failed of those that may fail."""
    collecting = _Collecting(request, checkout, work)
    return collecting.run(), collecting.failures


class _Collecting:
    """Takes one set after the other; only evaluation images are what every variant needs."""

    def __init__(self, request: Request, checkout: Path, work: Path) -> None:
        """Nothing is fetched yet."""
        self._request = request
        self._checkout = checkout
        self._work = work
        # What the exam shows, by its pixels.
        self._exam: dict[str, ImageFile] = {}
        self.failures: list[PipelineError] = []

    def run(self) -> ImagesRecord:
        """Write all sets; their counts, seeds and digests. Without evaluation images nothing is written."""
        request = self._request
        parts = _take_apart(request, self._checkout, self._work)
        evaluation = self._evaluation(parts)
        calibration = self._or_why(request.calibration.source, partial(self._calibration, parts), CALIBRATION)
        train = None
        if request.train:
            train = self._or_why(request.train, partial(self._train, request.train, parts), TRAINING)
        if train is None or train.failed:
            write([], TRAINING, group=[])
        return ImagesRecord(evaluation, calibration, train, parts.record)

    def _or_why(self, source: str, make: Callable[[], ImageSet], target: Path) -> ImageSet:
        """The set; or an empty folder, and a record that says why."""
        try:
            return make()
        except Exception as error:
            told = f"the {target.name} set: {reason(error)}"
            ours = error if isinstance(error, PipelineError) else PipelineError(told, code="unexpected")
            self.failures.append(PipelineError(told, code=ours.code, **ours.values))
        with files.new_directory(target):
            return ImageSet(source, 0, files.combine([]), failed=told)

    def _evaluation(self, parts: Parts) -> ImageSet:
        found, classes = Found(parts.evaluation, parts.left_out), labels.read()
        if self._request.evaluation != SPLIT:
            found = _labelled("evaluation", self._request.evaluation, self._checkout, self._work)
        seen = looks(found.images)
        digests = [look.digest for look in seen]
        exam = twins.find(digests, found.images, classes)
        self._exam = dict(zip(digests, found.images, strict=True))
        write(exam.images, EVALUATION, sha256=[files.sha256(image.path) for image in exam.images])
        return replace(
            described(self._request.evaluation, exam.digests, exam.images),
            left_out=found.left_out,
            copies=exam.copies,
            first_copies=exam.first_copies,
            contradictions=len(exam.pairs),
            twins=tuple(exam.pairs[:SHOWN]),
            empty_classes=_empty(exam.images, classes.names),
            turned=len({image for look, image in zip(seen, found.images, strict=True) if look.turned} & {*exam.images}),
        )

    def _calibration(self, parts: Parts) -> ImageSet:
        draw = self._request.calibration
        found = _drawn(draw, parts.rest, self._checkout, self._work)
        self._digests_apart(found.images, "calibration")
        write_calibration(found.images, draw)
        digest = files.tree_digest(CALIBRATION)
        return ImageSet(draw.source, draw.images, digest, seed=draw.seed, left_out=found.left_out)

    def _train(self, source: str, parts: Parts) -> ImageSet:
        images, groups = _training(source, parts, self._checkout, self._work)
        digests = self._digests_apart(images, "train")
        write(images, TRAINING, group=groups)
        return described(source, digests, images)

    def _digests_apart(self, images: list[ImageFile], name: str) -> list[str]:
        """Of the pixels of a set that shares none with the exam."""
        digests = [look.digest for look in looks(images)]
        refuse_overlap(self._exam, dict(zip(digests, images, strict=True)), name)
        return digests


def _empty(images: list[ImageFile], names: tuple[str, ...]) -> tuple[str, ...]:
    """Classes without an image, unless that is the rule, as where 20 images show what ImageNet's 1,000 are."""
    empty = sorted(set(range(len(names))) - {image.label or 0 for image in images})
    return tuple(names[index] for index in empty) if 2 * len(empty) < len(names) else ()


def _labelled(name: str, source: str, checkout: Path, work: Path) -> Found:
    (work / name).mkdir()
    return sources.labelled(source, labels.read(), checkout, work / name)


def _take_apart(request: Request, checkout: Path, work: Path) -> Parts:
    """Nothing if no set is a part of it."""
    split = request.split
    if split is None or SPLIT not in (request.evaluation, request.calibration.source, request.train):
        return Parts()
    whole, left_out = _labelled("split", split.source, checkout, work)
    groups = near_duplicates(whole)
    rest, evaluation = divide(whole, groups, split.evaluation, split.seed)
    duplicates = len(whole) - len(set(groups))
    record = Split(split.source, split.evaluation, split.seed, len(whole), duplicates)
    return Parts(evaluation, rest, dict(zip(whole, groups, strict=True)), record, left_out)


def _training(source: str, parts: Parts, checkout: Path, work: Path) -> tuple[list[ImageFile], list[int]]:
    """The training images, and the group of each."""
    if source == SPLIT:
        return parts.rest, [parts.groups[image] for image in parts.rest]
    images = _labelled("train", source, checkout, work).images
    return images, near_duplicates(images)


def _drawn(draw: Draw, rest: list[ImageFile], checkout: Path, work: Path) -> Found:
    """What calibrates; of SAMPLE all images, of which crops are made."""
    found = Found(rest)
    if draw.source != SPLIT:
        (work / "calibration").mkdir()
        found = sources.unlabelled(draw.source, checkout, work / "calibration")
    if draw.source == sources.SAMPLE:
        return found
    images = found.images
    if len(images) < draw.images:
        raise PipelineError(
            f"calibration.images asks for {draw.images}, but {draw.source} holds {len(images)} images: lower it, or "
            "name another source",
            code="calibration-too-few",
            key="calibration.images",
            source=draw.source,
            images=len(images),
        )
    return found._replace(images=choose(images, draw.images, draw.seed))


def looks(images: Sequence[ImageFile]) -> list[Look]:
    """What each image looks like; one PipelineError lists all that cannot be read."""

    def look(image: ImageFile) -> Look:
        decoded, turned = decode.read(image.path)
        return Look(hashlib.sha256(str(decoded.size).encode() + decoded.tobytes()).hexdigest(), turned)

    return examine(images, look, "checking images")


def refuse_overlap(evaluation: dict[str, ImageFile], other: dict[str, ImageFile], name: str) -> None:
    """PipelineError if an image, compared by its pixels, is in both sets: a model would know what evaluates it."""
    common = sorted(evaluation.keys() & other.keys(), key=lambda digest: evaluation[digest].name)
    if common:
        pairs = [f"{evaluation[digest].path} is {other[digest].path}" for digest in common]
        shown = pairs if len(pairs) <= SHOWN else [*pairs[:SHOWN], f"and {len(pairs) - SHOWN:,} more"]
        raise PipelineError(
            f"images that are in the evaluation set and in the {name} set ({len(common):,}); "
            f"point {name}.source at other images:\n  " + "\n  ".join(shown),
            code="sets-overlap",
            key=f"{name}.source",
            files=[str(evaluation[digest].path) for digest in common],
            others=[str(other[digest].path) for digest in common],
        )


def write(images: list[ImageFile], target: Path, **columns: Sequence[object]) -> None:
    """The files of a labelled set beside a table of their classes, with further columns."""
    with files.new_directory(target) as folder:
        copy(images, folder)
        names, classes = [image.name for image in images], [image.label for image in images]
        rows = zip(names, classes, *columns.values(), strict=True)
        files.write_csv(folder / TABLE, ("file", "label", *columns), rows)


def write_calibration(images: list[ImageFile], draw: Draw) -> None:
    """The images themselves, or crops of the few samples."""
    with files.new_directory(CALIBRATION) as folder:
        if draw.source == sources.SAMPLE:
            write_crops(images, draw.images, draw.seed, folder)
        else:
            copy(images, folder)


def write_crops(images: list[ImageFile], count: int, seed: int, folder: Path) -> None:
    """Save `count` seeded random square crops, half to all of the short side, as PNG of CROP_SIDE pixels."""
    rng = np.random.default_rng(seed)
    originals = [decode.decode(image.path) for image in images]
    for index in range(count):
        image = originals[rng.integers(len(originals))]
        side = int(min(image.size) * rng.uniform(0.5, 1))
        left, top = (int(rng.integers(length - side + 1)) for length in image.size)
        crop = image.resize((CROP_SIDE, CROP_SIDE), box=(left, top, left + side, top + side))
        crop.save(folder / f"crop_{index:05d}.png", compress_level=1)  # a quarter of the default's time


def copy(images: list[ImageFile], folder: Path) -> None:
    """Copy the files under their names inside the source."""
    for image in images:
        (folder / image.name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image.path, folder / image.name)


def described(source: str, digests: list[str], images: list[ImageFile]) -> ImageSet:
    """How many images and classes, and one digest of all pixels and labels."""
    marked = sorted(f"{digest} {image.label}" for digest, image in zip(digests, images, strict=True))
    return ImageSet(source, len(images), files.combine(marked), classes=len({image.label for image in images}))
