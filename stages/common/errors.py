"""One way to fail: a sentence for a person, exit status 1, and no traceback for a user's mistake."""

import errno
import shutil
import sys
from collections.abc import Callable
from pathlib import Path


class PipelineError(Exception):
    """What went wrong, where, and how to mend it, in one sentence."""


def run(main: Callable[[], None]) -> None:
    """Run a stage's main; a PipelineError or a full disk becomes one line on stderr and exit status 1."""
    try:
        main()
    except PipelineError as error:
        fail(str(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        fail(disk_full(Path(error.filename or ".")))


def fail(message: str) -> None:
    """Print the sentence, in red on a terminal, and leave with status 1."""
    label = "\033[31merror:\033[0m" if sys.stderr.isatty() else "error:"
    print(f"{label} {message}", file=sys.stderr)
    raise SystemExit(1)


def disk_full(path: Path) -> str:
    """Name the disk that is full and what is left on it."""
    place = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    free_mb = shutil.disk_usage(place).free / 1e6
    return (
        f"no space left on the disk of {path} ({free_mb:.0f} MB free): free some space there "
        "(`dvc gc --workspace` drops cached results that nothing uses) and run the same command again"
    )


def describe(error: BaseException) -> str:
    """One line for a report: our own sentences as they are, other errors with their type."""
    if isinstance(error, PipelineError):
        return str(error)
    first_line = next(iter(str(error).strip().splitlines()), "no message")
    return f"{type(error).__name__}: {first_line}"
