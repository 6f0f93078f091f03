"""Environments of runtimes: each is made of a lock file with hashes, once for all checkouts, by that file's digest.

One without its stamp is half-made: it is never used, and made anew.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from ..contracts import codec
from ..contracts.environment import RuntimeEnvironment
from ..contracts.variant import runtime_of
from ..core import errors, files, gpu
from ..core.closure import ROOT
from ..core.errors import PipelineError
from ..core.shown import say
from . import installer, pythons, registry

# Where they lie; the user's cache if the variable is not set.
VARIABLE = "TRT_PIPELINE_ENVIRONMENTS"
STAMP = "made.json"
DIGEST_DIGITS = 12
# Set for the pipeline's own Python, and misleading for another.
OWN = re.compile(r"PYTHON.*|VIRTUAL_ENV|LD_LIBRARY_PATH")
# What builds packages that come as source, with hashes.
BUILDERS = ROOT / "requirements/build.txt"
# The first line of a lock: the versions of Python it holds for, the best first.
PYTHONS = re.compile(r"# Python (3\.\d+(?:, 3\.\d+)*)\n")
PINNED = re.compile(r"^([\w.-]+)==([^\s;]+)(?: ; (.+?))? \\$", re.MULTILINE)


@dataclass(frozen=True)
class Made:
    """made.json: with which Python an environment was made."""

    SCHEMA: ClassVar[int] = 1

    python: str
    lock: str

    @property
    def minor(self) -> str:
        """Such as 3.12."""
        return _minor(self.python)


class NoLockError(PipelineError):
    """A version of a runtime has no lock for machines of this kind."""


@dataclass(frozen=True)
class Lock:
    """A lock file of a runtime, and the environment that is made of it."""

    name: str
    path: Path

    @cached_property
    def _text(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PipelineError(
                f"{self.path} cannot be read ({error}): take it from git anew (`git checkout {self.path.name}` in its "
                "folder), or compile it by `make lock`",
                code="lock-unreadable",
                file=str(self.path),
            ) from None

    @cached_property
    def sha256(self) -> str:
        """Digest of the file."""
        return files.combine([self._text])

    @cached_property
    def pythons(self) -> tuple[str, ...]:
        """Versions of Python that it holds for, the best first."""
        found = PYTHONS.match(self._text)
        if found is None:
            raise PipelineError(
                f"{self.path} does not begin with the versions of Python that it holds for: write `# Python 3.12` into "
                "its first line, or compile it anew by `make lock`",
                code="lock-python",
                file=str(self.path),
            )
        if "==" not in self._text:
            raise PipelineError(
                f"{self.path} pins nothing: take it from git anew (`git checkout {self.path.name}` in its folder), or "
                "compile it by `make lock`",
                code="lock-empty",
                file=str(self.path),
            )
        return tuple(found[1].split(", "))

    def versions(self, python: str) -> dict[str, str]:
        """What it pins for that Python (such as 3.12.1) on this platform, by distribution."""
        from packaging.markers import Marker

        own = {"python_full_version": python, "python_version": _minor(python)}
        pinned = PINNED.findall(self._text)
        return {name: version for name, version, marker in pinned if not marker or Marker(marker).evaluate(own)}

    @property
    def folder(self) -> Path:
        """Where its environment lies."""
        return place() / f"{self.name}-{self.sha256[:DIGEST_DIGITS]}"

    @property
    def interpreter(self) -> Path:
        """Its Python."""
        return self.folder / "bin/python"

    @property
    def made(self) -> Made | None:
        """How it was made; None if it is not there, or half-made, or its Python is gone."""
        with suppress(PipelineError, OSError):
            found = codec.read(Made, self.folder / STAMP)
            return found if found.lock == self.sha256 and os.access(self.interpreter, os.X_OK) else None
        return None


def place() -> Path:
    """The folder of all environments."""
    if named := os.environ.get(VARIABLE):
        return _whole(named)
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))  # whose standard says to ignore a relative one
    return (cache if cache.is_absolute() else _whole("~/.cache")) / "trt-pipeline/environments"


def _whole(name: str) -> Path:
    """A relative one would be another folder in each task of a cluster."""
    path = Path(os.path.expanduser(name))  # noqa: PTH111  # Path's own raises where there is no home
    if not path.is_absolute():
        raise PipelineError(
            f"{VARIABLE} is {name}: give it a whole path, such as /data/environments",
            code="environments-place",
            variable=VARIABLE,
        )
    return path


def lock(edition: str) -> Lock | None:
    """That of an edition of a runtime on this machine; None for one that runs in the pipeline's own environment."""
    runtime = runtime_of(edition)
    described = registry.description(runtime)
    usual = described.gpu_lock if gpu.present() else described.lock
    # One that is called as the runtime is for machines with a GPU alone has no other for those without.
    if usual is None and (edition == runtime or described.gpu_lock == runtime):
        return None
    name = (usual or runtime).replace(runtime, edition, 1)
    found = Lock(name, registry.folder(runtime) / "locks" / f"{name}.txt")
    if edition != runtime and not found.path.exists():
        raise NoLockError(
            f"{found.path.parent} has no {found.path.name}, which {edition} needs here: compile it by `make lock`, or "
            "leave its variants out",
            code="no-lock",
            edition=edition,
        )
    return found


