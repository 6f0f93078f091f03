"""One pipeline at a time in a checkout: two would overwrite each other's files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from stages.core.errors import PipelineError

LOCK = Path(".make-repro.lock")


@contextmanager
def exclusive() -> Iterator[None]:
    """Hold this checkout until the block ends, or the process does; PipelineError if another one holds it."""
    try:
        with filelock.FileLock(LOCK, timeout=0):
            yield
    except filelock.Timeout:
        raise PipelineError(
            "another `make repro` is running in this checkout: wait until it ends, or use a second checkout",
            code="checkout-busy",
        ) from None
