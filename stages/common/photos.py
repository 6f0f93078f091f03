"""An image file with its class: what every kind of source comes down to."""

from pathlib import Path
from typing import NamedTuple


class Photo(NamedTuple):
    """An image file, its name inside its source, and its class (None: unlabelled)."""

    path: Path
    name: str
    label: int | None = None
