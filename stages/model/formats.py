"""Opens models of the user's: a SavedModel, a Keras or an ONNX file becomes a function of named tensors.

Knows nothing of images; `classifier` makes one of it that takes them.
"""

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from stages.model import door, door_keras, float32, keras_2
from stages.model.onnx_import import open_onnx
from stages.model.signatures import Model, from_saved_model, readable

if TYPE_CHECKING:
    from keras import Model as Network
    from tensorflow import Tensor, Variable

KERAS = (".keras", ".h5")


def open_model(tf: ModuleType, path: Path, trusted: bool = False) -> Model:
    """The model in a file or folder; PipelineError if it is of no known kind, is refused, or does not load."""
    kind = door.admit(path, trusted)
    if kind in KERAS:
        return of_keras(tf, _load_keras(tf, path, trusted))
    return open_onnx(tf, path) if kind == ".onnx" else from_saved_model(tf, path)


def load_keras(tf: ModuleType, path: Path, trusted: bool = False) -> "Network":
    """The Keras model in a file."""
    door.admit(path, trusted)
    return _load_keras(tf, path, trusted)


def _load_keras(tf: ModuleType, path: Path, trusted: bool) -> "Network":
    config = door_keras.read(path)
    with readable(path, door_keras.hint(path, config.version)), keras_2.adapted(path, config) as file:
        model = tf.keras.models.load_model(file, compile=False, safe_mode=not trusted)
    with readable(path, "call the whole model once on images before `model.save(FILE)`"):
        if not (isinstance(model, tf.keras.Model) and model.inputs):
            raise ValueError(f"its {type(model).__name__} is no model with inputs")
    with readable(path, f"save it in float32 there; {door_keras.HINT}"):
        return float32.rebuilt(tf, model, trusted) if float32.others(config.model) else model


def of_keras(tf: ModuleType, model: "Network", training: bool = False) -> Model:
    """A Keras model with its inputs and outputs under its own names."""
    inputs, outputs = (
        {name: tf.TensorSpec(tensor.shape, tensor.dtype, name) for name, tensor in zip(names, tensors, strict=True)}
        for names, tensors in (
            ([tensor.name for tensor in model.inputs], model.inputs),
            (model.output_names, model.outputs),
        )
    )

    def call(named: dict[str, "Tensor"]) -> dict[str, "Tensor"]:
        ordered = [named[name] for name in inputs]
        answers = model(ordered if len(ordered) > 1 else ordered[0], training=training)
        return dict(zip(outputs, tf.nest.flatten(answers), strict=True))

    return Model(inputs, outputs, call, held(model), model.count_params())


def held(model: "Network") -> list["Variable"]:
    """TensorFlow's variables of a Keras model.

    Keras's own hold these inside: a SavedModel with them loads, and TFLite's converter then finds none of their values.
    """
    return [variable.value for variable in model.variables]
