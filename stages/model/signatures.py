"""A model as its signature has it: tensors by name, and a function of them. Knows nothing of images."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stages.core.errors import PipelineError, describe

if TYPE_CHECKING:
    from tensorflow import Tensor, TensorSpec, Variable
    from tensorflow.types.experimental import ConcreteFunction as Signature


# ONNX Runtime begins with the place, in its sources and on the disk; Keras with all that a layer stands in.
BEFORE_REASON = re.compile(r"^(\[ONNXRuntimeError\].* failed:(/\S*\.cc.*\) |/\S*\.h.*\) )?|.*Exception encountered: )")
# What `model.path` may name.
KINDS = "a SavedModel folder, a .keras, .h5 or .onnx file"


class Model(NamedTuple):
    """A model as its signature has it: tensors by name, a function of them, and what its variables hang on."""

    inputs: dict[str, "TensorSpec"]
    outputs: dict[str, "TensorSpec"]
    call: Callable[[dict[str, "Tensor"]], dict[str, "Tensor"]]
    tracked: Any
    parameters: int
    # Of a model that was converted to be opened: what it was before.
    original: "Original | None" = None


class Original(NamedTuple):
    """What the runtime of a model's own file answers, and whether FP16 takes part."""

    call: Callable[[dict[str, "Tensor"]], dict[str, "Tensor"]]
    half: bool


@contextmanager
def readable(path: Path, hint: str) -> Iterator[None]:
    """Whatever a library raises about a file becomes a sentence: each has exceptions of its own."""
    try:
        yield
    except Exception as error:
        reason = BEFORE_REASON.sub("", " ".join(str(error).split()))
        raise PipelineError(
            f"{path.name} (model.path) does not load ({reason[:300] or describe(error)}): {hint}",
            code="model-does-not-load",
            file=path.name,
            key="model.path",
            reason=reason,
        ) from None


def from_saved_model(tf: ModuleType, path: Path) -> Model:
    """The model in a folder, by its only signature or `serving_default`."""
    with readable(path, "save it again with the TensorFlow that it was made with"):
        loaded = tf.saved_model.load(str(path))
    signature = _signature(path, dict(loaded.signatures))
    _, inputs = signature.structured_input_signature
    resources = [tensor for tensor in signature.graph.external_captures if tensor.dtype == tf.resource]
    # Variables alone load faster than all that Keras saves; a table, say, is no variable.
    tracked = loaded if len(resources) > len(signature.variables) else signature.variables
    # The signature itself is a part of what it belongs to.
    call = lambda named: signature(**named)  # noqa: E731
    return Model(inputs, dict(signature.structured_outputs), call, [tracked], _count(signature.variables))


def _signature(path: Path, signatures: dict[str, "Signature"]) -> "Signature":
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


def refuse_fixed_batches(name: str, shape: Sequence[int | str | None]) -> None:
    """PipelineError for an input of images whose batch size is a number: one left open is None, or a name in ONNX."""
    if len(shape) == 4 and isinstance(shape[0], int):
        raise PipelineError(
            f"the model's input {name} takes batches of {shape[0]} alone: export the model with a batch dimension "
            "that is left open",
            code="input-fixed-batch",
            input=name,
            batch_size=shape[0],
        )


def _count(variables: Sequence["Variable"]) -> int:
    return sum(int(np.prod(variable.shape)) for variable in variables)
