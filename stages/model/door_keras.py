"""What in a Keras file is more than data, read from its configuration without Keras.

Keras imports what a configuration names: a class of any module, a function of TensorFlow, marshalled Python.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
from pydantic import JsonValue

from stages.core.errors import PipelineError
from stages.model import door_hdf5
from stages.model.signatures import readable

SAVED = "it should be what `model.save(FILE)` writes"
HINT = (
    "export it as a SavedModel, which needs no Python classes, with a Keras of TensorFlow 2.14 or by "
    "`model.export(FOLDER)`, and set model.path to that folder"
)
CLASSES = frozenset(Path(__file__).with_name("keras_classes.txt").read_text().split())
FUNCTIONS = frozenset(Path(__file__).with_name("pure_functions.txt").read_text().split())
OPERATIONS = frozenset(Path(__file__).with_name("pure_operations.txt").read_text().split())
# How Keras writes values that JSON has not.
VALUES = frozenset(("__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__tuple__", "__complex__", "slice"))
SHAPES = frozenset(("TensorShape", "TypeSpec"))
# Settings of a training, which is not opened: names of a user's own losses are no matter, other modules are.
TRAINING = ("compile_config", "training_config")
# All that Keras writes into an archive. From model.weights.npz it would unpickle, which runs what is in there.
WEIGHTS = "model.weights.h5"
MEMBERS = re.compile(r"config\.json|metadata\.json|model\.weights\.h5|assets/.*")
# Descriptions of large networks take a few MB; an archive of weights hardly grows where it is unpacked.
MAX_TEXT_BYTES = 100 * 10**6
MAX_BYTES, MAX_RATIO = 100 * 10**6, 20
# Layers that call a function of TensorFlow by its name.
CALLS = ("TFOpLambda", "SlicingOpLambda")
# Where what is listed may come from: Keras names the initialisers of TensorFlow 1 by their own module.
MODULES = re.compile(r"builtins|keras(\..*)?|tensorflow\.python\.ops\.init_ops(_v2)?")


class Config(NamedTuple):
    """Who wrote a file, and how it describes the model; None for weights alone."""

    version: str
    model: JsonValue


def findings(path: Path) -> Iterator[str]:
    """Each part that is more than data; PipelineError for a file that this Keras does not open at all."""
    config = read(path)
    refuse_newer(path, config.version)
    with readable(path, SAVED):
        yield from _within(config.model, Place())
        yield from _archived(path) if _is_archive(path) else _beside(path)


def read(path: Path) -> Config:
    """What a file says of itself; PipelineError if it is no Keras file, or has no model in it."""
    with readable(path, SAVED):
        config = _of_archive(path) if _is_archive(path) else _of_hdf5(path)
    if config.model is None:
        raise PipelineError(
            f"{path.name} (model.path) holds weights alone: save the whole model, by `model.save(FILE)`",
            code="model-weights-alone",
            file=path.name,
            key="model.path",
        )
    return config


def _is_archive(path: Path) -> bool:
    """As Keras tells: by the name. One file can be both kinds at once."""
    return path.suffix == ".keras"


def _archived(path: Path) -> Iterator[str]:
    """What an archive has besides its description."""
    with zipfile.ZipFile(path) as archive:
        _refuse_growth(path, archive)
        for name in archive.namelist():
            if not MEMBERS.fullmatch(name):
                yield f"it holds {name}, which is no part of a Keras file"
        if WEIGHTS in archive.namelist():
            with h5py.File(io.BytesIO(archive.read(WEIGHTS))) as weights:
                yield from door_hdf5.findings(weights)


def _refuse_growth(path: Path, archive: zipfile.ZipFile) -> None:
    """Raise ValueError, before anything large is unpacked into memory."""
    limit = max(MAX_BYTES, MAX_RATIO * path.stat().st_size)
    if (size := sum(member.file_size for member in archive.infolist())) > limit:
        raise ValueError(f"it would unpack to {size:,} bytes, but one of its size may have {limit:,}")


def _beside(path: Path) -> Iterator[str]:
    """What an HDF5 file has besides its description."""
    if zipfile.is_zipfile(path):
        yield "it is a zip archive as well, and may be read as either"
    with h5py.File(path) as file:
        yield from door_hdf5.findings(file)


def refuse_newer(path: Path, version: str) -> None:
    """PipelineError for a file of Keras 3, which the Keras of TensorFlow 2.14 does not read."""
    if not version.startswith(("1", "2")):
        with readable(path, f"it is of Keras {version}; {HINT}"):
            raise ValueError("this Keras is 2.14")


def _of_archive(path: Path) -> Config:
    with zipfile.ZipFile(path) as archive:
        version = json.loads(_member(archive, "metadata.json"))["keras_version"]
        return Config(str(version), _network(json.loads(_member(archive, "config.json"))))


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """A text of an archive, which gives no more bytes than it says it has."""
    if (size := archive.getinfo(name).file_size) > MAX_TEXT_BYTES:
        raise ValueError(f"its {name} has {size:,} bytes, but may have {MAX_TEXT_BYTES:,}")
    return archive.read(name)


def _of_hdf5(path: Path) -> Config:
    with h5py.File(path) as file:
        version = _text(file.attrs.get("keras_version", "1"))
        described = {
            key: json.loads(_text(file.attrs[key])) for key in ("model_config", *TRAINING) if key in file.attrs
        }
        if "model_config" not in described:
            return Config(version, None)
        _network(described["model_config"])
        return Config(version, described)


def _network(described: JsonValue) -> JsonValue:
    """The description itself; ValueError where it names no class, of which Keras makes anything but a model."""
    if isinstance(described, dict) and isinstance(described.get("class_name"), str):
        return described
    raise ValueError("it describes no model")


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class Place(NamedTuple):
    """Where a part of the description stands."""

    layer: str = "the model"
    # Whether Keras opens it: of a training it does not.
    opened: bool = True
    # Whether its calls may have texts: `einsum` is given one.
    texts: bool = False


def _within(value: JsonValue, place: Place) -> Iterator[str]:
    """All below a value."""
    if isinstance(value, list):
        if not place.texts and value[:1] == ["_CONSTANT_VALUE"] and any(isinstance(part, str) for part in value[1:]):
            yield f"{place.layer} is called with a text"
        for part in value:
            yield from _within(part, place)
    if isinstance(value, dict):
        place = _of(value, place)
        yield from _object(value, place)
        for key, part in value.items():
            yield from _within(part, place._replace(opened=place.opened and key not in TRAINING))


def _of(value: dict[str, JsonValue], place: Place) -> Place:
    """The place that a serialised object is."""
    inner = value.get("config")
    name = value.get("name") or (inner.get("name") if isinstance(inner, dict) else None)
    if "class_name" not in value:
        return place
    return place._replace(
        layer=f"layer {name}" if isinstance(name, str) else place.layer, texts=value["class_name"] in CALLS
    )


def _object(value: dict[str, JsonValue], place: Place) -> Iterator[str]:
    """What one serialised object asks for."""
    layer = place.layer
    module, kind, name = value.get("module"), value.get("class_name"), value.get("registered_name")
    if module is not None and not MODULES.fullmatch(str(module)):
        yield f"{layer} comes from the Python module {module}"
    if not place.opened:
        return
    if isinstance(value.get("vocabulary"), str):
        yield f"{layer} reads the file {value['vocabulary']}"
    if "class_name" in value:
        yield from _called(str(kind), value.get("config"), layer)
        if name not in (None, "function", kind, value.get("config"), *CLASSES):
            yield f"{layer} is of the user's own class {name}"


def _called(kind: str, config: JsonValue, layer: str) -> Iterator[str]:
    settings = config if isinstance(config, dict) else {}
    if kind == "Lambda":
        yield f"{layer} is a Lambda, which is Python code"
    elif kind == "function":
        if not _pure(f"keras.activations.{config}") and str(config) not in CLASSES:
            yield f"{layer} calls the function {config}"
    elif kind in CALLS:
        if not _pure(str(settings.get("function"))):
            yield f"{layer} calls tf.{settings.get('function')}"
    elif kind == "TensorFlowOpLayer":
        node = settings.get("node_def")
        if not isinstance(node, dict) or str(node.get("op")) not in OPERATIONS:
            yield f"{layer} is an operation of TensorFlow outside the list"
    elif kind not in CLASSES | VALUES | SHAPES:
        yield f"{layer} is of the class {kind}, which is none of Keras"


def _pure(function: str) -> bool:
    return function.removeprefix("compat.v1.") in FUNCTIONS
