"""A function in a process of its own, so that a crash or a kill becomes a sentence and not the end of the run."""

import multiprocessing
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import ParamSpec, TypeVar, cast

from . import process
from .errors import PipelineError, describe, trace

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def call(function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
    """The function's result from a fresh process; PipelineError with the reason it gave or died of.

    The function and its arguments travel by pickle, so that it must be one of a module.
    """
    ours, child = _start(function, args, kwargs)
    grace_s = 0
    try:
        answer = ours.recv()
        grace_s = process.GRACE_S  # it may leave by itself
    except (EOFError, OSError):
        raise PipelineError(process.ending(_end(child, process.GRACE_S)), code="process-ended") from None
    finally:
        ours.close()
        _end(child, grace_s)
    if isinstance(answer, PipelineError):
        raise answer
    return cast(Result, answer)


def _start(function: object, args: object, kwargs: object) -> tuple[Connection, SpawnProcess]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_answer, args=(theirs, function, args, kwargs), daemon=True)
    # Starts with the first process, and would unblock Ctrl-C again just before that is started.
    resource_tracker.ensure_running()
    with process.ctrl_c_blocked():
        child.start()
    theirs.close()
    return ours, child


def _end(child: SpawnProcess, grace_s: float) -> int | None:
    def wait(seconds: float) -> int | None:
        child.join(seconds)
        return child.exitcode

    return process.end(wait, child.kill, grace_s)


def _answer(
    connection: Connection, function: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]
) -> None:
    """In the new process: send what the function returns or why it could not; another's traceback goes to stderr."""
    process.end_with_parent()
    try:
        answer = function(*args, **kwargs)
    except PipelineError as error:
        answer = error
    except Exception as error:
        trace(error)
        answer = PipelineError(describe(error), code="unexpected")
    connection.send(answer)
