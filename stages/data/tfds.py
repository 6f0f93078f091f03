"""TensorFlow Datasets by name."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from stages.contracts.labels import Labels
from stages.core import errors
from stages.core.errors import PipelineError
from stages.core.tensorflow import tensorflow
from stages.data import tfrecord
from stages.data.image_file import ImageFile

PREFIX = "tfds:"
EVALUATION_SPLIT, CALIBRATION_SPLIT = "test", "train"


def labelled(source: str, labels: Labels, work: Path) -> list[ImageFile]:
    """The images of tfds:NAME[/CONFIG][:SPLIT], by default of its test split, written below `work`."""
    data, info = _load(source, EVALUATION_SPLIT)
    names = _class_names(source, info)
    classes = labels.match(names)
    images, unknown = [], set()
    for image, number in _unpacked(data, work):
        if number < 0:
            raise PipelineError(
                f"{source} has images without a label: name another split ({', '.join(info.splits)})",
                code="tfds-no-labels",
                source=source,
                splits=[*info.splits],
            )
        images.append(image._replace(label=classes[number]))
        unknown |= {names[number]} if classes[number] is None else set()
    if unknown:
        raise PipelineError(
            f"{source} shows classes that the model does not have ({len(unknown)}), such as {min(unknown)!r}: "
            "set another data set, or a model of its classes",
            code="tfds-unknown-classes",
            source=source,
            classes=sorted(unknown),
        )
    return images


def unlabelled(source: str, work: Path) -> list[ImageFile]:
    """The images of tfds:NAME[/CONFIG][:SPLIT], by default of its train split, written below `work`."""
    data, _ = _load(source, CALIBRATION_SPLIT)
    return [image for image, _ in _unpacked(data, work)]


def _class_names(source: str, info: Any) -> list[str]:
    names = getattr(info.features["label"], "names", None) if "label" in info.features else None
    if not names:
        raise PipelineError(
            f"{source} has no feature `label` that names classes, but {', '.join(info.features)}: set another data set",
            code="tfds-no-classes",
            source=source,
            features=[*info.features],
        )
    return list(names)


def _unpacked(data: Any, work: Path) -> Iterator[tuple[ImageFile, int]]:
    """Each image, written, and the number of its class: below 0, or where there is no such feature, unlabelled."""
    for index, example in enumerate(data.as_numpy_iterator()):
        yield tfrecord.write(example["image"], f"{index:06d}", work), int(example.get("label", -1))


def _load(source: str, default_split: str) -> Any:
    """The data set, whose images are still encoded, and its description."""
    name, _, split = source.removeprefix(PREFIX).partition(":")
    library = _library(source)
    tensorflow()
    try:
        return library.load(
            name,
            split=split or default_split,
            decoders={"image": library.decode.SkipDecoding()},
            as_supervised=False,
            with_info=True,
        )
    except Exception as error:  # it raises what its downloaders, its file systems and each data set raise
        raise PipelineError(
            f"TensorFlow Datasets could not give {source} ({errors.describe(error)}): check the name, the split "
            f"({split or default_split}) and the connection, or prepare it by hand as its page in the catalogue says",
            code="tfds-load",
            source=source,
            split=split or default_split,
        ) from None


def _library(source: str) -> ModuleType:
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise PipelineError(
            f"{source} needs TensorFlow Datasets ({error}): run `{sys.executable} -m pip install tensorflow-datasets`",
            code="tfds-missing",
            source=source,
        ) from None
    library: ModuleType = tensorflow_datasets
    return library
