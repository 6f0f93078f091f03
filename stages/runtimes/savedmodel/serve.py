"""What a server must know of a SavedModel."""

from pathlib import Path

from ..contract import Interface
from ..shared import saved_model


def describe(folder: Path) -> Interface:
    """The tensors of the serving signature."""
    return saved_model.interface(folder)
