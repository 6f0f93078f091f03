"""How a process of ours starts and ends, whoever starts it: a crash or a kill becomes a sentence."""

import ctypes
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# How long a process may take to end: one that hangs in a driver cannot even be killed.
GRACE_S = 10
# Of Linux: which signal a process gets when the thread that started it is gone.
PR_SET_PDEATHSIG = 1


@contextmanager
def ctrl_c_blocked() -> Iterator[None]:
    """Block Ctrl-C for what is started here, which inherits that: there is no moment at which it would answer.

    Ctrl-C reaches every process of a terminal: the parent answers it, and ends those that it started.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """Called first in a started process: it is killed when its parent is gone.

    A cluster kills without notice: what the killed process started must not hold a GPU that others are given.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def end(wait: Callable[[float], int | None], kill: Callable[[], None], grace_s: float = 0) -> int | None:
    """Wait `grace_s` seconds for a process, then kill it; its exit status, or None if it hangs and is given up.

    `wait` takes seconds, and returns the exit status or None.
    """
    for seconds in (grace_s, GRACE_S):
        if (status := wait(seconds)) is not None:
            return status
        kill()
    return None


def ending(exit_status: int | None) -> str:
    """How a process ended, as a sentence; None for one that did not."""
    if exit_status is None:
        return f"its process hangs, and did not end within {GRACE_S} seconds after it was killed"
    if exit_status < 0:
        name = signal.Signals(-exit_status).name
        cause = ", probably for lack of memory" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{cause}"
    return f"its process ended early with exit status {exit_status}"
