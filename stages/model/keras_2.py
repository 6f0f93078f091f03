"""Describes the model of an .h5 file of Keras 2 as Keras 3 reads it, where both mean the same."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
from pydantic import JsonValue

from stages.model.door_keras import Config, is_old

Settings = dict[str, JsonValue]
# By class of a layer: Keras 2 writes them, and Keras 3 refuses whatever it does not know.
SEPARABLE = ("groups", "kernel_initializer", "kernel_regularizer", "kernel_constraint")
GONE = {
    **{f"Conv{rank}DTranspose": ("groups",) for rank in (1, 2, 3)},
    **{f"DepthwiseConv{rank}D": ("groups",) for rank in (1, 2)},
    **{f"SeparableConv{rank}D": SEPARABLE for rank in (1, 2)},
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"), ("time_major",)),
    **{f"SpatialDropout{rank}D": ("trainable", "noise_shape") for rank in (1, 2, 3)},
    **{
        f"Random{kind}": ("rng_type",)
        for kind in ("Brightness", "Contrast", "Crop", "Flip", "Rotation", "Translation", "Zoom")
    },
}
# Of these settings any other value means something.
NOTHING: Settings = {"groups": 1, "time_major": False, "noise_shape": None}
# What Keras 3 calls a policy of precision.
POLICY: Settings = {"module": "keras", "class_name": "DTypePolicy"}


@contextmanager
def adapted(path: Path, config: Config) -> Iterator[Path]:
    """The file as Keras 3 reads it: a copy for as long as the block lasts, if it is of Keras 2."""
    if path.suffix != ".h5" or not is_old(config.version):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        shutil.copyfile(path, copy)
        with h5py.File(copy, "r+") as file:
            file.attrs["model_config"] = json.dumps(described(json.loads(file.attrs["model_config"])))
        yield copy


def described(config: JsonValue) -> JsonValue:
    """A description less the settings that are gone, its calls counted as Keras 3 does."""
    if isinstance(config, list):
        return [described(part) for part in config]
    if not isinstance(config, dict):
        return config
    kind, settings = str(config.get("class_name")), config.get("config")
    if isinstance(settings, dict):
        config = config | {"config": _counted(_without(GONE.get(kind, ()), settings))}
    policy = POLICY if kind == "Policy" else {}
    return {key: described(part) for key, part in (config | policy).items()}


def _without(gone: tuple[str, ...], settings: Settings) -> Settings:
    return {key: value for key, value in settings.items() if key not in gone or _matters(key, value)}


def _matters(key: str, value: JsonValue) -> bool:
    return key in NOTHING and value != NOTHING[key]


def _counted(settings: Settings) -> Settings:
    """Of a network: for Keras 2 the first call of a model in it was the one that made that model."""
    layers = settings.get("layers")
    if not isinstance(layers, list):
        return settings
    inner = {str(layer.get("name")) for layer in layers if isinstance(layer, dict) and _has_input(layer)}
    ends = {key: _earlier(value, inner) for key, value in settings.items() if key in ("input_layers", "output_layers")}
    return settings | ends | {"layers": [_called(layer, inner) for layer in layers]}


def _called(layer: JsonValue, inner: set[str]) -> JsonValue:
    if isinstance(layer, dict) and "inbound_nodes" in layer:
        return layer | {"inbound_nodes": _earlier(layer["inbound_nodes"], inner)}
    return layer


def _has_input(layer: Settings) -> bool:
    """Whether it is a model that begins with its input."""
    settings = layer.get("config")
    inner = settings.get("layers") if isinstance(settings, dict) else None
    first = inner[0] if isinstance(inner, list) and inner else None
    return isinstance(first, dict) and first.get("class_name") == "InputLayer"


def _earlier(value: JsonValue, names: set[str]) -> JsonValue:
    """References to tensors, [layer, call, output, ...], with one call less for these layers."""
    if isinstance(value, dict):
        return {key: _earlier(part, names) for key, part in value.items()}
    if not isinstance(value, list):
        return value
    if len(value) > 1 and value[0] in names and isinstance(value[1], int):
        return [value[0], max(0, value[1] - 1), *(_earlier(part, names) for part in value[2:])]
    return [_earlier(part, names) for part in value]
