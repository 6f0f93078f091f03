"""Opens models of the user's: a SavedModel, a Keras or an ONNX file becomes a function of named tensors.

Knows nothing of images; `classifiers` makes one of it that takes them.
"""

import io
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stages.common import isolate
from stages.common.errors import PipelineError, describe

KERAS, ONNX = (".keras", ".h5"), ".onnx"
KINDS = "a SavedModel folder, a .keras, .h5 or .onnx file"
FLOATS = (1, 10, 11)  # FLOAT, FLOAT16 and DOUBLE (onnx.proto's TensorProto.DataType)
# Largest difference of an output between an ONNX file and the SavedModel made of it, by the size of the outputs.
TOLERANCE = 1e-3


class Model(NamedTuple):
    """A model as its signature has it: tensors by name, a function of them, and what its variables hang on."""

    inputs: dict[str, Any]
    outputs: dict[str, Any]
    call: Callable[[dict[str, Any]], dict[str, Any]]
    tracked: Any
    parameters: int


def open_model(tf: Any, path: Path) -> Model:
    """The model in a file or folder; PipelineError if it is of no known kind or does not load."""
    if path.is_dir() and (path / "saved_model.pb").is_file():
        return _from_saved_model(tf, path)
    if path.suffix in KERAS and path.is_file():
        return _from_keras(tf, path)
    if path.suffix == ONNX and path.is_file():
        return _from_onnx(tf, path)
    raise PipelineError(f"{path} (model.path in params.yaml) is no model: it should be {KINDS}")


@contextmanager
def _readable(path: Path, hint: str) -> Iterator[None]:
    """Whatever a library raises about a file becomes a sentence: each has exceptions of its own."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or describe(error)
        raise PipelineError(f"{path.name} (model.path) does not load ({reason}): {hint}") from None


def _from_saved_model(tf: Any, path: Path) -> Model:
    with _readable(path, "save it again with the TensorFlow that it was made with"):
        loaded = tf.saved_model.load(str(path))
    found = dict(loaded.signatures)
    if not found:
        raise PipelineError(f"{path.name} has no signature: save it with tf.saved_model.save(..., signatures=...)")
    if "serving_default" not in found and len(found) > 1:
        raise PipelineError(f"{path.name} has the signatures {', '.join(found)}, but none is called serving_default")
    signature = found.get("serving_default") or next(iter(found.values()))
    _, inputs = signature.structured_input_signature
    resources = [tensor for tensor in signature.graph.external_captures if tensor.dtype == tf.resource]
    # Variables alone load faster than all that Keras saves; a table, say, is no variable.
    tracked = loaded if len(resources) > len(signature.variables) else signature.variables
    # The signature itself is a part of what it belongs to.
    call = lambda given: signature(**given)  # noqa: E731
    return Model(inputs, dict(signature.structured_outputs), call, [tracked], _count(signature.variables))


def _from_keras(tf: Any, path: Path) -> Model:
    hint = (
        "export it as a SavedModel, which needs no Python classes, with a Keras of TensorFlow 2.14 or by "
        "`model.export(FOLDER)`, and set model.path to that folder"
    )
    with _readable(path, hint):
        model = tf.keras.models.load_model(path, compile=False)
    inputs, outputs = (
        {name: tf.TensorSpec(tensor.shape, tensor.dtype, name) for name, tensor in zip(names, tensors, strict=True)}
        for names, tensors in ((model.input_names, model.inputs), (model.output_names, model.outputs))
    )

    def call(given: dict[str, Any]) -> dict[str, Any]:
        ordered = [given[name] for name in inputs]
        found = model(ordered if len(ordered) > 1 else ordered[0], training=False)
        return dict(zip(outputs, tf.nest.flatten(found), strict=True))

    return Model(inputs, outputs, call, model.variables, model.count_params())


def _from_onnx(tf: Any, path: Path) -> Model:
    """By way of onnx2tf; its answers are compared with those of ONNX Runtime."""
    import onnx

    hint = "export it again with an operator set of at most 22 and without custom operators"
    with _readable(path, hint), tempfile.TemporaryDirectory() as work:
        graph = onnx.load(path).graph
        constants = {item.name: item for item in graph.initializer}
        inputs = [item for item in graph.input if item.name not in constants]
        _refuse_fixed_batches(inputs)
        # In a process of its own: it brings another Keras, and the two disturb each other.
        isolate.call(_onnx_to_saved_model, path, [item.name for item in inputs], Path(work))
        model = _from_saved_model(tf, Path(work))
        _refuse_other_answers(tf, path, model, [item.name for item in graph.output])
    weights = (math.prod(item.dims) for item in constants.values() if item.data_type in FLOATS)
    return model._replace(parameters=sum(weights))


def _refuse_fixed_batches(inputs: Any) -> None:
    """PipelineError for a batch size that is no name: onnx2tf would go online for test images."""
    for item in inputs:
        shape = item.type.tensor_type.shape.dim
        if len(shape) == 4 and shape[0].dim_value:
            raise PipelineError(
                f"the model's input {item.name} takes batches of {shape[0].dim_value} alone: export the model with a "
                "batch dimension that is left open"
            )


def _onnx_to_saved_model(path: Path, names: list[str], folder: Path) -> None:
    with redirect_stdout(io.StringIO()):
        import onnx2tf

        # It would turn inputs [n, channels, height, width] around on a guess, and simplify by another library.
        onnx2tf.convert(
            input_onnx_file_path=str(path),
            output_folder_path=str(folder),
            output_signaturedefs=True,
            keep_ncw_or_nchw_or_ncdhw_input_names=names,
            not_use_onnxsim=True,
            non_verbose=True,
        )


def _refuse_other_answers(tf: Any, path: Path, model: Model, outputs: list[str]) -> None:
    """PipelineError if the SavedModel answers otherwise than the ONNX file, on seeded noise."""
    import onnxruntime

    rng, session = np.random.default_rng(0), onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    fed = {
        name: rng.uniform(0, 1, [side or 2 if i == 0 else side or 224 for i, side in enumerate(spec.shape)]).astype(
            spec.dtype.as_numpy_dtype
        )
        for name, spec in model.inputs.items()
    }
    theirs = session.run(outputs, fed)
    ours = model.call({name: tf.constant(value) for name, value in fed.items()})
    for expected, found in zip(theirs, ours.values(), strict=True):
        gap = float(np.abs(expected - found.numpy()).max()) / max(1.0, float(np.abs(expected).max()))
        if not gap <= TOLERANCE:
            raise PipelineError(
                f"{path.name}: the SavedModel that onnx2tf makes of it answers {gap:.2g} away from ONNX Runtime "
                f"(allowed: {TOLERANCE}): export the model from its own framework as a SavedModel"
            )


def _count(variables: Any) -> int:
    return sum(int(np.prod(variable.shape)) for variable in variables)
