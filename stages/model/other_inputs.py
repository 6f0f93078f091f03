"""Constants for all inputs of a model but the image, as `custom.other_inputs` gives them."""

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from pydantic import JsonValue

from stages.core.errors import PipelineError

if TYPE_CHECKING:
    from tensorflow import Tensor, TensorSpec

# Of a batch size.
Constant = Callable[["Tensor"], "Tensor"]


def constants(
    tf: ModuleType, specs: dict[str, "TensorSpec"], source: str, values: dict[str, JsonValue]
) -> dict[str, Constant]:
    """Constants for all inputs but the image, as functions of the batch size."""
    required = {name: spec for name, spec in specs.items() if name != source}
    if missing := [name for name in required if name not in values]:
        raise PipelineError(
            f"the model also takes {', '.join(described(name, required[name]) for name in missing)}: give the value "
            "in custom.other_inputs, as {name: value}",
            code="inputs-missing",
            key="custom.other_inputs",
            names=missing,
        )
    if unknown := [name for name in values if name not in required]:
        raise PipelineError(
            f"custom.other_inputs names {', '.join(unknown)}, but the inputs besides the image are "
            f"{', '.join(required) or 'none'}: name those alone",
            code="inputs-unknown",
            key="custom.other_inputs",
            names=unknown,
        )
    return {name: _constant(tf, name, spec, values[name]) for name, spec in required.items()}


def _constant(tf: ModuleType, name: str, spec: "TensorSpec", value: JsonValue) -> Constant:
    shape = [*spec.shape]
    by_image = bool(shape) and shape[0] is None
    try:
        if value is None or (spec.dtype.is_integer and np.array(value).dtype.kind == "f"):
            raise TypeError
        constant = np.broadcast_to(np.array(value, spec.dtype.as_numpy_dtype), [s or 1 for s in shape[by_image:]])
    except (TypeError, ValueError):
        raise PipelineError(
            f"custom.other_inputs.{name} is {value!r}, which does not fit {described(name, spec)}: give one that does",
            code="input-misfit",
            key=f"custom.other_inputs.{name}",
            value=value,
        ) from None
    if by_image:
        return lambda size: tf.repeat(tf.constant(constant)[None], size, axis=0)
    return lambda size: tf.constant(constant)


def described(name: str, spec: "TensorSpec") -> str:
    """With its type and shape."""
    return f"{name} ({spec.dtype.name} {[*spec.shape] if spec.shape.rank is not None else '?'})"
