"""Collect the labelled images for evaluation and training and those for calibration, check each, keep them apart."""

import argparse
import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stages.contracts import labels, paths
from stages.core import errors, files
from stages.core.errors import PipelineError
from stages.data import decode, sources
from stages.data.image_file import Photo, examine
from stages.data.split import choose, divide, near_duplicates
from stages.params import document
from stages.params.document import SPLIT

CROP_SIDE = 256


def pixel_digests(photos: Sequence[Photo]) -> list[str]:
    """Digest of each photograph's pixels; one PipelineError lists all that cannot be read."""

    def digest(photo: Photo) -> str:
        image = decode.decode(photo.path)
        return hashlib.sha256(str(image.size).encode() + image.tobytes()).hexdigest()

    return examine(photos, digest, "checking images")


def refuse_overlap(evaluation: dict[str, Photo], other: dict[str, Photo], name: str) -> None:
    """PipelineError if a photograph, compared by its pixels, is in both sets: a model would know its own exam."""
    common = sorted(evaluation.keys() & other.keys(), key=lambda digest: evaluation[digest].name)
    if common:
        pairs = [f"{evaluation[digest].path} is {other[digest].path}" for digest in common]
        raise PipelineError(
            f"photographs that are in the evaluation set and in the {name} set ({len(common)}); "
            f"point {name}.source at other images:\n  " + "\n  ".join(pairs)
        )


def write_crops(photos: list[Photo], count: int, seed: int, folder: Path) -> None:
    """Save `count` seeded random square crops, half to all of the short side, as PNG of CROP_SIDE pixels."""
    rng = np.random.default_rng(seed)
    originals = [decode.decode(photo.path) for photo in photos]
    for index in range(count):
        image = originals[rng.integers(len(originals))]
        side = int(min(image.size) * rng.uniform(0.5, 1))
        left, top = (int(rng.integers(length - side + 1)) for length in image.size)
        crop = image.resize((CROP_SIDE, CROP_SIDE), box=(left, top, left + side, top + side))
        crop.save(folder / f"crop_{index:05d}.png", compress_level=1)  # a quarter of the default's time


def copy(photos: list[Photo], folder: Path) -> None:
    """Copy the files under their names inside the source."""
    for photo in photos:
        (folder / photo.name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photo.path, folder / photo.name)


class Sets(NamedTuple):
    """The three sets, each with its photographs in order."""

    evaluation: list[Photo]
    calibration: list[Photo]
    train: list[Photo]
    # Of near duplicates in `train`, a number for each photograph.
    groups: list[int]


def gather(setting: document.Params, checkout: Path, work: Path) -> tuple[Sets, dict[str, Any] | None]:
    """Photographs of every set, and how a source was split; whatever is fetched lies below `work`."""

    def fetch(name: str, source: str) -> list[Photo]:
        (work / name).mkdir()
        return sources.labelled(source, labels.read(), checkout, work / name)

    exam, rest, lessons, told = list[Photo](), list[Photo](), list[Photo](), None
    groups: dict[Photo, int] = {}
    if setting.split.source and SPLIT in setting.image_sources().values():
        whole = fetch("split", setting.split.source)
        numbers = near_duplicates(whole)
        rest, exam = divide(whole, numbers, setting.split.evaluation, setting.split.seed)
        groups = dict(zip(whole, numbers, strict=True))
        told = asdict(setting.split) | {"images": len(whole), "near_duplicates": len(whole) - len(set(numbers))}
    if setting.evaluation.source != SPLIT:
        exam = fetch("evaluation", setting.evaluation.source)
    trains = "train" in setting.image_sources()
    if trains and setting.train.source == SPLIT:
        lessons = rest
    elif trains:
        lessons = fetch("train", setting.train.source)
        groups = dict(zip(lessons, near_duplicates(lessons), strict=True))
    tune = _calibration(setting, rest, checkout, work)
    return Sets(exam, tune, lessons, [groups[photo] for photo in lessons]), told


def _calibration(setting: document.Params, rest: list[Photo], checkout: Path, work: Path) -> list[Photo]:
    wanted = setting.calibration
    if wanted.source != SPLIT:
        (work / "calibration").mkdir()
        rest = sources.unlabelled(wanted.source, checkout, work / "calibration")
    if wanted.source == sources.SAMPLE:
        return rest
    if len(rest) < wanted.images:
        raise PipelineError(
            f"calibration.images asks for {wanted.images}, but {wanted.source} holds {len(rest)} images"
        )
    return choose(rest, wanted.images, wanted.seed)


def collect(setting: document.Params, checkout: Path, work: Path) -> dict[str, Any]:
    """All sets, checked and written; their counts, seeds and digests."""
    sets, split = gather(setting, checkout, work)
    photos = (sets.evaluation, sets.calibration, sets.train)
    digests = [pixel_digests(found) for found in photos]
    exam, tune, lessons = (dict(zip(*pair, strict=True)) for pair in zip(digests, photos, strict=True))
    refuse_overlap(exam, tune, "calibration")
    refuse_overlap(exam, lessons, "train")
    write(sets.evaluation, paths.EVALUATION, sha256=[files.sha256(photo.path) for photo in sets.evaluation])
    write(sets.train, paths.TRAINING, group=sets.groups)
    calibration = setting.calibration
    with files.new_directory(paths.CALIBRATION) as folder:
        if calibration.source == sources.SAMPLE:
            write_crops(sets.calibration, calibration.images, calibration.seed, folder)
        else:
            copy(sets.calibration, folder)
    return {
        "evaluation": {"source": setting.evaluation.source} | described(digests[0], sets.evaluation),
        "calibration": asdict(calibration) | {"digest": files.tree_digest(paths.CALIBRATION)},
        "train": {"source": setting.train.source} | described(digests[2], sets.train) if sets.train else None,
        "split": split,
    }


def write(photos: list[Photo], target: Path, **more: Sequence[object]) -> None:
    """The files of a labelled set beside a labels.csv, which has these columns more."""
    with files.new_directory(target) as folder:
        copy(photos, folder)
        names, classes = [photo.name for photo in photos], [photo.label for photo in photos]
        rows = zip(names, classes, *more.values(), strict=True)
        files.write_csv(folder / "labels.csv", ("file", "label", *more), rows)


def described(digests: list[str], photos: list[Photo]) -> dict[str, Any]:
    """How many images and classes, and one digest of all pixels and labels."""
    marked = sorted(f"{digest} {photo.label}" for digest, photo in zip(digests, photos, strict=True))
    return {
        "images": len(photos),
        "classes": len({photo.label for photo in photos}),
        "digest": files.combine(marked),
    }


def main() -> None:
    """Read params, collect, and write data/evaluation, data/calibration, data/train and their record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, default=Path(), help="where relative paths of params.yaml start")
    arguments = parser.parse_args()
    setting = document.load()
    with tempfile.TemporaryDirectory() as work:
        record = collect(setting, arguments.checkout, Path(work))
    files.write_json(paths.IMAGES, record)


if __name__ == "__main__":
    errors.run(main)
