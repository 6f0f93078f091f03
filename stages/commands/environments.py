"""`trt-pipeline env`: the environments of runtimes, which lie in one place for all checkouts."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from packaging.utils import canonicalize_name

from stages.core import files
from stages.core.errors import PipelineError
from stages.core.shown import say
from stages.runtimes import environments, pythons
from stages.runtimes.environments import Lock

MB = 1e6
# How an environment's folder is called, whichever lock it is of.
FOLDER = re.compile(rf"[\w.-]+-[0-9a-f]{{{environments.DIGEST_DIGITS}}}")
INSTALLED = "import importlib.metadata as m\nfor d in m.distributions(): print(d.metadata['Name'], d.version)"


def answer(work: str, name: str) -> int:
    """Do it; the exit status is 1 if a check finds an environment that is not what its lock says."""
    if work == "list":
        listed()
    elif work == "make":
        environments.make(_lock(name))
    elif work == "remove":
        remove(name)
    else:
        return checked()
    return 0


def listed() -> None:
    """A line for each lock of a runtime, and one for each environment that no lock here stands for."""
    for runtime, lock in environments.locks():
        say(f"{lock.name}: {_state(runtime, lock)} ({lock.folder})")
    for folder in _others():
        say(f"{folder.name}: of another version of this project, {_megabytes(folder)} ({folder})")


def _state(runtime: str, lock: Lock) -> str:
    made = lock.made
    if made is None:
        return "not made"
    facts = [f"Python {made.python}", _megabytes(lock.folder)]
    # TF-TRT is a part of TensorFlow, and so is what runs SavedModels.
    own = [item for item in lock.versions(made.python).items() if item[0].startswith((runtime, "tensorflow"))]
    return ", ".join([*facts, *(f"{name} {version}" for name, version in own[:1])])


def remove(name: str) -> None:
    """All environments of that name, or the one folder of that name."""
    wanted = [folder for folder in _folders() if name in (folder.name, folder.name.rpartition("-")[0])]
    if not wanted:
        there = ", ".join(folder.name for folder in _folders())
        raise PipelineError(
            f"there is no environment {name} in {environments.place()}"
            + (f": name one of {there}" if there else ", and none to remove"),
            code="unknown-environment",
            name=name,
        )
    for folder in wanted:
        with environments.one_at_a_time(folder):
            environments.clear(folder)
        say(f"removed {folder}")


def checked() -> int:
    """Say of each that is made whether it has what its lock pins; 1 if one has not."""
    status = 0
    for _, lock in environments.locks():
        if (made := lock.made) is None:
            say(f"{lock.name}: not made")
        elif differing := _differing(lock, made.python):
            say(f"{lock.name}: {differing}: remove it by `python -m stages env remove {lock.name}`")
            status = 1
        else:
            say(f"{lock.name}: as its lock says")
    return status


def _differing(lock: Lock, python: str) -> str:
    try:
        told = pythons.ask(lock.interpreter, INSTALLED)
    except (OSError, subprocess.SubprocessError):
        return "its Python does not run"
    lines = (line.partition(" ") for line in told.splitlines())
    found = {canonicalize_name(name): version for name, _, version in lines}
    pinned = {canonicalize_name(name): version for name, version in lock.versions(python).items()}
    strange = [f"{name} {version}" for name, version in found.items() if pinned.get(name) != version]
    faults = [f"it has {', '.join(strange)}, which its lock does not pin"] if strange else []
    missing = sorted(pinned.keys() - found.keys())
    return "; ".join([*faults, f"it lacks {', '.join(missing)}"] if missing else faults)


def _lock(name: str) -> Lock:
    known = {lock.name: lock for _, lock in environments.locks()}
    if name not in known:
        raise PipelineError(
            f"no runtime has a lock {name}: name one of {', '.join(known)}", code="unknown-environment", name=name
        )
    return known[name]


def _folders() -> list[Path]:
    """Those that were made, half-made ones too; whatever else lies there is not ours."""
    place = environments.place()
    return sorted(path for path in place.iterdir() if _is_made(path)) if place.is_dir() else []


def _is_made(path: Path) -> bool:
    marked = any((path / name).is_file() for name in (environments.STAMP, "pyvenv.cfg"))
    return bool(FOLDER.fullmatch(path.name)) and marked and not path.is_symlink()


def _others() -> Iterator[Path]:
    known = {lock.folder for _, lock in environments.locks()}
    yield from (folder for folder in _folders() if folder not in known)


def _megabytes(folder: Path) -> str:
    return f"{sum(files.sizes(folder).values()) / MB:.0f} MB"
