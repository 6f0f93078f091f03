"""A function in a process of its own, so that a crash or a kill becomes a sentence and not the end of the run."""

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

from . import process, wall
from .errors import PipelineError, describe, trace

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def call(function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
    """The function's result from a fresh process; PipelineError with the reason it gave or died of.

    The function and its arguments travel by pickle, so that it must be one of a module.
    """
    return cast(Result, _asked(None, function, args, kwargs))


def walled(
    folders: Sequence[Path], function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """The same behind a wall: the process writes to these folders alone, and reaches no network, as far as Linux can.

    What it makes besides, as temporary files, goes when it ends.
    """
    with tempfile.TemporaryDirectory() as temporary:
        return cast(Result, _asked([Path(temporary), *folders], function, args, kwargs))


def _asked(folders: list[Path] | None, function: object, args: object, kwargs: object) -> object:
    ours, child = _start(folders, function, args, kwargs)
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
    return answer


def _start(
    folders: list[Path] | None, function: object, args: object, kwargs: object
) -> tuple[Connection, SpawnProcess]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_answer, args=(theirs, folders, function, args, kwargs), daemon=True)
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
    connection: Connection,
    folders: list[Path] | None,
    function: Callable[..., object],
    args: tuple[object, ...],
    kwargs: dict[str, object],
) -> None:
    """In the new process: send what the function returns or why it could not; another's traceback goes to stderr."""
    process.end_with_parent()
    multiprocessing.current_process().daemon = False  # it may have processes of its own, which end with it
    try:
        if folders:
            _wall_in(folders)
        answer = function(*args, **kwargs)
    except PipelineError as error:
        answer = error
    except Exception as error:
        trace(error)
        answer = PipelineError(describe(error), code="unexpected")
    connection.send(answer)


def _wall_in(folders: list[Path]) -> None:
    """The first folder is for temporary files."""
    os.environ["TMPDIR"] = tempfile.tempdir = str(folders[0])
    wall.stand(folders)
