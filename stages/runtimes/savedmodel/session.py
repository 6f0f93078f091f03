"""Loads the SavedModel."""

from pathlib import Path

from ..shared.saved_model import SavedModelSession
from .options import Options


def open_session(folder: Path, precision: str, options: Options, threads: int | None) -> SavedModelSession:
    """A session on the signature of the SavedModel in `folder`."""
    return SavedModelSession(folder, threads, options.tf32)
