"""Work in a process of its own, so that a crash or a kill becomes a sentence and not the end of the run."""

import ctypes
import multiprocessing
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from .errors import PipelineError, describe

# How long a process may take to end: one that hangs in a driver cannot even be killed.
GRACE_S = 10
# Of Linux: which signal a process gets when the thread that started it is gone.
PR_SET_PDEATHSIG = 1


class Worker:
    """A fresh process running `serve(connection)`; `ask` sends one request and waits for its answer."""

    def __init__(self, serve: Callable[..., None], *args: Any) -> None:
        """Start the process: `serve` gets its end of the pipe, then `args`."""
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_begin, args=(serve, theirs, *args), daemon=True)
        # Starts with the first process, and would unblock Ctrl-C again just before that is started.
        resource_tracker.ensure_running()
        # Ctrl-C reaches every process of a terminal: the parent answers it, and ends this one. A process inherits what
        # is blocked, so that there is no moment at which it would answer for itself.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self._process.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    def ask(self, request: Any = None) -> Any:
        """The answer to one request; PipelineError with the child's own reason, or how its process ended."""
        try:
            self._connection.send(request)
            succeeded, answer = self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            raise PipelineError(_ending(self._process.exitcode)) from None
        if not succeeded:
            raise PipelineError(answer)
        return answer

    def close(self, grace_s: float = 0) -> None:
        """End the process, which has so long to leave by itself, and wait until it holds nothing any more."""
        self._connection.close()
        self._process.join(timeout=grace_s)
        self._process.kill()
        self._process.join(timeout=GRACE_S)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(GRACE_S if kind is None else 0)


def call(function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)` in a fresh process: its result, or PipelineError with the reason it gave or died of."""
    with Worker(_serve_once, function, args) as worker:
        return worker.ask()


def answer(connection: Connection, compute: Callable[[], Any]) -> None:
    """Send what `compute` returns or why it could not; an unexpected error's traceback goes to stderr."""
    try:
        result = (True, compute())
    except Exception as error:
        if not isinstance(error, PipelineError):
            traceback.print_exc(file=sys.stderr)
        result = (False, describe(error))
    connection.send(result)


def _begin(serve: Callable[..., None], connection: Connection, *args: Any) -> None:
    # A cluster kills without notice: what the killed process started must not hold a GPU that others are given.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    serve(connection, *args)


def _serve_once(connection: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    connection.recv()
    answer(connection, lambda: function(*args))


def _ending(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        cause = ", probably for lack of memory" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{cause}"
    return f"its process ended early with exit status {exit_code}"
