"""Keeps what TensorRT learned of kernels from one build for the next, on the same GPU, driver and TensorRT alone."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..core import files


class TimingCache:
    """What is known of kernels when a build starts, and afterwards."""

    def __init__(self, wanted: bool, origin: dict[str, str]) -> None:
        """Read what there is for engines of that origin; what cannot be read or kept costs time and no build."""
        self._wanted, self._origin = wanted, origin
        self._lost: str | None = None
        self.content = b""
        if wanted:
            with self._told(), suppress(FileNotFoundError):
                self.content = _path(origin).read_bytes()
        self._warm = bool(self.content)

    def keep(self) -> None:
        """Write it for the next build."""
        if self._wanted:
            with self._told():
                files.write_bytes(_path(self._origin), self.content)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:  # the latter where there is no home
            self._lost = str(error)

    def record(self) -> dict[str, Any]:
        """Whether it was used, whether an earlier build had filled it, and why it could not be read or kept."""
        return {"used": self._wanted, "warm": self._warm, "bytes": len(self.content), "lost": self._lost}


def _path(origin: dict[str, str]) -> Path:
    """In the user's cache folder (freedesktop's basedir specification), so that a second checkout profits too."""
    from ..core import gpu  # the champion loads this module, but builds nothing

    with gpu.session():
        driver = gpu.driver()
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    root = chosen if chosen.is_absolute() else Path.home() / ".cache"
    words = " ".join((*origin.values(), "driver", driver))
    return root / "trt-pipeline" / f"{re.sub(r'[^A-Za-z0-9.]+', '-', words)}.timing"
