"""Opens models of the user's: a SavedModel, a Keras or an ONNX file becomes a function of named tensors.

Knows nothing of images; `classifier` makes one of it that takes them.
"""

import json
import zipfile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import h5py

from stages.core.errors import PipelineError
from stages.model.onnx_import import open_onnx
from stages.model.signatures import KINDS, Model, from_saved_model, readable

if TYPE_CHECKING:
    from keras import Model as Network
    from tensorflow import Tensor

KERAS, ONNX = (".keras", ".h5"), ".onnx"


def open_model(tf: ModuleType, path: Path) -> Model:
    """The model in a file or folder; PipelineError if it is of no known kind or does not load."""
    if path.is_dir() and (path / "saved_model.pb").is_file():
        return from_saved_model(tf, path)
    if path.suffix in KERAS and path.is_file():
        return of_keras(tf, load_keras(tf, path))
    if path.suffix == ONNX and path.is_file():
        return open_onnx(tf, path)
    raise PipelineError(
        f"{path} (model.path in params.yaml) is no model: it should be {KINDS}",
        code="model-kind",
        file=str(path),
        key="model.path",
    )


def load_keras(tf: ModuleType, path: Path) -> "Network":
    """The Keras model in a file."""
    hint = (
        "export it as a SavedModel, which needs no Python classes, with a Keras of TensorFlow 2.14 or by "
        "`model.export(FOLDER)`, and set model.path to that folder"
    )
    with readable(path, "it should be what `model.save(FILE)` writes"):
        version = _keras_version(path)
    if version is None:
        raise PipelineError(
            f"{path.name} (model.path) holds weights alone: save the whole model, by `model.save(FILE)`",
            code="model-weights-alone",
            file=path.name,
            key="model.path",
        )
    with readable(path, f"it is of Keras {version}; {hint}"):
        return tf.keras.models.load_model(path, compile=False)


def of_keras(tf: ModuleType, model: "Network", training: bool = False) -> Model:
    """A Keras model with its inputs and outputs under its own names."""
    inputs, outputs = (
        {name: tf.TensorSpec(tensor.shape, tensor.dtype, name) for name, tensor in zip(names, tensors, strict=True)}
        for names, tensors in ((model.input_names, model.inputs), (model.output_names, model.outputs))
    )

    def call(named: dict[str, "Tensor"]) -> dict[str, "Tensor"]:
        ordered = [named[name] for name in inputs]
        answers = model(ordered if len(ordered) > 1 else ordered[0], training=training)
        return dict(zip(outputs, tf.nest.flatten(answers), strict=True))

    return Model(inputs, outputs, call, model.variables, model.count_params())


def _keras_version(path: Path) -> str | None:
    """The Keras that saved a model; None for a file of weights."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return str(json.loads(archive.read("metadata.json"))["keras_version"])
    with h5py.File(path) as file:
        return str(file.attrs.get("keras_version", "1")) if "model_config" in file.attrs else None
