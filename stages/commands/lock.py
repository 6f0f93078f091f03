"""One command that writes at a time in a checkout: two would overwrite each other's files."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from stages.core.errors import PipelineError

LOCK = Path(".make-repro.lock")


@contextmanager
def exclusive(checkout: Path = Path()) -> Iterator[None]:
    """Hold the checkout until the block ends, or the process does; PipelineError if another one holds it."""
    lock = filelock.FileLock(checkout / LOCK, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise PipelineError(
            "another `make repro` is running in this checkout, or a command that writes there: wait until it ends, or "
            "use a second checkout",
            code="checkout-busy",
        ) from None
    except OSError as error:
        # A repository may bring a link, and what it leads to would be opened for writing.
        if error.errno != errno.ELOOP:
            raise
        told = f"{checkout / LOCK} is a link: delete it and run the same command again"
        raise PipelineError(told, code="lock-link", file=str(checkout / LOCK)) from None
    try:
        yield
    finally:
        lock.release()
