"""Where images come from: what a source in params.yaml means, and the layouts a folder may have."""

from collections.abc import Callable
from pathlib import Path

from stages.contracts.labels import Labels
from stages.core import files
from stages.core.errors import PipelineError
from stages.data import archives, batches, imagenet, samples, tfds, tfrecord
from stages.data.image_file import ImageFile

SAMPLE = "sample"
DIGITS = "digits"


def labelled(source: str, labels: Labels, checkout: Path, work: Path) -> list[ImageFile]:
    """The evaluation images of `source`; PipelineError lists every missing file and unknown label at once."""
    if source == SAMPLE:
        return samples.evaluation(work)
    if source == DIGITS:
        return _digits(labels, work)
    if source.startswith(tfds.PREFIX):
        return tfds.labelled(source, labels, work / "tfds")
    place = _place(source, checkout, work, is_class=lambda name: labels.index(name) is not None)
    images, problems = _read(place, labels, work / "records")
    if problems:
        raise PipelineError(
            f"problems in {source} ({len(problems)}), correct or remove each:\n  " + "\n  ".join(problems),
            code="source-problems",
            source=source,
            problems=problems,
        )
    if not images:
        raise PipelineError(
            f"{source} holds no images: it needs a labels.csv (file,label) or one sub-folder per class",
            code="source-empty",
            source=source,
        )
    return images


def class_names(source: str, checkout: Path, work: Path) -> tuple[str, ...]:
    """Names of the classes that labelled images come with, in alphabetical order, as Keras numbers folders.

    Labels that are all numbers, in a table, are in their order.
    """
    if source == DIGITS:
        return tuple(str(digit) for digit in range(10))
    known = source == SAMPLE or source.startswith(tfds.PREFIX)
    place = None if known else _place(source, checkout, work, is_class=lambda name: False)
    if place is None or tfrecord.shards(place) or imagenet.validation_images(place):
        raise PipelineError(
            f"{source} does not say which classes a custom model has: name them in custom.labels",
            code="source-no-classes",
            source=source,
            key="custom.labels",
        )
    table = place / "labels.csv"
    if table.exists():
        names = {row["label"].strip() for _, row in files.read_csv(table, "file", "label")} - {""}
        return tuple(sorted(names, key=int if all(map(str.isdecimal, names)) else None))
    folders = (folder for folder in place.iterdir() if folder.is_dir() and batches.files(folder))
    return tuple(sorted(folder.name for folder in folders))


def _read(place: Path, labels: Labels, work: Path) -> tuple[list[ImageFile], list[str]]:
    """The images of a file or folder in whichever layout, and what is wrong with single ones."""
    table = place / "labels.csv"
    if table.exists():
        return _from_table(table, labels)
    if shards := tfrecord.shards(place):
        return tfrecord.labelled(shards, labels, work)
    if imagenet.validation_images(place):
        return imagenet.labelled(place, labels)
    return _from_folders(place, labels)


def unlabelled(source: str, checkout: Path, work: Path) -> list[ImageFile]:
    """The calibration images of `source`, in a stable order."""
    if source == SAMPLE:
        return samples.calibration(work)
    if source == DIGITS:
        return [image._replace(label=None) for image in samples.digits(work)]
    if source.startswith(tfds.PREFIX):
        return tfds.unlabelled(source, work / "tfds")
    folder = _place(source, checkout, work, is_class=lambda name: False)
    if shards := tfrecord.shards(folder):
        return tfrecord.unlabelled(shards, work / "records")
    return [ImageFile(path, path.relative_to(folder).as_posix()) for path in batches.files(folder)]


def _digits(labels: Labels, work: Path) -> list[ImageFile]:
    classes = labels.match([str(digit) for digit in range(10)])
    if None in classes:
        raise PipelineError(
            f"{DIGITS} (evaluation.source in params.yaml) needs a model of ten classes, or with classes called 0 to 9, "
            f"and this one has {len(labels)} others: set another source",
            code="digits-classes",
            source=DIGITS,
            classes=len(labels),
        )
    return [image._replace(label=classes[image.label or 0]) for image in samples.digits(work)]


def _from_table(table: Path, labels: Labels) -> tuple[list[ImageFile], list[str]]:
    images, problems = [], []
    for line, row in files.read_csv(table, "file", "label"):
        name, text = row["file"], row["label"].strip()
        path, label = table.parent / name, labels.index(text)
        if not path.is_file() or not path.resolve().is_relative_to(table.parent.resolve()):
            problems.append(f"labels.csv line {line}: the file {name or '(empty)'} does not exist in its folder")
        elif label is None:
            problems.append(f"labels.csv line {line}: {name} has the {labels.unknown(text)}")
        else:
            images.append(ImageFile(path, name, label))
    return images, problems


def _from_folders(folder: Path, labels: Labels) -> tuple[list[ImageFile], list[str]]:
    images, problems = [], []
    for path in batches.files(folder):
        inside = path.relative_to(folder)
        label = labels.index(inside.parts[0]) if len(inside.parts) > 1 else None
        if label is not None:
            images.append(ImageFile(path, inside.as_posix(), label))
        elif len(inside.parts) == 1:
            problems.append(f"{inside} has no label: list it in labels.csv or put it into a folder named as its class")
        else:
            problems.append(f"{inside} lies in a folder named with the {labels.unknown(inside.parts[0])}")
    return images, problems


def _place(source: str, checkout: Path, work: Path, is_class: Callable[[str], bool]) -> Path:
    """A folder on this disk that holds the images of `source`, or one TFRecord file."""
    if source.startswith(("http://", "https://")):
        return archives.fetch(source, work, is_class)
    place = files.resolve(source, checkout)
    if not place.is_dir() and not (place.is_file() and tfrecord.shards(place)):
        raise PipelineError(
            f"there is no folder {place} (named in params.yaml as {source}): correct the path",
            code="source-missing",
            source=source,
            file=str(place),
        )
    return place
