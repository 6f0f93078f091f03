"""Where images come from: what a source in params.yaml means, and the layouts a folder may have."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from stages.contracts.images import EMPTY, LeftOut
from stages.contracts.labels import Labels, looks, plain, spelled, value
from stages.core import files
from stages.core.errors import PipelineError
from stages.data import archives, changes, imagenet, samples, tfds, tfrecord
from stages.data.census import Census, census, of_system
from stages.data.image_file import ImageFile, Problem

SAMPLE = "sample"
DIGITS = "digits"
ALPHABETICAL = "in alphabetical order"


class Found(NamedTuple):
    """The images of a source, and the files beside them that are left out."""

    images: list[ImageFile]
    left_out: tuple[LeftOut, ...] = ()


def labelled(source: str, labels: Labels, checkout: Path, work: Path) -> Found:
    """The evaluation images of `source`; PipelineError lists every missing file and unknown label at once."""
    if source == SAMPLE:
        return Found(samples.evaluation(work))
    if source == DIGITS:
        return Found(_digits(labels, work))
    if source.startswith(tfds.PREFIX):
        return Found(tfds.labelled(source, labels, work / "tfds"))
    place = _place(source, checkout, work, is_class=lambda name: labels.index(name) is not None)
    images, problems, left_out = _read(place, labels, work / "records")
    if problems:
        told = [what if count == 1 else f"{what} ({count:,} files)" for what, count in _alike(problems)]
        raise PipelineError(
            f"problems in {source} ({len(problems):,}), correct or remove each:\n  " + "\n  ".join(told),
            code="source-problems",
            source=source,
            problems=told,
        )
    if not images:
        raise PipelineError(
            f"{source} holds no images: it needs a labels.csv (file,label) or one sub-folder per class",
            code="source-empty",
            source=source,
        )
    return Found(images, left_out)


def _alike(problems: list[Problem]) -> list[tuple[str, int]]:
    """The first problem of each kind, and how many there are."""
    counts = Counter(problem.kind for problem in problems)
    first = {problem.kind: problem.told for problem in reversed(problems)}
    return [(first[kind], count) for kind, count in counts.items()]


class Classes(NamedTuple):
    """Names of classes in the order of a model's outputs, and in words where that order is from."""

    names: tuple[str, ...]
    order: str


def class_names(source: str, checkout: Path, work: Path) -> Classes:
    """The classes that labelled images come with, in alphabetical order, as Keras numbers folders.

    Labels that are all numbers, in a table, are in their order.
    """
    if source == DIGITS:
        return Classes(tuple(str(digit) for digit in range(10)), "the digits, by number")
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
        names = {plain(row["label"]) for _, row in files.read_csv(table, "file", "label")} - {""}
        numbered = all(map(str.isdecimal, names))
        order = f"the labels.csv of the images, {'by number' if numbered else ALPHABETICAL}"
        return Classes(_one_of_each(source, sorted(names, key=_by_number if numbered else None)), order)
    counted = census(place)
    inside = (path.relative_to(place).parts for path in counted.images)
    names = {plain(parts[0]) for parts in inside if len(parts) > 1}
    order = f"the folders of the images, {ALPHABETICAL}" + _without(_imageless(place, counted))
    return Classes(_one_of_each(source, sorted(names)), order)


def _without(folders: list[str]) -> str:
    """Words for those that are no class, since a forgotten one moves the numbers of all that follow."""
    if not folders:
        return ""
    if len(folders) == 1:
        return f", without {folders[0]}, which has no image of its own"
    return f", without {folders[0]} and {len(folders) - 1:,} more, which have no image of their own"


def _by_number(name: str) -> tuple[int, str, str]:
    """Of two that are equal as numbers, such as 0 and 00, always the same comes first."""
    digits = value(name)
    return len(digits), digits, name


def _one_of_each(source: str, names: list[str]) -> tuple[str, ...]:
    """The names; PipelineError for two that look alike, since one is a mistake."""
    seen: dict[str, str] = {}
    for second in names:
        if (first := seen.setdefault(looks(second), second)) != second:
            raise PipelineError(
                f"{source} has the classes {spelled(first)} and {spelled(second)}, which are the same but for upper "
                "case or spelling, blanks or characters that nobody sees: give them one name, or list both in "
                "custom.labels",
                code="classes-twins",
                source=source,
                classes=(first, second),
            )
    return tuple(names)


def _read(place: Path, labels: Labels, work: Path) -> tuple[list[ImageFile], list[Problem], tuple[LeftOut, ...]]:
    """The images of a file or folder in whichever layout, what is wrong with single ones, and what is left out."""
    table = place / "labels.csv"
    if table.exists():
        images, problems = _from_table(table, labels)
        return images, problems, _unlisted(table, images)
    if shards := tfrecord.shards(place):
        return *tfrecord.labelled(shards, labels, work), ()
    if imagenet.validation_images(place):
        return *imagenet.labelled(place, labels), ()
    counted = census(place)
    second = {name.partition("/")[0] for name in counted.again}
    for name in _imageless(place, counted):
        if name not in second:
            counted.leave_out(EMPTY, name)
    return *_from_folders(place, labels, counted.images), _left_out(counted)


def _imageless(place: Path, counted: Census) -> list[str]:
    """Folders that look like a class and have no image, or none that counts under their name."""
    filled = {path.relative_to(place).parts[0] for path in counted.images}
    folders = sorted(path.name for path in place.iterdir() if path.is_dir())
    return [name for name in folders if not of_system(name) and name not in filled]


