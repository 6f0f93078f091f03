"""Why TFLite cannot have a model: its operators, their layers, and whether the open batch size is at fault."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from ...core.errors import PipelineError, describe
from ...core.tensorflow import layer

# How LiteRT calls the operator that failed.
NODE = re.compile(r"Node number (\d+) \((\w+)\)")
# In MLIR's words for a tensor that an operator takes.
TYPES = {"f64": "float64", "f16": "float16"}
# Of a list of tensors, as a recurrent layer keeps one, whose length is the batch.
OPEN = "requires element_shape to be static"
SHOWN = 5
LEAVE = "or leave out the variants of tflite"


def explain(error: Exception, layer_of: Callable[[int], str], runs_fixed: Callable[[], bool]) -> PipelineError:
    """Our sentence; `layer_of` knows nodes of the file, `runs_fixed` whether the model runs with a fixed batch size."""
    operators, layers = _converter_names(error)
    if node := NODE.search(str(error)):
        operators, layers = [node[2]], [layer_of(int(node[1]))]
    place = _place(operators, layers)
    if OPEN in str(error) or runs_fixed():
        told, code = (
            f"needs a fixed batch size for {place}, and this pipeline leaves it open: replace the layer",
            "batch",
        )
    elif operators and not node:
        told, code = _missing(str(error), operators, place), "operator"
    else:
        told, code = f"cannot run {place} ({describe(error)}): replace the layer", "failed"
    return PipelineError(
        f"TFLite {told}, {LEAVE}", code=f"tflite-{code}", operators=operators, layers=list(filter(None, layers))
    )


def _missing(error: str, operators: list[str], place: str) -> str:
    kinds = {kind for name in operators for kind in re.findall(rf"tf\.{name}\(.*?[x<](f64|f16)>", error)}
    if kinds:
        return f"has no {place} in {' and '.join(sorted(map(TYPES.__getitem__, kinds)))}: use float32 there"
    return f"has no {place}: replace the layer"


def _place(operators: list[str], layers: list[str]) -> str:
    named = list(filter(None, layers))
    told = ", ".join(operators[:SHOWN]) or "this model"
    more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    return f"{told} of the layer {', '.join(named[:SHOWN])}{more}" if named else told


def _converter_names(error: Exception) -> tuple[list[str], list[str]]:
    """Operators and layers that the converter names, each once."""
    faults: Iterable[Any] = getattr(error, "errors", ())
    known = [fault for fault in faults if fault.operator.name]
    operators = sorted({fault.operator.name.removeprefix("tf.") for fault in known})
    layers = sorted({layer([call.name for call in fault.location.call]) for fault in known})
    return operators, layers
