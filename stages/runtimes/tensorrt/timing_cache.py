"""Keeps what TensorRT learned of kernels from one build for the next, on the same GPU, driver and TensorRT alone."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...contracts.conversion import Scalar
from ...core import files
from .session import Origin


class TimingCache:
    """What is known of kernels when a build starts, and afterwards."""

    def __init__(self, used: bool, origin: Origin) -> None:
        """Read what there is for engines of that origin; what cannot be read or written costs time and no build."""
        self._used, self._origin = used, origin
        self._failed: str | None = None
        self.content = b""
        if used:
            with self._tolerant(), suppress(FileNotFoundError):
                self.content = _path(origin).read_bytes()
        self._warm = bool(self.content)

    def save(self) -> None:
        """Write it for the next build."""
        if self._used:
            with self._tolerant():
                files.write_bytes(_path(self._origin), self.content)

    @contextmanager
    def _tolerant(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:  # the latter where there is no home
            self._failed = str(error)

    def facts(self) -> dict[str, Scalar]:
        """Whether it was used, whether an earlier build had filled it, and why it could not be read or written."""
        facts = {"used": self._used, "warm": self._warm, "bytes": len(self.content), "failed": self._failed}
        return {f"timing_cache.{name}": value for name, value in facts.items()}


def _path(origin: Origin) -> Path:
    """In the user's cache folder (freedesktop's basedir specification), so that a second checkout profits too."""
    from ...core import gpu  # only where there is a GPU

    with gpu.session():
        driver = gpu.driver()
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    root = chosen if chosen.is_absolute() else Path.home() / ".cache"
    words = " ".join((*origin.words, "driver", driver))
    return root / "trt-pipeline" / f"{re.sub(r'[^A-Za-z0-9.]+', '-', words)}.timing"
