"""Opens models of the user's: a SavedModel, a Keras or an ONNX file becomes a function of named tensors.

Knows nothing of images; `classifier` makes one of it that takes them.
"""

import io
import json
import math
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from stages.core import isolate
from stages.core.errors import PipelineError, describe

KERAS, ONNX = (".keras", ".h5"), ".onnx"
KINDS = "a SavedModel folder, a .keras, .h5 or .onnx file"
FLOAT, FLOAT16, DOUBLE = 1, 10, 11  # onnx.proto's TensorProto.DataType
# Largest difference of an output between an ONNX file and the SavedModel made of it, by the size of the outputs.
TOLERANCE, HALF_TOLERANCE = 1e-3, 1e-2


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
        return of_keras(tf, load_keras(tf, path))
    if path.suffix == ONNX and path.is_file():
        return _from_onnx(tf, path)
    raise PipelineError(
        f"{path} (model.path in params.yaml) is no model: it should be {KINDS}",
        code="model-kind",
        file=str(path),
        key="model.path",
    )


@contextmanager
def _readable(path: Path, hint: str) -> Iterator[None]:
    """Whatever a library raises about a file becomes a sentence: each has exceptions of its own."""
    try:
        yield
    except Exception as error:
        # ONNX Runtime begins with the place, in its sources and on the disk.
        reason = re.sub(
            r"^\[ONNXRuntimeError\].* failed:(/\S*\.cc.*\) |/\S*\.h.*\) )?", "", " ".join(str(error).split())
        )
        raise PipelineError(
            f"{path.name} (model.path) does not load ({reason[:300] or describe(error)}): {hint}",
            code="model-does-not-load",
            file=path.name,
            key="model.path",
            reason=reason,
        ) from None


def _from_saved_model(tf: Any, path: Path) -> Model:
    with _readable(path, "save it again with the TensorFlow that it was made with"):
        loaded = tf.saved_model.load(str(path))
    signature = _signature(path, dict(loaded.signatures))
    _, inputs = signature.structured_input_signature
    resources = [tensor for tensor in signature.graph.external_captures if tensor.dtype == tf.resource]
    # Variables alone load faster than all that Keras saves; a table, say, is no variable.
    tracked = loaded if len(resources) > len(signature.variables) else signature.variables
    # The signature itself is a part of what it belongs to.
    call = lambda named: signature(**named)  # noqa: E731
    return Model(inputs, dict(signature.structured_outputs), call, [tracked], _count(signature.variables))


def _signature(path: Path, signatures: dict[str, Any]) -> Any:
    """The only one, or `serving_default`."""
    if not signatures:
        raise PipelineError(
            f"{path.name} has no signature: save it with tf.saved_model.save(..., signatures=...)",
            code="model-no-signature",
            file=path.name,
        )
    if "serving_default" not in signatures and len(signatures) > 1:
        raise PipelineError(
            f"{path.name} has the signatures {', '.join(signatures)}, but none is called serving_default: save it with "
            "that one",
            code="model-signatures",
            file=path.name,
            signatures=[*signatures],
        )
    return signatures.get("serving_default") or next(iter(signatures.values()))


def load_keras(tf: Any, path: Path) -> Any:
    """The Keras model in a file."""
    hint = (
        "export it as a SavedModel, which needs no Python classes, with a Keras of TensorFlow 2.14 or by "
        "`model.export(FOLDER)`, and set model.path to that folder"
    )
    with _readable(path, "it should be what `model.save(FILE)` writes"):
        version = _keras_version(path)
    if version is None:
        raise PipelineError(
            f"{path.name} (model.path) holds weights alone: save the whole model, by `model.save(FILE)`",
            code="model-weights-alone",
            file=path.name,
            key="model.path",
        )
    with _readable(path, f"it is of Keras {version}; {hint}"):
        return tf.keras.models.load_model(path, compile=False)


def of_keras(tf: Any, model: Any, training: bool = False) -> Model:
    """A Keras model with its inputs and outputs under its own names."""
    inputs, outputs = (
        {name: tf.TensorSpec(tensor.shape, tensor.dtype, name) for name, tensor in zip(names, tensors, strict=True)}
        for names, tensors in ((model.input_names, model.inputs), (model.output_names, model.outputs))
    )

    def call(named: dict[str, Any]) -> dict[str, Any]:
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


def _from_onnx(tf: Any, path: Path) -> Model:
    """By way of onnx2tf; its answers are compared with those of ONNX Runtime."""
    import onnx
    import onnxruntime

    hint = "export it again with an operator set of at most 22, an IR version of at most 10 and no custom operators"
    with _readable(path, hint):
        graph = onnx.load(path, load_external_data=False).graph
    _refuse_other_files(path, graph)
    with _readable(path, hint):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs, outputs = ([item.name for item in items] for items in (session.get_inputs(), session.get_outputs()))
    for item in session.get_inputs():
        refuse_fixed_batches(item.name, item.shape)  # of these onnx2tf would go online for test images
    with tempfile.TemporaryDirectory() as work:
        with _readable(path, hint):
            # In a process of its own: it brings another Keras, and the two disturb each other.
            isolate.call(_onnx_to_saved_model, path, inputs, Path(work))
        model = _named(_from_saved_model(tf, Path(work)), inputs, outputs)
    with _readable(path, hint):
        gap, allowed = _difference(tf, model, session)
    if not gap <= allowed:
        raise PipelineError(
            f"{path.name}: the SavedModel that onnx2tf makes of it answers {gap:.2g} away from ONNX Runtime "
            f"(allowed: {allowed}): export the model from its own framework as a SavedModel",
            code="onnx-import-differs",
            file=path.name,
            key="model.path",
            difference=gap,
        )
    weights = (math.prod(item.dims) for item in graph.initializer if item.data_type in (FLOAT, FLOAT16, DOUBLE))
    return model._replace(parameters=sum(weights))


