"""What travels with a champion: its data, the code that answers with it, and the names of what it needs installed.

Every module that travels imports the others relatively, so that a plain copy works under any package name.
"""

import platform
import shutil
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

from stages.contracts import codec, conversion, labels
from stages.contracts.environment import RuntimeEnvironment
from stages.contracts.variant import runtime_of
from stages.core import closure, files
from stages.core.errors import PipelineError
from stages.runtimes import environments, registry
from stages.serving.setting import LABELS, MODEL, SETTING, Setting

# The module that MLflow loads, and what every runtime must find installed.
SERVED = "serving.pyfunc"
REQUIRED = ("mlflow", "msgspec", "numpy", "pandas", "pillow")
DIGEST_DIGITS = 16
# Beside the model's own requirements.txt, which has the few that it imports.
LOCK = "requirements.lock.txt"


def write_code(runtime: str, target: Path) -> str:
    """Copy what answers with that runtime into a package of its own below `target`; returns the package's name.

    It is one that no other version's code has: two versions may be loaded by one process, as may another package
    called `stages`.
    """
    package = registry.package(runtime)
    if not package.startswith(f"{closure.PACKAGE}."):
        raise PipelineError(
            f"{runtime} lies outside this checkout, in the package {package}, from where a served model takes no code: "
            f"move its folder to stages/runtimes/{runtime}",
            code="runtime-elsewhere",
            runtime=runtime,
        )
    modules = (f"{closure.PACKAGE}.{SERVED}", f"{package}.session")
    paths = closure.Imports().files(*modules)
    contents = files.combine([f"{path} {files.sha256(closure.ROOT / path)}" for path in paths])
    name = f"{closure.PACKAGE}_{contents[:DIGEST_DIGITS]}"
    for path in paths:
        copy = target / name / path.relative_to(closure.PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(closure.ROOT / path, copy)
    return name


def loader(package: str) -> str:
    """The module of that package that MLflow loads."""
    return f"{package}.{SERVED}"


def write_data(variant: str, setting: Setting, target: Path) -> None:
    """The variant's files, the names of its classes, and how images become its input."""
    shutil.copytree(conversion.folder(variant), target / MODEL)
    shutil.copyfile(labels.LABELS, target / LABELS)
    codec.write(setting, target / SETTING)


def requirements(found: RuntimeEnvironment) -> list[str]:
    """What a model of that edition of a runtime needs, each at the version that it was measured with."""
    pinned = lock.versions(python(found)) if (lock := environments.measured(found)) else None
    ways = registry.description(runtime_of(found.runtime)).requires
    there = [way for way in ways if all(_version(name, pinned) for name in way)]
    names = (*REQUIRED, *(there or ways)[0])
    return [f"{name}=={_version(name, pinned) or installed(_distribution(name))}" for name in names]


def python(found: RuntimeEnvironment) -> str:
    """The version that it was measured with, to the last number where its environment is on this machine."""
    lock = environments.measured(found)
    if lock is None:
        return platform.python_version()
    return lock.made.python if lock.made else found.python


def write_lock(found: RuntimeEnvironment, target: Path) -> None:
    """Copy the lock of the environment that it was measured in, if that was one of its own."""
    if lock := environments.measured(found):
        shutil.copyfile(lock.path, target / LOCK)


def _version(name: str, pinned: Mapping[str, str] | None) -> str | None:
    if pinned is not None:
        return pinned.get(_distribution(name))
    with suppress(PackageNotFoundError):
        return installed(_distribution(name))
    return None


def _distribution(name: str) -> str:
    """Without its extras."""
    return name.partition("[")[0]
