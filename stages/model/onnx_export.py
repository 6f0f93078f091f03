"""Exports a SavedModel to ONNX, and compares the two."""

import logging
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from stages.contracts import closeness
from stages.contracts.closeness import Gap
from stages.contracts.model import OnnxRecord
from stages.contracts.preprocessing import Floats
from stages.core import erfc, frozen
from stages.core.errors import PipelineError
from stages.core.tensorflow import has_half
from stages.data.examples import Examples
from stages.model import door_onnx, onnx_folding, tolerance

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto
    from tensorflow.types.experimental import ConcreteFunction as Signature

# The newest that TensorRT 8.5 reads (its onnx-tensorrt parser, release notes of 8.5).
OPSET = 17
INPUT, OUTPUT, BATCH = "images", "probabilities", "batch"


def write(
    tf: ModuleType,
    folder: Path,
    target: Path,
    name: str,
    shown: Examples,
    logits: float = 1.0,
    most: float | None = None,
) -> OnnxRecord:
    """Write the ONNX model of the SavedModel in `folder`; what is in it, and the largest difference of an answer.

    PipelineError if that is more than `most`, or else than rounding explains where logits are up to so large.
    """
    saved = tf.saved_model.load(str(folder))  # its variables live as long as this
    signature = saved.signatures["serving_default"]
    model = export(signature)
    target.write_bytes(model.SerializeToString(deterministic=True))
    rounding = closeness.allowed(has_half(signature.graph), logits)
    gap = difference(signature, target, shown, most or rounding)
    if not gap.close:
        raise PipelineError(
            f"the ONNX model of {name} answers otherwise than the SavedModel: {gap}; leave out the variants that start "
            "from ONNX, and report it",
            code="onnx-differs",
            model=name,
            difference=gap.difference,
        )
    nodes = Counter(node.op_type for node in model.graph.node)
    return OnnxRecord(OPSET, dict(sorted(nodes.items())), gap.difference, target.stat().st_size, shown.words)


def export(signature: "Signature") -> "ModelProto":
    """The signature as an ONNX model of float32 images [batch, height, width, channels], its weights inside."""
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # what it lacks, ONNX Runtime tells
    # tf2onnx's own way, from_function, would make inputs of constants that the model has captured.
    closed, _ = frozen.inline(frozen.freeze(signature, lower=False), lower=False)
    ((source,), (result,)) = closed.inputs, closed.outputs
    graph = closed.graph.as_graph_def()
    erfc.without(graph)
    model, _ = tf2onnx.convert.from_graph_def(
        graph,
        input_names=[source.name],
        output_names=[result.name],
        tensors_to_rename={source.name: INPUT, result.name: OUTPUT},
        opset=OPSET,
    )
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = BATCH  # tf2onnx numbers it
    onnx_folding.fold(model)
    name_constants(model.graph)
    _forget_unused(model)
    exported: ModelProto = model
    return exported


def _forget_unused(model: "ModelProto") -> None:
    """Leave out operator sets that no node is of: TensorRT's parser, say, does not know them all."""
    used = {node.domain for node in door_onnx.nodes(model)}
    kept = [entry for entry in model.opset_import if entry.domain in ("", *used)]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def name_constants(graph: "GraphProto") -> None:
    """Name and order constants by their first use: tf2onnx keeps any one of equal ones, another in every run.

    The same SavedModel then gives the same bytes, and DVC does not convert again what has not changed.
    """
    constants = {constant.name: constant for constant in graph.initializer}
    del graph.initializer[:]
    named: dict[str, str] = {}
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name in constants and name not in named:
                named[name] = constants[name].name = f"{node.name}/constant{position}"
                graph.initializer.append(constants[name])
            node.input[position] = named.get(name, name)


def difference(signature: "Signature", path: Path, shown: Examples, most: float) -> Gap:
    """Of the ONNX file's answers from those of the SavedModel's signature."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # What the graph says: an optimisation rounds the weights too of a convolution between Q/DQ pairs, by one range.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def served(images: Floats) -> Floats:
        answers: Floats = signature(images=images)[OUTPUT].numpy()
        return answers

    return tolerance.compare(served, lambda images: session.run([OUTPUT], {INPUT: images})[0], shown, most)
