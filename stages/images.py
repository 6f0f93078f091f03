"""Collect the labelled images for evaluation and training and those for calibration, check each, keep them apart."""

import argparse
import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from stages.common import errors, files, images, labels, params, paths, sources, splits
from stages.common.errors import PipelineError
from stages.common.params import SPLIT
from stages.common.sources import Photo

CROP_SIDE = 256


def pixel_digests(photos: Sequence[Photo]) -> list[str]:
    """Digest of each photograph's pixels; one PipelineError lists all that cannot be read."""

    def digest(photo: Photo) -> str | PipelineError:
        try:
            image = images.decode(photo.path)
        except PipelineError as error:
            return error
        return hashlib.sha256(str(image.size).encode() + image.tobytes()).hexdigest()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(tqdm(pool.map(digest, photos), "checking images", len(photos), unit="image", disable=None))
    problems = [str(result) for result in results if isinstance(result, PipelineError)]
    if problems:
        raise PipelineError(f"bad images ({len(problems)} of {len(photos)}):\n  " + "\n  ".join(problems))
    return [str(result) for result in results]


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
    originals = [images.decode(photo.path) for photo in photos]
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


class Digests(NamedTuple):
    """Of the pixels of each photograph, in the same order."""

    evaluation: list[str]
    calibration: list[str]
    train: list[str]


def gather(setting: params.Params, checkout: Path, work: Path) -> tuple[Sets, dict[str, Any] | None]:
    """Photographs of every set, and how a source was split; whatever is fetched lies below `work`."""
    known, found, told = labels.read(), dict[str, list[Photo]](), None

    def fetch(name: str, source: str) -> list[Photo]:
        (work / name).mkdir()
        return sources.labelled(source, known, checkout, work / name)

    wanted = {"evaluation": setting.evaluation.source} | ({"train": setting.train.source} if setting.trains else {})
    if SPLIT in (*wanted.values(), setting.calibration.source) and setting.split.source:
        whole = fetch("split", setting.split.source)
        rest, exam = splits.divide(whole, setting.split.evaluation, setting.split.seed)
        found, told = {"train": rest, "evaluation": exam}, {"images": len(whole)} | asdict(setting.split)
    evaluation, train = (
        [] if name not in wanted else found[name] if wanted[name] == SPLIT else fetch(name, wanted[name])
        for name in ("evaluation", "train")
    )
    return Sets(evaluation, _calibration(setting, found.get("train"), checkout, work), train), told


def _calibration(setting: params.Params, rest: list[Photo] | None, checkout: Path, work: Path) -> list[Photo]:
    wanted = setting.calibration
    if wanted.source == sources.SAMPLE:
        (work / "calibration").mkdir()
        return sources.unlabelled(wanted.source, checkout, work / "calibration")
    if wanted.source != SPLIT or rest is None:
        (work / "calibration").mkdir()
        rest = sources.unlabelled(wanted.source, checkout, work / "calibration")
    if len(rest) < wanted.images:
        raise PipelineError(
            f"calibration.images asks for {wanted.images}, but {wanted.source} holds {len(rest)} images"
        )
    return splits.choose(rest, wanted.images, wanted.seed)


def collect(setting: params.Params, checkout: Path, work: Path) -> dict[str, Any]:
    """All sets, checked and written; their counts, seeds and digests."""
    sets, split = gather(setting, checkout, work)
    digests = Digests(*(pixel_digests(photos) for photos in sets))
    exam, tune, lessons = (dict(zip(*pair, strict=True)) for pair in zip(digests, sets, strict=True))
    refuse_overlap(exam, tune, "calibration")
    refuse_overlap(exam, lessons, "train")
    for photos, target in ((sets.evaluation, paths.EVALUATION), (sets.train, paths.TRAINING)):
        with files.new_directory(target) as folder:
            copy(photos, folder)
            files.write_csv(folder / "labels.csv", ("file", "label"), ((photo.name, photo.label) for photo in photos))
    calibration = setting.calibration
    with files.new_directory(paths.CALIBRATION) as folder:
        if calibration.source == sources.SAMPLE:
            write_crops(sets.calibration, calibration.images, calibration.seed, folder)
        else:
            copy(sets.calibration, folder)
    return {
        "evaluation": {"source": setting.evaluation.source} | described(digests.evaluation, sets.evaluation),
        "calibration": asdict(calibration) | {"digest": files.tree_digest(paths.CALIBRATION)},
        "train": {"source": setting.train.source} | described(digests.train, sets.train) if setting.trains else None,
        "split": split,
    }


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
    setting = params.load()
    with tempfile.TemporaryDirectory() as work:
        record = collect(setting, arguments.checkout, Path(work))
    files.write_json(paths.IMAGES, record)


if __name__ == "__main__":
    errors.run(main)
