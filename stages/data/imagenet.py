"""ImageNet's validation images as they come: one folder of 50,000 files, and a list that says what each shows."""

import re
from pathlib import Path

from stages.contracts.labels import Labels
from stages.core import files
from stages.core.errors import PipelineError
from stages.data.image_file import ImageFile, Problem

IMAGE = re.compile(r"ILSVRC2012_val_\d{8}\.JPE?G", re.IGNORECASE)
WNID = re.compile(r"n\d{8}")
KAGGLE = "LOC_val_solution.csv"
NUMBERS = "ILSVRC2012_validation_ground_truth.txt"
REMEDY = (
    "put imagenet_2012_validation_synset_labels.txt there, which TensorFlow's models repository holds (one WordNet id "
    f"per line, in the order of the file names), or Kaggle's {KAGGLE}"
)


def validation_images(folder: Path) -> list[Path]:
    """ILSVRC2012_val_00000001.JPEG and so on that lie in `folder` itself, in order."""
    return sorted(path for path in folder.iterdir() if IMAGE.fullmatch(path.name))


def labelled(folder: Path, labels: Labels) -> tuple[list[ImageFile], list[Problem]]:
    """The images with their classes, and what is wrong with single ones; PipelineError if no list fits."""
    paths = validation_images(folder)
    table = folder / KAGGLE
    wnids = _from_kaggle(table) if table.exists() else _from_synsets(folder, paths)
    images, problems = [], []
    for path in paths:
        wnid = wnids.get(path.stem)
        label = labels.index(wnid or "")
        if wnid is None:
            problems.append(Problem(f"{KAGGLE} does not list {path.name}", "not listed"))
        elif label is None:
            unknown = labels.unknown(wnid)
            problems.append(Problem(f"{path.name} has the {unknown}", unknown))
        else:
            images.append(ImageFile(path, path.name, label))
    return images, problems


def _from_kaggle(table: Path) -> dict[str, str]:
    """WordNet ids by the stem of the file name: the first word of `n01978287 240 170 260 240 n...`."""
    rows = files.read_csv(table, "ImageId", "PredictionString")
    return {row["ImageId"]: row["PredictionString"].partition(" ")[0] for _, row in rows}


def _from_synsets(folder: Path, images: list[Path]) -> dict[str, str]:
    lists = {path: wnids for path in sorted(folder.glob("*.txt")) if (wnids := _synsets(path))}
    fitting = {path: wnids for path, wnids in lists.items() if len(wnids) == len(images)}
    if not fitting:
        raise PipelineError(_misfit(folder, images, lists), code="imagenet-no-list", file=str(folder))
    (first, wnids), *others = fitting.items()
    for path, again in others:
        if again != wnids:
            raise PipelineError(
                f"{first} and {path.name} beside it differ: keep the one that is of these images",
                code="imagenet-lists-differ",
                files=[first.name, path.name],
            )
    return {path.stem: wnid for path, wnid in zip(images, wnids, strict=True)}


def _synsets(path: Path) -> list[str]:
    """The lines of a file of WordNet ids; none if it has any other line."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines if all(WNID.fullmatch(line) for line in lines) else []


def _misfit(folder: Path, images: list[Path], lists: dict[Path, list[str]]) -> str:
    there = f"{folder} holds {len(images)} of ImageNet's validation images"
    if lists:
        sizes = " and ".join(f"{path.name} has {len(wnids)} lines" for path, wnids in lists.items())
        return f"{there}, but {sizes}: keep one line per image, in the order of the file names"
    if (folder / NUMBERS).exists():
        return f"{there}, but {NUMBERS} has ILSVRC's own numbers, which are not the model's: {REMEDY}"
    return f"{there}, but nothing that says what they show: {REMEDY}"