def _refuse_other_files(path: Path, graph: Any) -> None:
    """PipelineError for weights that lie beside the file: it would come without them."""
    names = {entry.value for item in graph.initializer for entry in item.external_data if entry.key == "location"}
    if names:
        raise PipelineError(
            f"{path.name} (model.path) keeps its weights in {', '.join(sorted(names))}: make it one file, by "
            "`torch.onnx.export(..., external_data=False)` or `onnx.save(onnx.load(FILE), FILE)`",
            code="onnx-external-weights",
            file=path.name,
            key="model.path",
            files=sorted(names),
        )


def refuse_fixed_batches(name: str, shape: Sequence[Any]) -> None:
    """PipelineError for an input of images whose batch size is a number: one left open is None, or a name in ONNX."""
    if len(shape) == 4 and isinstance(shape[0], int):
        raise PipelineError(
            f"the model's input {name} takes batches of {shape[0]} alone: export the model with a batch dimension "
            "that is left open",
            code="input-fixed-batch",
            input=name,
            batch_size=shape[0],
        )


def _onnx_to_saved_model(path: Path, inputs: list[str], folder: Path) -> None:
    """Save with inputs input_0, ... and outputs output_0, ...: a SavedModel does not take all of ONNX's names."""
    log = io.StringIO()
    try:
        with redirect_stdout(log):
            import onnx
            import onnx2tf
            import onnx_graphsurgeon

            graph = onnx_graphsurgeon.import_onnx(onnx.load(path))
            tensors = graph.tensors()
            graph.inputs = [tensors[name] for name in inputs]
            for kind, ends in (("input", graph.inputs), ("output", graph.outputs)):
                for index, tensor in enumerate(ends):
                    tensor.name = f"{kind}_{index}"
            _widen(graph)
            onnx.save(onnx_graphsurgeon.export_onnx(graph), folder / "renamed.onnx")
            # It would turn inputs [n, channels, height, width] around on a guess, and simplify by another library.
            onnx2tf.convert(
                input_onnx_file_path=str(folder / "renamed.onnx"),
                output_folder_path=str(folder),
                output_signaturedefs=True,
                keep_ncw_or_nchw_or_ncdhw_input_names=[
                    item.name for item in graph.inputs if len(item.shape) in (3, 4, 5)
                ],
                not_use_onnxsim=True,
                non_verbose=True,
            )
    # It exits where it cannot go on. A TFLite file, which is made last and not needed, may well fail.
    except (Exception, SystemExit) as error:
        if not (folder / "saved_model.pb").is_file():
            raise PipelineError(_errors_of(log.getvalue()) or describe(error), code="onnx2tf") from None


def _widen(graph: Any) -> None:
    """FP32 in place of FP16, which TensorFlow mixes with FP32 less freely; the precision is for variants to choose."""
    for tensor in graph.tensors().values():
        if tensor.dtype == np.float16 and hasattr(tensor, "values"):
            tensor.values = tensor.values.astype(np.float32)
        elif tensor.dtype == np.float16:
            tensor.dtype = np.dtype(np.float32)
    for node in graph.nodes:
        if node.op == "Cast" and node.attrs["to"] in (FLOAT16, np.float16):
            node.attrs["to"] = FLOAT


def _errors_of(log: str) -> str:
    """What onnx2tf says of an error: the exceptions and the node they are of, or else its own sentence."""
    plain = re.sub(r"\033\[\d+m", "", log)
    lines = re.findall(r"^(?:\w*(?:Error|Exception): |ERROR: onnx_op_name: ).*", plain, re.M)
    return "; ".join(line.removeprefix("ERROR: ") for line in lines or re.findall(r"^ERROR: .*", plain, re.M)[:1])


def _named(model: Model, inputs: list[str], outputs: list[str]) -> Model:
    """The model with ONNX's names in place of input_0 and output_0."""

    def call(named: dict[str, Any]) -> dict[str, Any]:
        answers = model.call({f"input_{index}": named[name] for index, name in enumerate(inputs)})
        return {name: answers[f"output_{index}"] for index, name in enumerate(outputs)}

    specs = {name: model.inputs[f"input_{index}"] for index, name in enumerate(inputs)}
    results = {name: model.outputs[f"output_{index}"] for index, name in enumerate(outputs)}
    return model._replace(inputs=specs, outputs=results, call=call)


def _difference(tf: Any, model: Model, session: Any) -> tuple[float, float]:
    """Largest difference of the SavedModel's answers from ONNX Runtime's, on seeded noise, and what is allowed."""
    rng = np.random.default_rng(0)
    inputs = {
        name: rng.uniform(0, 1, [side or 2 if i == 0 else side or 224 for i, side in enumerate(spec.shape)]).astype(
            spec.dtype.as_numpy_dtype
        )
        for name, spec in model.inputs.items()
    }
    half = {item.name for item in (*session.get_inputs(), *session.get_outputs()) if item.type == "tensor(float16)"}
    cast = {name: value.astype(np.float16) if name in half else value for name, value in inputs.items()}
    expected = dict(zip(model.outputs, session.run([*model.outputs], cast), strict=True))
    answers = model.call({name: tf.constant(value) for name, value in inputs.items()})
    gaps = [
        float(np.abs(value - answers[name].numpy()).max()) / max(1.0, float(np.abs(value).max()))
        for name, value in expected.items()
    ]
    return float(np.max(gaps)), HALF_TOLERANCE if half else TOLERANCE


def _count(variables: Any) -> int:
    return sum(int(np.prod(variable.shape)) for variable in variables)
