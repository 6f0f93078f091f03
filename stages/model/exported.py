"""The export to ONNX as the stage `to_onnx` has it: in a process of its own, and recorded however it ends."""

import re
import shutil
from pathlib import Path

from stages.contracts.model import ONNX, SAVED_MODEL, ModelRecord, OnnxRecord
from stages.contracts.status import Status
from stages.core import isolate
from stages.core.errors import PipelineError, describe
from stages.core.tensorflow import layer, tensorflow
from stages.data import examples
from stages.model import onnx_export

# How ONNX Runtime calls a node whose operator it does not have, and one that it has for other types alone.
UNKNOWN = re.compile(r'In Node, \("(?P<node>[^"]+)", (?P<operator>\w+),.*No Op registered')
UNTYPED = re.compile(r"implementation for (?P<operator>\w+)\(\d+\) node with name '(?P<node>[^']+)'")
SKIPPED = OnnxRecord(status=Status("skipped", "no variant starts from ONNX"))

ENDED = OnnxRecord(status=Status("failed", "the export was ended before it was done: run the same command again"))


def outcome(model: ModelRecord, folder: Path) -> tuple[OnnxRecord, list[PipelineError]]:
    """Export into `folder`: the record, and the error if there is one; the folder is then empty."""
    try:
        return isolate.walled([folder], export, model, folder / ONNX.name), []
    except PipelineError as error:
        shutil.rmtree(folder)
        folder.mkdir()
        return OnnxRecord(status=Status("failed", str(error))), [error]


def export(model: ModelRecord, target: Path) -> OnnxRecord:
    """Export in this process; an error of a library becomes a sentence too, since models bring them about."""
    try:
        shown = examples.read(model.preprocessing)
        # A GPU that rounds FP32 to TF32 would be further from ONNX Runtime than any mistake in the graph.
        return onnx_export.write(tensorflow(tf32=False), SAVED_MODEL, target, model.name, shown, model.largest_logit)
    except PipelineError:
        raise
    except Exception as error:
        raise _impossible(model.name, error) from None


def _impossible(name: str, error: Exception) -> PipelineError:
    """It names the operator and its layer where ONNX Runtime does."""
    found = UNKNOWN.search(str(error)) or UNTYPED.search(str(error))
    place = layer([found["node"]]) if found else ""
    reason = describe(error)
    if found:
        lacks = f"no {found['operator']}" + (" for its types" if found.re is UNTYPED else "")
        reason = f"ONNX Runtime has {lacks}" + (f", as in the layer {place}" if place else "")
    return PipelineError(
        f"{name} has no ONNX model ({reason}): leave out the variants that start from ONNX, or replace the layer",
        code="onnx-impossible",
        model=name,
        operator=found and found["operator"],
        layer=place,
    )
