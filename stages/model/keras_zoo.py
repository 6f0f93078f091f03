"""Keras models of the zoo: built, filled with weights, and how they take their input."""

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import h5py
import numpy as np

from stages.contracts.preprocessing import Channels, Floats, Preprocessing
from stages.contracts.zoo import MODULES, entry
from stages.core import isolate
from stages.core.errors import PipelineError
from stages.core.tensorflow import tensorflow
from stages.model import checkpoints, door_hdf5, efficientnet_lite

if TYPE_CHECKING:
    from keras import Model as Network

# Input side of the models that take any (MobileNetV3), as they were trained.
ANY_SIZE = 224
# How Keras 3 wants its files of weights to be called.
NEW_WEIGHTS = ".weights.h5"


def build(tf: ModuleType, name: str, weights: Path | None) -> "Network":
    """Keras model with the weights of `weights` (.h5, or .pth for EfficientNet-Lite0), or with random ones for None."""
    row = entry(name)
    model = (
        _keras_class(tf, row.keras_class)(weights=None)
        if row.keras_class
        else efficientnet_lite.lite0(tf, row.input_size or ANY_SIZE)
    )
    if weights is None:
        return model
    if row.keras_class is None:
        efficientnet_lite.fill(model, checkpoints.read_torch(weights))
        return model
    try:
        door_hdf5.refuse_other_files(weights)
        _load_weights(model, weights)
    except (OSError, RuntimeError, ValueError, KeyError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PipelineError(
            f"{weights.name} does not hold the weights of {name} ({reason}); check model.weights",
            code="weights-not-of-model",
            file=weights.name,
            key="model.weights",
            model=name,
        ) from None
    return model


def _load_weights(model: "Network", weights: Path) -> None:
    """Keras tells its two kinds of files of weights by their names alone."""
    with h5py.File(weights) as file:
        suffix = ".h5" if "layer_names" in file.attrs else NEW_WEIGHTS
    with tempfile.TemporaryDirectory() as folder:
        named = Path(folder) / f"of{suffix}"
        named.symlink_to(weights.absolute())
        model.load_weights(named)


def download_weights(name: str, target: Path) -> None:
    """Write Keras's own ImageNet weights to `target`, from its cache (~/.keras/models) or the network.

    Keras downloads straight to the final name in its cache, where an interrupted run would leave half a file that the
    next one takes for whole. So a process of its own has another cache, with links to what Keras's has already.
    """
    shared = Path.home() / ".keras" / "models"
    with tempfile.TemporaryDirectory(prefix=".keras.", dir=target.parent) as keras_home:
        models = Path(keras_home) / "models"
        models.mkdir()
        for cached in shared.glob("*.h5"):
            (models / cached.name).symlink_to(cached.resolve())
        try:
            isolate.call(_save_imagenet_weights, name, keras_home, target)
        except PipelineError as error:
            raise PipelineError(
                f"could not get Keras's ImageNet weights of {name} ({error}): connect to the internet, put the file "
                f"that Keras names into {shared}, or set model.weights to a local .h5",
                code="keras-weights",
                model=name,
                key="model.weights",
            ) from None


def _save_imagenet_weights(name: str, keras_home: str, target: Path) -> None:
    """In a process of its own, whose Keras has its cache elsewhere."""
    os.environ["KERAS_HOME"] = keras_home
    tf = tensorflow()
    try:
        model = _keras_class(tf, entry(name).keras_class)(weights="imagenet")
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise PipelineError(reason, code="keras-download", file=str(target)) from None
    part = target.with_name(f"{target.stem}{NEW_WEIGHTS}")
    model.save_weights(part)
    part.rename(target)


def preprocessing(tf: ModuleType, name: str, model: "Network") -> Preprocessing:
    """How to make input for `model` from an image."""
    row = entry(name)
    height, width = (row.input_size or side or ANY_SIZE for side in model.input_shape[1:3])
    if row.scale is not None and row.offset is not None:
        return Preprocessing(height, width, "crop", 0.875, (row.scale,) * 3, (row.offset,) * 3, "rgb")
    preprocess_input = getattr(tf.keras.applications, MODULES[name]).preprocess_input
    return read_off(preprocess_input, height, width)


def read_off(preprocess_input: Callable[[Floats], Floats], height: int, width: int) -> Preprocessing:
    """Find scale, offset and channel order of a Keras preprocess_input from its answers; it must be affine."""
    probe = np.eye(3, dtype=np.float32)[None] * 255
    zero = preprocess_input(np.zeros_like(probe))[0, 0]
    gain = preprocess_input(probe.copy())[0] - zero
    channels: Channels = "rgb" if abs(gain[0, 0]) > abs(gain[0, 2]) else "bgr"
    scale = (np.diag(gain) if channels == "rgb" else np.diag(gain[::-1])) / 255
    affine = Preprocessing(height, width, "crop", 0.875, _triple(scale), _triple(zero), channels)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    if not np.allclose(affine.normalize(pixels), preprocess_input(pixels.astype(np.float32)[None])[0], atol=1e-4):
        raise PipelineError(
            "this model's preprocess_input is not a scale and an offset per channel: choose another model",
            code="preprocessing-not-affine",
        )
    return affine


def _triple(values: Iterable[float]) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third


def _keras_class(tf: ModuleType, name: str | None) -> Callable[..., "Network"]:
    build: Callable[..., Network] = getattr(tf.keras.applications, str(name))
    return build
