"""The door for models: a file is read as data, and refused by name where it is a program, before a framework opens it.

What is admitted comes from lists of what only computes. A list of what does harm would always miss something.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from stages.core.errors import PipelineError
from stages.model import door_keras, door_onnx, door_saved_model
from stages.model.signatures import KINDS

# What is more than data, by the kind of file; a folder is known by its saved_model.pb. No other kind is opened.
DOORS: dict[str, Callable[[Path], Iterator[str]]] = {
    "saved_model.pb": door_saved_model.findings,
    ".keras": door_keras.findings,
    ".h5": door_keras.findings,
    ".onnx": door_onnx.findings,
}
# Of what is found, as a sentence lists it.
SHOWN = 3


def admit(path: Path, trusted: bool = False) -> str:
    """The kind of a model's file or folder; PipelineError if it is of none, or a program that nobody said to trust."""
    kind = _kind(path)
    if not trusted and (found := list(dict.fromkeys(DOORS[kind](path)))):
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise PipelineError(
            f"{path.name} (model.path) is refused, as it can run commands or touch files: {'; '.join(found[:SHOWN])}"
            f"{more}: export it without, as a SavedModel that only computes (`model.export(FOLDER)` in Keras), or set "
            "model.trusted: true if you trust who made it",
            code="model-refused",
            file=path.name,
            key="model.trusted",
            found=found,
        )
    return kind


def _kind(path: Path) -> str:
    if (path / "saved_model.pb").is_file():
        return "saved_model.pb"
    if path.suffix in DOORS and path.is_file():
        return path.suffix
    raise PipelineError(
        f"{path} (model.path in params.yaml) is no model: it should be {KINDS}",
        code="model-kind",
        file=str(path),
        key="model.path",
    )
