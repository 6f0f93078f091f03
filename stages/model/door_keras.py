"""What in a Keras file is more than data, read from its configuration without Keras.

Keras makes what a configuration names: any class and function of its own, among them some that open other files.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import h5py
from packaging.version import InvalidVersion, Version
from pydantic import JsonValue

from stages.core.errors import PipelineError
from stages.model import door_hdf5
from stages.model.signatures import readable

SAVED = "it should be what `model.save(FILE)` writes"
HINT = (
    "export it as a SavedModel, which needs no Python classes, by `model.export(FOLDER)` there, and set model.path to "
    "that folder"
)
# Keras 3 reads one of the two kinds of files that Keras 2 writes.
OLD = "save it as .h5 there (`model.save('model.h5')`), or export it as a SavedModel, and set model.path to that"
CLASSES = frozenset(Path(__file__).with_name("keras_classes.txt").read_text().split())
# What an .h5 file names without its module: Keras looks among its own.
BARE = frozenset(name.rpartition(".")[2] for name in CLASSES)
FUNCTIONS = frozenset(Path(__file__).with_name("pure_functions.txt").read_text().split())
# Where Keras looks for a function that is named without its module.
FOUND = ("keras.activations", "keras.losses", "keras.metrics")
# How Keras writes values that JSON has not.
VALUES = frozenset(
    ("__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__tuple__", "__slice__")
)
SHAPES = frozenset(("TensorShape", "TypeSpec"))
# Settings of a training, which is not opened: names of a user's own losses are no matter, other modules are.
TRAINING = ("compile_config", "training_config")
# All that Keras writes into an archive. From model.weights.npz it would unpickle, which runs what is in there.
WEIGHTS = "model.weights.h5"
MEMBERS = re.compile(r"config\.json|metadata\.json|model\.weights\.h5|assets/(?!.*\.\.).*")
# Descriptions of large networks take a few MB; an archive of weights hardly grows where it is unpacked.
MAX_TEXT_BYTES = 100 * 10**6
MAX_BYTES, MAX_RATIO = 100 * 10**6, 20
# Layers of Keras 2 that call a function of TensorFlow by its name.
CALLS = frozenset(("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"))
# Where what is listed may come from.
MODULES = re.compile(r"builtins|keras(\..*)?")
# TensorFlow's own initialisers, such as tf.constant_initializer, are classes of the same names as those of Keras.
INITIALISERS = re.compile(r"tensorflow\.python\.ops\.init_ops(_v2)?")


class Config(NamedTuple):
    """Who wrote a file, and how it describes the model; None for weights alone."""

    version: str
    model: JsonValue


def findings(path: Path) -> Iterator[str]:
    """Each part that is more than data; PipelineError for a file that this Keras does not open at all."""
    config = read(path)
    with readable(path, SAVED):
        yield from _within(config.model, Place(known=_known(config.version)))
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
    _refuse_older(path, config)
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


def _refuse_older(path: Path, config: Config) -> None:
    """PipelineError for what Keras 2 writes and Keras 3 does not read: its archives, and calls of TensorFlow."""
    if _is_archive(path) and config.version.startswith("2"):
        with readable(path, OLD):
            raise ValueError(f"it is of Keras {config.version}, of which Keras {installed()} reads .h5 files alone")
    with readable(path, HINT):
        for layer, kind in _kinds(config.model):
            if kind in CALLS:
                raise ValueError(f"{layer} calls a function of TensorFlow ({kind}), which Keras 3 has no layer for")


def _kinds(value: JsonValue, place: str = "the model") -> Iterator[tuple[str, str]]:
    """The class of each object in a description, with the layer that it is or belongs to."""
    if isinstance(value, dict) and isinstance(value.get("class_name"), str):
        place = _layer(value, place)
        yield place, str(value["class_name"])
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        yield from _kinds(part, place)


def hint(path: Path, version: str) -> str:
    """What to do about a file of this version of Keras that does not load."""
    newer = f", newer than Keras {installed()} that is installed here" if _is_newer(version) else ""
    # An .h5 file of Keras 3 does not say of its operations that they are none of its layers.
    other = "" if _is_archive(path) or is_old(version) else "save it as .keras there, or "
    return f"it is of Keras {version}{newer}; {other}{HINT}"


def is_old(version: str) -> bool:
    """Whether it is Keras 2 or before, whose descriptions differ."""
    return version.startswith(("1", "2"))


def installed() -> str:
    """The version of Keras here, which imports nothing."""
    return metadata.version("keras")


def _is_newer(version: str) -> bool:
    try:
        return Version(version) > Version(installed())
    except InvalidVersion:
        return False


def _known(version: str) -> str:
    """Whose classes are looked for, as a sentence says it."""
    return f"Keras {installed()}, while the file is of Keras {version}" if _is_newer(version) else "Keras"


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
    # Whether Keras opens it: of the model's own training it does not.
    opened: bool = True
    # Whose classes they should be.
    known: str = "Keras"


def _within(value: JsonValue, place: Place, top: bool = True) -> Iterator[str]:
    """All below a value; `top` is the model itself, whose training is not opened, unlike that of models in it."""
    if isinstance(value, list):
        for part in value:
            yield from _within(part, place, top=False)
    if isinstance(value, dict):
        place = place._replace(layer=_layer(value, place.layer))
        yield from _object(value, place)
        for key, part in value.items():
            closed = top and key in TRAINING
            # In an .h5 file the model is a part beside its training.
            yield from _within(part, place._replace(opened=place.opened and not closed), top=False)


def _layer(value: dict[str, JsonValue], other: str) -> str:
    """The layer that a serialised object is, or else the one that it belongs to."""
    inner = value.get("config")
    name = value.get("name") or (inner.get("name") if isinstance(inner, dict) else None)
    return f"layer {name}" if "class_name" in value and isinstance(name, str) else other


def _object(value: dict[str, JsonValue], place: Place) -> Iterator[str]:
    """What one serialised object asks for."""
    layer = place.layer
    if INITIALISERS.fullmatch(str(value.get("module"))):
        value = value | {"module": "keras.initializers"}
    module, kind, name = value.get("module"), value.get("class_name"), value.get("registered_name")
    if module is not None and not MODULES.fullmatch(str(module)):
        yield f"{layer} comes from the Python module {module}"
    elif place.opened and "class_name" in value:
        yield from _named(value, place)
    if place.opened and not isinstance(value.get("vocabulary"), list | None):
        yield f"{layer} reads the file {value['vocabulary']}"
    if place.opened and "class_name" in value and name not in (None, kind, value.get("config"), "function"):
        yield f"{layer} is of the user's own class {name}"


def _named(value: dict[str, JsonValue], place: Place) -> Iterator[str]:
    """What is no class or function of the lists: in full where the file has its module."""
    module, kind, name = value.get("module"), str(value["class_name"]), value.get("config")
    if kind == "Lambda":
        yield f"{place.layer} is a Lambda, which is Python code"
    elif kind == "function":
        places = FOUND if module in (None, "builtins") else (module,)
        if not any(f"{found}.{name}" in FUNCTIONS for found in places):
            yield f"{place.layer} calls the function {name}"
    elif kind not in VALUES | SHAPES and (kind not in BARE if module is None else f"{module}.{kind}" not in CLASSES):
        yield f"{place.layer} is of the class {kind}, which is none of {place.known}"
