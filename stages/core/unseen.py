"""Keeps what C++ code prints from the terminal: it writes to the descriptor of stderr, past Python."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_log() -> Iterator[None]:
    """What is written there meanwhile stays unseen: the error that follows has all of it."""
    with tempfile.TemporaryFile() as unseen, os.fdopen(os.dup(2), "wb") as before:
        os.dup2(unseen.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before.fileno(), 2)
