"""One way to fail: a sentence for a person, exit status 1, and no traceback for a user's mistake."""

import errno
import json
import math
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from .process import end_with_run
from .shown import masked, say

# A file named by this variable collects the sentences of all stages, so that `make repro` can repeat them at its end.
COLLECT = "STAGES_COLLECT_ERRORS"
# With less than this left, an unexpected error is most likely a full disk: libraries have their own types for that.
LOW_DISK_MB = 100


class PipelineError(Exception):
    """What went wrong, where, and how to mend it, in one sentence.

    `code` names the kind of mistake and `values` what the sentence is about (file, key, variant), for tests and tools.
    """

    def __init__(self, message: str, code: str = "", **values: object) -> None:
        """The sentence, its code and what it names; secrets of addresses are left out of all."""
        super().__init__(masked(message))
        self.code = code
        self.values = {name: masked(value) if isinstance(value, str) else value for name, value in values.items()}


# What the command has read: by its name what it held, and how to ask again.
_READ: dict[str, tuple[object, Callable[[], object]]] = {}


def run(main: Callable[[], None]) -> None:
    """Run a stage's main; a PipelineError or a full disk becomes one line on stderr and exit status 1.

    A stage of `make repro` ends with it, and fails if what it read has changed since.
    """
    end_with_run()
    _READ.clear()
    try:
        main()
        refuse_changed()
    except (Exception, KeyboardInterrupt) as error:
        tell(error)
        raise SystemExit(1) from None


def remember(name: str, ask: Callable[[], object], found: object) -> None:
    """An input that this command reads, as it is found first; `ask` tells at the end what it is by then."""
    _READ.setdefault(name, (found, ask))


def refuse_changed() -> None:
    """PipelineError if an input is another one than when this command read it."""
    changed = [name for name, (found, ask) in _READ.items() if ask() != found]
    if changed:
        raise PipelineError(
            f"{' and '.join(changed)} changed while it was in use: run the same command again, which reads it anew",
            code="input-changed",
            inputs=changed,
        )


def tell(error: BaseException) -> None:
    """Print the sentence of an error, in red on a terminal; the traceback of an unexpected one. It never fails."""
    try:
        _tell(error)
    except Exception as second:  # the first error is what counts, whatever keeps it from being told well
        with suppress(OSError, ValueError):  # where stderr is closed, nobody listens
            say(f"error: {error!r} (and it could not be told: {second!r})", to=sys.stderr)


def _tell(error: BaseException) -> None:
    if isinstance(error, KeyboardInterrupt):
        message = "interrupted: run the same command again, and it goes on where it stopped"
    elif _is_expected(error):
        message = describe(error)
    else:
        trace(error)
        _collect(f"an unexpected {describe(error)}; its traceback stands above")
        return
    say(message, to=sys.stderr, label="\033[31merror:\033[0m " if sys.stderr.isatty() else "error: ")
    _collect(message)


def fail(errors: Sequence[PipelineError]) -> None:
    """Raise them as one, with the code and the values of the first; nothing where there is none."""
    if errors:
        raise PipelineError("; ".join(map(str, errors)), code=errors[0].code, **errors[0].values)


def reason(error: Exception) -> str:
    """The sentence of an error that costs a part of the work alone; an unexpected one leaves its traceback too."""
    if not _is_expected(error):
        trace(error)
    return describe(error)


def _is_expected(error: BaseException) -> bool:
    """Whether its sentence says all that a person needs."""
    named = isinstance(error, OSError) and bool(error.filename)
    return isinstance(error, PipelineError) or named or bool(disk_hint(error))


def trace(error: BaseException) -> None:
    """The traceback of an unexpected error, on stderr; libraries write addresses into theirs."""
    say("".join(traceback.format_exception(error)).rstrip(), to=sys.stderr)


def _collect(message: str) -> None:
    # Where even this file cannot be written, for want of space, the line on stderr must do.
    with suppress(OSError), Path(os.environ.get(COLLECT, os.devnull)).open("a", encoding="utf-8") as collected:
        collected.write(json.dumps(message) + "\n")


def describe(error: BaseException) -> str:
    """One line for a report: our own sentences as they are, a full disk by name, other errors with their type."""
    return masked(_described(error))


def _described(error: BaseException) -> str:
    if isinstance(error, PipelineError):
        return str(error)
    if is_full(error):
        return disk_hint(error)
    if isinstance(error, OSError) and error.filename:
        return f"cannot read or write {error.filename} ({error.strerror}): check the path and its permissions"
    first_line = next(iter(str(error).strip().splitlines()), "no message")
    return "; ".join(filter(None, [f"{type(error).__name__}: {first_line}", disk_hint(error)]))


def is_full(error: BaseException | None) -> bool:
    """Whether the operating system says that there is no space left."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def disk_hint(error: BaseException | None = None) -> str:
    """What to do if a disk is full, as `error` or the space left says; empty if none is."""
    path = min(_places(error), key=_free_mb, default=Path())
    if not is_full(error) and _free_mb(path) > LOW_DISK_MB:
        return ""
    return (
        f"no space left on the disk of {path} ({_free_mb(path):.0f} MB free): free some space there "
        "(`dvc gc --workspace` drops cached results that nothing uses) and run the same command again"
    )


def _places(error: BaseException | None) -> list[Path]:
    """What the error names, or else the current folder and that for temporary files, where they still exist."""
    name = error.filename if isinstance(error, OSError) else None
    if isinstance(name, (str, bytes)) and name:
        return [Path(os.fsdecode(name))]
    found = []
    for ask in (Path.cwd, lambda: Path(tempfile.gettempdir())):
        with suppress(OSError):  # a folder that is gone, or a full disk: the other one may tell
            found.append(ask())
    return found


def _free_mb(path: Path) -> float:
    """On the disk of the path, or of the nearest folder above it that can be asked."""
    for folder in (path, *path.parents, Path()):
        with suppress(OSError, ValueError):  # no such name, or none that can be one
            return shutil.disk_usage(folder).free / 1e6
    return math.inf
