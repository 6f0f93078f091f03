"""Finds an interpreter of a version that a lock file needs, among those that are installed."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ..core.errors import PipelineError

MINOR = "import sys; print('%d.%d' % sys.version_info[:2])"
WHOLE = "import platform; print(platform.python_version())"
TIMEOUT_S = 20


class NoInterpreterError(PipelineError):
    """No Python of the versions that an environment needs is installed."""


def find(versions: Sequence[str], needed_by: str) -> Path:
    """The first that runs and is of one of these versions, which stand in order of preference."""
    for version in versions:
        for candidate in _candidates(version):
            if _runs(candidate, version):
                return candidate
    raise NoInterpreterError(
        f"{needed_by} needs Python {' or '.join(versions)}, and none was found: install one, such as by "
        f"`.venv/bin/uv python install {versions[0]}`, and run the same command again",
        code="no-interpreter",
        runtime=needed_by,
        versions=tuple(versions),
    )


def ask(interpreter: Path, code: str) -> str:
    """What the code prints there, whatever this shell sets for Python; OSError or SubprocessError if it cannot run."""
    command = [str(interpreter), "-I", "-c", code]
    return str(subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True).stdout.strip())


def _candidates(version: str) -> Iterator[Path]:
    """This interpreter, those on the PATH, pyenv's and uv's own, whose names on the PATH may be shims that fail."""
    yield Path(sys.executable)
    yield from (Path(place) / f"python{version}" for place in os.get_exec_path())
    yield from _below("PYENV_ROOT", "~/.pyenv", f"versions/{version}.*/bin/python{version}")
    yield from _below("UV_PYTHON_INSTALL_DIR", "~/.local/share/uv/python", f"cpython-{version}.*/bin/python{version}")


def _below(variable: str, usual: str, pattern: str) -> list[Path]:
    """The newest first."""
    root = Path(os.path.expanduser(os.environ.get(variable) or usual))  # noqa: PTH111  # Path's raises without a home
    return sorted(root.glob(pattern), reverse=True)


def _runs(interpreter: Path, version: str) -> bool:
    with suppress(OSError, subprocess.SubprocessError):
        return os.access(interpreter, os.X_OK) and ask(interpreter, MINOR) == version
    return False
