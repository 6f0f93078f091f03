"""How a process of ours starts and ends, whoever starts it: a crash or a kill becomes a sentence."""

import ctypes
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# How long a process may take to end: one that hangs in a driver cannot even be killed.
GRACE_S = 10
# Of Linux: which signal a process gets when the thread that started it is gone.
PR_SET_PDEATHSIG = 1
# Whose orphans a process gets, which init would get otherwise.
PR_SET_CHILD_SUBREAPER = 36
# A variable that holds the number of the process which runs the pipeline: no stage outlives it.
SUPERVISOR = "STAGES_SUPERVISOR"


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
    _control(PR_SET_PDEATHSIG, signal.SIGKILL)


def stop_with_parent() -> None:
    """This process is asked to end when its parent is gone, and ends what it started."""
    _control(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def orphans_adopted() -> Iterator[None]:
    """For so long, what a child of ours started becomes ours when that child dies: nothing is lost sight of."""
    _control(PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        _control(PR_SET_CHILD_SUBREAPER, 0)


def _control(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


def end_with_run() -> None:
    """Called first in a stage: it is killed when the process that runs the pipeline is gone.

    DVC stands between them, and a shell, which may outlive DVC: being killed with the parent would not do.
    """
    if sys.platform != "linux" or SUPERVISOR not in os.environ:
        return
    try:
        supervisor = os.pidfd_open(int(os.environ[SUPERVISOR]))
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        threading.Thread(target=_end_after, args=(supervisor,), daemon=True).start()


def _end_after(process: int) -> None:
    select.select([process], [], [])
    os.kill(os.getpid(), signal.SIGKILL)


def lives(number: int) -> bool:
    """Whether there is a process of that number."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass  # another user's, or no number of any
    return True


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
