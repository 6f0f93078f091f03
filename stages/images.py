"""Collect the labelled evaluation set and the calibration set, check every image, and keep the two apart."""

import argparse
import hashlib
import os
import random
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from stages.common import errors, files, images, labels, params, paths, sources
from stages.common.errors import PipelineError
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


def refuse_overlap(evaluation: dict[str, Photo], calibration: dict[str, Photo]) -> None:
    """PipelineError if a photograph, compared by its pixels, is in both sets: INT8 would be tuned on its own exam."""
    common = sorted(evaluation.keys() & calibration.keys(), key=lambda digest: evaluation[digest].name)
    if common:
        pairs = [f"{evaluation[digest].path} is {calibration[digest].path}" for digest in common]
        raise PipelineError(
            f"photographs that are in the evaluation set and in the calibration set ({len(common)}); "
            "point calibration.source at other images:\n  " + "\n  ".join(pairs)
        )


def choose(photos: list[Photo], count: int, seed: int, source: str) -> list[Photo]:
    """A seeded choice of `count` photographs, in the order of their names."""
    if len(photos) < count:
        raise PipelineError(f"calibration.images asks for {count}, but {source} holds {len(photos)} images")
    return sorted(random.Random(seed).sample(photos, count), key=lambda photo: photo.name)


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


def collect(setting: params.Params, checkout: Path, work: Path) -> dict[str, Any]:
    """Both sets, checked and written; their counts, seed and digests."""
    evaluation, calibration = setting.evaluation, setting.calibration
    for name in ("evaluation", "calibration"):
        (work / name).mkdir()
    exam = sources.labelled(evaluation.source, labels.read(), checkout, work / "evaluation")
    tune = sources.unlabelled(calibration.source, checkout, work / "calibration")
    is_sample = calibration.source == sources.SAMPLE
    if not is_sample:
        tune = choose(tune, calibration.images, calibration.seed, calibration.source)
    exam_digests, tune_digests = pixel_digests(exam), pixel_digests(tune)
    refuse_overlap(dict(zip(exam_digests, exam, strict=True)), dict(zip(tune_digests, tune, strict=True)))
    with files.new_directory(paths.EVALUATION) as folder:
        copy(exam, folder)
        files.write_csv(folder / "labels.csv", ("file", "label"), ((photo.name, photo.label) for photo in exam))
    with files.new_directory(paths.CALIBRATION) as folder:
        write_crops(tune, calibration.images, calibration.seed, folder) if is_sample else copy(tune, folder)
    marked = [f"{digest} {photo.label}" for digest, photo in zip(exam_digests, exam, strict=True)]
    classes = len({photo.label for photo in exam})
    return {
        "evaluation": {
            "source": evaluation.source,
            "images": len(exam),
            "classes": classes,
            "digest": files.combine(sorted(marked)),
        },
        "calibration": asdict(calibration) | {"digest": files.tree_digest(paths.CALIBRATION)},
    }


def main() -> None:
    """Read params, collect, and write data/evaluation, data/calibration and their record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, default=Path(), help="where relative paths of params.yaml start")
    arguments = parser.parse_args()
    setting = params.load()
    with tempfile.TemporaryDirectory() as work:
        record = collect(setting, arguments.checkout, Path(work))
    files.write_json(paths.IMAGES, record)


if __name__ == "__main__":
    errors.run(main)