def locks() -> list[tuple[str, Lock]]:
    """All that there are, each with its runtime, also those for machines that have a GPU where this one has none."""
    folders = [(runtime, registry.folder(runtime) / "locks") for runtime in registry.RUNTIMES]
    return [(runtime, Lock(path.stem, path)) for runtime, folder in folders for path in sorted(folder.glob("*.txt"))]


def measured(found: RuntimeEnvironment) -> Lock | None:
    """The lock that figures are of, which another machine may have chosen; None if that was the pipeline's own."""
    if found.lock is None:
        return None
    own = [one for runtime, one in locks() if runtime == runtime_of(found.runtime)]
    there = [one for one in own if one.sha256 == found.lock]
    if not there:
        raise PipelineError(
            f"no lock of {found.runtime} is the one that it was measured with: run `make repro`, which measures again",
            code="lock-changed",
            runtime=found.runtime,
        )
    return there[0]


def make(wanted: Lock) -> Made:
    """Make the environment if it is not there; PipelineError says why it cannot be, and nothing is left of it."""
    if made := wanted.made:
        return made
    try:
        with one_at_a_time(wanted.folder):
            return wanted.made or _make(wanted)  # another checkout may have made it meanwhile
    except (OSError, ImportError, subprocess.SubprocessError) as error:
        raise _failed(wanted, str(error)) from None


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Nobody else makes or removes that environment; says so while it waits."""
    import filelock

    folder.parent.mkdir(parents=True, exist_ok=True)
    held = filelock.FileLock(f"{folder}.lock")
    try:
        held.acquire(timeout=0)
    except filelock.Timeout:
        say(f"waiting for another run, which makes or removes {folder}")
        held.acquire()
    try:
        yield
    finally:
        held.release()


def clear(folder: Path) -> None:
    """Remove whatever has that name, its stamp first: half removed, it is not used."""
    (folder / STAMP).unlink(missing_ok=True) if folder.is_dir() else folder.unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)


def _make(wanted: Lock) -> Made:
    clear(wanted.folder)
    python = pythons.find(wanted.pythons, wanted.name)
    say(f"making the environment of {wanted.name} in {wanted.folder} (once for all checkouts)")
    try:
        _uv(wanted, "venv", "--no-project", "--python", python, wanted.folder)
        _uv(
            wanted,
            "pip",
            "sync",
            "--require-hashes",
            f"--build-constraints={BUILDERS}",
            "--compile-bytecode",
            "--python",
            wanted.interpreter,
            wanted.path,
        )
        made = Made(pythons.ask(wanted.interpreter, pythons.WHOLE), wanted.sha256)
        codec.write(made, wanted.folder / STAMP)
    except BaseException:
        shutil.rmtree(wanted.folder, ignore_errors=True)
        raise
    return made


def _uv(wanted: Lock, *arguments: str | Path) -> None:
    if why := installer.call(cleaned(), *arguments):
        raise _failed(wanted, why)


def cleaned() -> dict[str, str]:
    """Our variables, without those that are meant for the pipeline's own Python."""
    return {name: value for name, value in os.environ.items() if not OWN.fullmatch(name)}


def variables(runtime: str, own: Path, checkout: Path) -> dict[str, str]:
    """Of a worker with that Python, which finds this checkout, and a runtime that lies elsewhere."""
    package = registry.package(runtime)
    places = [str(checkout), str(registry.folder(runtime).parents[package.count(".")])]
    path = f"{own.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return cleaned() | {"PYTHONPATH": os.pathsep.join(places), "PATH": path}


def _failed(wanted: Lock, reason: str) -> PipelineError:
    return PipelineError(
        f"the environment of {wanted.name} could not be made of {wanted.path} ({reason}): {_mend(wanted, reason)}",
        code="environment-not-made",
        file=str(wanted.path),
    )


def _mend(wanted: Lock, reason: str) -> str:
    if not wanted.folder.parent.is_dir():
        return f"set {VARIABLE} to a folder that can be written"
    if "Hash mismatch" in reason or "hash digest" in reason:
        return f"take the lock from git anew (`git checkout {wanted.path.name}` in its folder)"
    full = "No space left" in reason or "quota" in reason
    hint = errors.disk_hint(OSError(0, "", str(wanted.folder.parent))) if full else ""
    return hint or "mend that, and run the same command again"


def _minor(python: str) -> str:
    return ".".join(python.split(".")[:2])


def interpreter(edition: str) -> Path | None:
    """The Python of its own environment, which is made if it is not there; None if it has none."""
    found = lock(edition)
    if found is None:
        return None
    make(found)
    return found.interpreter
