"""Where photographs come from: what a source in params.yaml means, and the layouts a folder may have."""

from collections.abc import Callable
from pathlib import Path

from stages.contracts import paths
from stages.contracts.labels import Labels
from stages.core import files
from stages.core.errors import PipelineError
from stages.data import archives, batches, imagenet, samples, tfds, tfrecord
from stages.data.image_file import Photo

SAMPLE = "sample"
DIGITS = "digits"


def labelled(source: str, labels: Labels, checkout: Path, work: Path) -> list[Photo]:
    """The evaluation photographs of `source`; PipelineError lists every missing file and unknown label at once."""
    if source == SAMPLE:
        return samples.evaluation(work)
    if source == DIGITS:
        return _digits(labels, work)
    if source.startswith(tfds.PREFIX):
        return tfds.labelled(source, labels, work / "tfds")
    place = _place(source, checkout, work, is_class=lambda name: labels.index(name) is not None)
    photos, problems = _read(place, labels, work / "records")
    if problems:
        raise PipelineError(f"problems in {source} ({len(problems)}), mend or remove each:\n  " + "\n  ".join(problems))
    if not photos:
        raise PipelineError(f"{source} holds no images: it needs a labels.csv (file,label) or one sub-folder per class")
    return photos


def class_names(source: str, checkout: Path, work: Path) -> tuple[str, ...]:
    """Names of the classes that labelled images come with, in alphabetical order, as Keras numbers folders.

    Labels that are all numbers, in a table, are in their order.
    """
    if source == DIGITS:
        return tuple(str(digit) for digit in range(10))
    known = source == SAMPLE or source.startswith(tfds.PREFIX)
    place = None if known else _place(source, checkout, work, is_class=lambda name: False)
    if place is None or tfrecord.shards(place) or imagenet.validation_images(place):
        raise PipelineError(f"{source} does not say which classes a custom model has: name them in custom.labels")
    table = place / "labels.csv"
    if table.exists():
        found = {row["label"].strip() for _, row in files.read_csv(table, "file", "label")} - {""}
        return tuple(sorted(found, key=int if all(map(str.isdecimal, found)) else None))
    folders = (folder for folder in place.iterdir() if folder.is_dir() and batches.files(folder))
    return tuple(sorted(folder.name for folder in folders))


def _read(place: Path, labels: Labels, work: Path) -> tuple[list[Photo], list[str]]:
    """The photographs of a file or folder in whichever layout, and what is wrong with single ones."""
    table = place / "labels.csv"
    if table.exists():
        return _from_table(table, labels)
    if found := tfrecord.shards(place):
        return tfrecord.labelled(found, labels, work)
    if imagenet.validation_images(place):
        return imagenet.labelled(place, labels)
    return _from_folders(place, labels)


def unlabelled(source: str, checkout: Path, work: Path) -> list[Photo]:
    """The calibration photographs of `source`, in a stable order."""
    if source == SAMPLE:
        return samples.calibration(work)
    if source == DIGITS:
        return [photo._replace(label=None) for photo in samples.digits(work)]
    if source.startswith(tfds.PREFIX):
        return tfds.unlabelled(source, work / "tfds")
    folder = _place(source, checkout, work, is_class=lambda name: False)
    if found := tfrecord.shards(folder):
        return tfrecord.unlabelled(found, work / "records")
    return [Photo(path, path.relative_to(folder).as_posix()) for path in batches.files(folder)]


def _digits(labels: Labels, work: Path) -> list[Photo]:
    classes = labels.match([str(digit) for digit in range(10)])
    if None in classes:
        raise PipelineError(
            f"{DIGITS} (evaluation.source in params.yaml) needs a model of ten classes, or with classes called 0 to 9, "
            f"and this one has {len(labels)} others: set another source"
        )
    return [photo._replace(label=classes[photo.label or 0]) for photo in samples.digits(work)]


def _from_table(table: Path, labels: Labels) -> tuple[list[Photo], list[str]]:
    photos, problems = [], []
    for line, row in files.read_csv(table, "file", "label"):
        name, text = row["file"], row["label"].strip()
        path, label = table.parent / name, labels.index(text)
        if not path.is_file() or not path.resolve().is_relative_to(table.parent.resolve()):
            problems.append(f"labels.csv line {line}: the file {name or '(empty)'} does not exist in its folder")
        elif label is None:
            problems.append(f"labels.csv line {line}: {name} has the {labels.unknown(text)}")
        else:
            photos.append(Photo(path, name, label))
    return photos, problems


def _from_folders(folder: Path, labels: Labels) -> tuple[list[Photo], list[str]]:
    photos, problems = [], []
    for path in batches.files(folder):
        inside = path.relative_to(folder)
        label = labels.index(inside.parts[0]) if len(inside.parts) > 1 else None
        if label is not None:
            photos.append(Photo(path, inside.as_posix(), label))
        elif len(inside.parts) == 1:
            problems.append(f"{inside} has no label: list it in labels.csv or put it into a folder named as its class")
        else:
            problems.append(f"{inside} lies in a folder named with the {labels.unknown(inside.parts[0])}")
    return photos, problems


def _place(source: str, checkout: Path, work: Path, is_class: Callable[[str], bool]) -> Path:
    """A folder on this disk that holds the images of `source`, or one TFRecord file."""
    if source.startswith(("http://", "https://")):
        return archives.fetch(source, work, is_class)
    place = paths.resolve(source, checkout)
    if not place.is_dir() and not (place.is_file() and tfrecord.shards(place)):
        raise PipelineError(f"there is no folder {place} (named in params.yaml as {source}): correct the path")
    return place
