"""What a server must know of a SavedModel with engines."""

from dataclasses import replace
from pathlib import Path

from ..contract import Interface
from ..shared import saved_model
from .session import batch_sizes


def describe(folder: Path) -> Interface:
    """The tensors of the serving signature, and the batch sizes that have an engine."""
    return replace(saved_model.interface(folder), batch_sizes=batch_sizes(folder))