def _left_out(counted: Census) -> tuple[LeftOut, ...]:
    return tuple(LeftOut(kind, files, counted.first[kind]) for kind, files in counted.left_out.most_common())


def _unlisted(table: Path, images: list[ImageFile]) -> tuple[LeftOut, ...]:
    """What lies beside a table and is no line of it."""
    counted, listed = census(table.parent, but=table), {_behind_links(image.path) for image in images}
    for path in counted.images:
        if _behind_links(path) not in listed:
            counted.leave_out("not in labels.csv", path.relative_to(table.parent).as_posix())
    return _left_out(counted)


def _behind_links(path: Path) -> Path:
    """The same for each way to a file through links to folders, of which a table may take any."""
    return path.parent.resolve() / path.name


def unlabelled(source: str, checkout: Path, work: Path) -> Found:
    """The calibration images of `source`, in a stable order."""
    if source == SAMPLE:
        return Found(samples.calibration(work))
    if source == DIGITS:
        return Found([image._replace(label=None) for image in samples.digits(work)])
    if source.startswith(tfds.PREFIX):
        return Found(tfds.unlabelled(source, work / "tfds"))
    folder = _place(source, checkout, work, is_class=lambda name: False)
    if shards := tfrecord.shards(folder):
        return Found(tfrecord.unlabelled(shards, work / "records"))
    counted = census(folder)
    images = [ImageFile(path, path.relative_to(folder).as_posix()) for path in counted.images]
    return Found(images, _left_out(counted))


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


def _one_way(source: Path, texts: Iterable[str], labels: Labels) -> None:
    """PipelineError where some labels count classes and others name them: a mistyped name would pass for a place."""
    place = next((text for text in texts if labels.is_place(text)), None)
    name = next((text for text in texts if not labels.is_place(text) and labels.index(text) is not None), None)
    if place is not None and name is not None:
        raise PipelineError(
            f"{source} counts some classes, such as {place}, and names others, such as {name}: do one for all of them",
            code="labels-mixed",
            file=str(source),
            labels=(place, name),
        )
    _one_spelling(source, texts, labels)


def _one_spelling(source: Path, texts: Iterable[str], labels: Labels) -> None:
    """PipelineError where a class is counted in two ways, such as 1 and 01: one of them may be a name."""
    seen: dict[int | None, str] = {}
    for text in filter(labels.is_place, map(plain, texts)):
        if (first := seen.setdefault(labels.index(text), text)) != text:
            raise PipelineError(
                f"{source} counts one class as {first!r} and {text!r}: write its number in one way",
                code="labels-two-ways",
                file=str(source),
                labels=(first, text),
            )


def _from_table(table: Path, labels: Labels) -> tuple[list[ImageFile], list[Problem]]:
    images, problems = [], []
    lines = list(files.read_csv(table, "file", "label"))
    _one_way(table, {row["label"]: None for _, row in lines}, labels)
    for line, row in lines:
        name, text = row["file"], row["label"].strip()
        path, label = table.parent / name, labels.index(text)
        if not path.is_file() or (inside := _name(path, table.parent)) is None:
            missing = f"labels.csv line {line}: the file {name or '(empty)'} does not exist in its folder"
            problems.append(Problem(missing, missing))
        elif label is None:
            unknown = labels.unknown(text)
            problems.append(Problem(f"labels.csv line {line}: {name} has the {unknown}", unknown))
        else:
            images.append(ImageFile(path, inside, label))
    return images, problems


def _name(path: Path, folder: Path) -> str | None:
    """What the file is called in the folder, however a table names it; None where it lies elsewhere."""
    file, place = path.resolve(), folder.resolve()
    if not file.is_relative_to(place):
        return None
    # Up from a link is up from where it leads, which the written path does not show.
    as_written = path.is_relative_to(folder) and ".." not in path.relative_to(folder).parts
    return path.relative_to(folder).as_posix() if as_written else file.relative_to(place).as_posix()


def _from_folders(folder: Path, labels: Labels, found: list[Path]) -> tuple[list[ImageFile], list[Problem]]:
    images, problems = [], []
    _one_way(folder, {path.relative_to(folder).parts[0]: None for path in found}, labels)
    for path in found:
        inside = path.relative_to(folder)
        label = labels.index(inside.parts[0]) if len(inside.parts) > 1 else None
        if label is not None:
            images.append(ImageFile(path, inside.as_posix(), label))
        elif len(inside.parts) == 1:
            told = f"{inside} has no label: list it in labels.csv or put it into a folder named as its class"
            problems.append(Problem(told, "no label"))
        else:
            unknown = labels.unknown(inside.parts[0])
            problems.append(Problem(f"{inside} lies in a folder named with the {unknown}", unknown))
    return images, problems


def _place(source: str, checkout: Path, work: Path, is_class: Callable[[str], bool]) -> Path:
    """A folder on this disk that holds the images of `source`, or one TFRecord file."""
    if source.startswith(("http://", "https://")):
        return archives.fetch(source, work, is_class)
    place = changes.watched(source, checkout)
    if not place.is_dir() and not (place.is_file() and tfrecord.shards(place)):
        raise PipelineError(
            f"there is no folder {place} (named in params.yaml as {source}): correct the path",
            code="source-missing",
            source=source,
            file=str(place),
        )
    return place
