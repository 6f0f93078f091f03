"""Opens an ONNX file of the user's, by way of onnx2tf, beside what ONNX Runtime answers, to be compared with."""

import io
import math
import re
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.core import isolate
from stages.core.errors import PipelineError, describe
from stages.model.door_onnx import HINT, tensors
from stages.model.signatures import Model, Original, from_saved_model, readable, refuse_fixed_batches

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto
    from onnxruntime import InferenceSession
    from tensorflow import Tensor

FLOAT, FLOAT16, DOUBLE = 1, 10, 11  # onnx.proto's TensorProto.DataType
# ONNX Runtime's word for it.
HALF = "tensor(float16)"


def open_onnx(tf: ModuleType, path: Path) -> Model:
    """The model in a file, and what ONNX Runtime answers; PipelineError if it cannot be read or converted."""
    import onnx
    import onnxruntime

    with readable(path, HINT):
        file = onnx.load(path, load_external_data=False)
    _refuse_other_files(path, file)
    graph = file.graph
    with readable(path, HINT):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs, outputs = ([item.name for item in items] for items in (session.get_inputs(), session.get_outputs()))
    for item in session.get_inputs():
        refuse_fixed_batches(item.name, item.shape)  # of these onnx2tf would go online for test images
    with tempfile.TemporaryDirectory() as work:
        with readable(path, HINT):
            # In a process of its own: it brings another Keras, and the two disturb each other.
            isolate.call(_onnx_to_saved_model, path, inputs, Path(work))
        model = _named(from_saved_model(tf, Path(work)), inputs, outputs)
    weights = (math.prod(item.dims) for item in graph.initializer if item.data_type in (FLOAT, FLOAT16, DOUBLE))
    return model._replace(
        parameters=sum(weights), original=Original(_answering(tf, path, session), _has_half(session, graph))
    )


def _refuse_other_files(path: Path, model: "ModelProto") -> None:
    """PipelineError for weights that lie beside the file: it would come without them."""
    names = {entry.value for item in tensors(model) for entry in item.external_data if entry.key == "location"}
    if names:
        raise PipelineError(
            f"{path.name} (model.path) keeps its weights in {', '.join(sorted(names))}: make it one file, by "
            "`torch.onnx.export(..., external_data=False)` or `onnx.save(onnx.load(FILE), FILE)`",
            code="onnx-external-weights",
            file=path.name,
            key="model.path",
            files=sorted(names),
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

    def call(named: dict[str, "Tensor"]) -> dict[str, "Tensor"]:
        answers = model.call({f"input_{index}": named[name] for index, name in enumerate(inputs)})
        return {name: answers[f"output_{index}"] for index, name in enumerate(outputs)}

    specs = {name: model.inputs[f"input_{index}"] for index, name in enumerate(inputs)}
    results = {name: model.outputs[f"output_{index}"] for index, name in enumerate(outputs)}
    return model._replace(inputs=specs, outputs=results, call=call)


def _has_half(session: "InferenceSession", graph: "GraphProto") -> bool:
    ends = (*session.get_inputs(), *session.get_outputs())
    return any(item.type == HALF for item in ends) or any(item.data_type == FLOAT16 for item in graph.initializer)


def _answering(
    tf: ModuleType, path: Path, session: "InferenceSession"
) -> Callable[[dict[str, "Tensor"]], dict[str, "Tensor"]]:
    """What ONNX Runtime makes of the file as it is."""
    half = {item.name for item in session.get_inputs() if item.type == HALF}
    outputs = [item.name for item in session.get_outputs()]

    def call(named: dict[str, "Tensor"]) -> dict[str, "Tensor"]:
        fed = {name: tf.cast(value, tf.float16) if name in half else value for name, value in named.items()}
        with readable(path, "it should run in ONNX Runtime"):
            answers = session.run(outputs, {name: value.numpy() for name, value in fed.items()})
        return {name: tf.constant(answer) for name, answer in zip(outputs, answers, strict=True)}

    return call
