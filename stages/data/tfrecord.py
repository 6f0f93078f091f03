"""Images inside TFRecord shards: each becomes a file of the same bytes."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from stages.contracts.labels import Labels
from stages.core.errors import PipelineError
from stages.core.tensorflow import tensorflow
from stages.data.image_file import ImageFile, Problem

# photos.tfrecord, mnist-test.tfrecord-00000-of-00001, validation-00000-of-00128
SHARD = re.compile(r".*\.tfrecords?|(?P<set>.*)-\d{5}-of-\d{5}")
IMAGE = ("image/encoded", "image")
NUMBER = ("image/class/label", "label")
SYNSET, TEXT, FILENAME = "image/class/synset", "image/class/text", "image/filename"
# Bytes around each record: its length with a checksum, and a checksum of its content.
FRAME = 16
# How files begin. What is none of them is kept as .jpg, and refused where every image is checked.
BEGINNINGS = {b"\x89PNG": ".png", b"GIF8": ".gif", b"BM": ".bmp", b"RIFF": ".webp", b"II*\0": ".tif", b"MM\0*": ".tif"}


def shards(place: Path) -> list[Path]:
    """TFRecord files at `place`, which is one or a folder of them; PipelineError if they belong to several sets."""
    files = [place] if place.is_file() else sorted(path for path in place.iterdir() if path.is_file())
    sets = {path: match["set"] for path in files if (match := SHARD.fullmatch(path.name))}
    names = sorted({name for name in sets.values() if name})
    if len(names) > 1:
        raise PipelineError(
            f"{place} holds TFRecord shards of several sets ({', '.join(names)}): "
            "move each into a folder of its own, and name one in params.yaml",
            code="tfrecord-several-sets",
            file=str(place),
            sets=names,
        )
    return list(sets)


def labelled(paths: list[Path], labels: Labels, work: Path) -> tuple[list[ImageFile], list[Problem]]:
    """The images of these shards, written below `work`, with their classes; and what is wrong with single ones."""
    images, problems = [], []
    key: tuple[str, ...] = ()
    for image, features, where in _unpacked(paths, work):
        key = key or _class_key(features, labels)
        value = _value(features, key, where)
        label = _index(value, labels)
        if label is None:
            unknown = labels.unknown(_text(value))
            problems.append(Problem(f"{where} has the {unknown}", unknown))
        else:
            images.append(image._replace(label=label))
    return images, problems


def unlabelled(paths: list[Path], work: Path) -> list[ImageFile]:
    """The images of these shards, written below `work`; what they show is not read."""
    return [image for image, _, _ in _unpacked(paths, work)]


def write(content: bytes, name: str, work: Path) -> ImageFile:
    """Keep an encoded image as the file `name` below `work`, with the suffix of its format."""
    suffix = next((suffix for begin, suffix in BEGINNINGS.items() if content.startswith(begin)), ".jpg")
    path = work / f"{name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return ImageFile(path, path.relative_to(work).as_posix())


def _unpacked(paths: list[Path], work: Path) -> Iterator[tuple[ImageFile, Mapping[str, Any], str]]:
    """Each image, written; all features of its record; and where that record stands."""
    for shard in paths:
        for number, features in _examples(shard):
            where = f"{shard.name} record {number}"
            content = _value(features, IMAGE, where)
            if not isinstance(content, bytes):
                raise PipelineError(
                    f"{where} holds a number for its image: write the bytes of a JPEG or PNG there",
                    code="tfrecord-no-image",
                    record=where,
                )
            original = _text(_value(features, (FILENAME,), where)) if FILENAME in features else ""
            stem = "_".join(filter(None, (f"{number:06d}", PurePosixPath(original).stem)))
            yield write(content, f"{shard.name}/{stem}", work), features, where


def _examples(shard: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Number, from 1, and features of each record."""
    from google.protobuf.message import DecodeError

    tf = tensorflow()
    number = 0
    _refuse_long(shard)
    try:
        for number, record in enumerate(tf.data.TFRecordDataset(str(shard)).as_numpy_iterator(), 1):
            yield number, tf.train.Example.FromString(record).features.feature
    except (tf.errors.OpError, DecodeError):
        raise _damaged(shard, number) from None


def _refuse_long(shard: Path) -> None:
    """PipelineError for a record that says to be longer than its file: TensorFlow would take the memory first."""
    size, place, number = shard.stat().st_size, 0, 0
    with shard.open("rb") as file:
        while place < size and len(head := file.read(8)) == 8:
            number, length = number + 1, int.from_bytes(head, "little")
            place += length + FRAME
            if place > size:
                raise _damaged(shard, number - 1)
            file.seek(place)


def _damaged(shard: Path, records: int) -> PipelineError:
    return PipelineError(
        f"{shard} is no TFRecord file of tf.train.Example, or it is damaged (after {records} records): fetch or write "
        "it again",
        code="tfrecord-damaged",
        file=str(shard),
        records=records,
    )


def _class_key(features: Mapping[str, Any], labels: Labels) -> tuple[str, ...]:
    """Features that tell the class, chosen by the first record for all.

    TensorFlow's own scripts count classes from 1, 0 being the background: a synset or a name of the model's is surer.
    """
    if SYNSET in features:
        return (SYNSET,)
    if TEXT in features and _index(_value(features, (TEXT,), ""), labels) is not None:
        return (TEXT,)
    return NUMBER


def _index(value: bytes | int, labels: Labels) -> int | None:
    if isinstance(value, bytes):
        return labels.index(_text(value))
    return value if 0 <= value < len(labels) else None


def _text(value: bytes | int) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _value(features: Mapping[str, Any], names: tuple[str, ...], where: str) -> bytes | int:
    """The one value of the first of these features that is there."""
    name = next((name for name in names if name in features), None)
    if name is None:
        there = ", ".join(sorted(features)) or "none"
        raise PipelineError(
            f"{where} has no feature {' or '.join(names)}, but these: {there}; write it there",
            code="tfrecord-no-feature",
            record=where,
            features=names,
        )
    feature = features[name]
    values = [*feature.bytes_list.value, *feature.int64_list.value]
    if len(values) != 1:
        raise PipelineError(
            f"{where} should have one text or whole number in {name}, but it has {len(values)}: write one there",
            code="tfrecord-values",
            record=where,
            feature=name,
            values=len(values),
        )
    value: bytes | int = values[0]
    return value
