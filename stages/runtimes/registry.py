"""Which runtimes there are: a line each, with the package that holds it."""

import importlib
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType

from ..contracts.variant import Variant, runtime_of
from ..core.errors import PipelineError
from .description import Description

RUNTIMES = {
    "savedmodel": ".savedmodel",
    "tftrt": ".tftrt",
    "tflite": ".tflite",
    "onnxruntime": ".onnxruntime",
    "tensorrt": ".tensorrt",
}


def module(runtime: str, part: str = "") -> ModuleType:
    """A module of that runtime's folder, or the folder's own, imported now; PipelineError where it is not there."""
    name = resolve_name(RUNTIMES[runtime], __package__) + (f".{part}" if part else "")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not error.name or not f"{name}.".startswith(f"{error.name}."):
            raise  # of a library that it imports
        raise PipelineError(
            f"stages/runtimes/registry.py has the runtime {runtime}, and Python finds no {error.name}: put the folder "
            "that holds it on PYTHONPATH, add the missing module, or remove the entry",
            code="runtime-missing",
            runtime=runtime,
        ) from None


def package(runtime: str) -> str:
    """The dotted name of the runtime's package."""
    return module(runtime).__name__


def folder(runtime: str) -> Path:
    """Where its files lie."""
    return Path(str(module(runtime).__file__)).parent


@cache
def description(runtime: str) -> Description:
    """What that runtime tells of itself."""
    found = getattr(module(runtime), "DESCRIPTION", None)
    if not isinstance(found, Description):
        raise PipelineError(
            f"{package(runtime)} of the runtime {runtime} has no DESCRIPTION: add one to its __init__.py, as "
            "docs/how-to/add-a-runtime.md shows, or remove its entry from stages/runtimes/registry.py",
            code="runtime-undescribed",
            runtime=runtime,
        )
    return found


def editions() -> tuple[str, ...]:
    """All that a variant's name may begin with: every runtime, and beside it what else its folder `locks` has."""
    return tuple(edition for runtime in RUNTIMES for edition in (runtime, *_more(runtime)))


def _more(runtime: str) -> list[str]:
    """A lock's name ends with `-gpu` if there is one of that version for CPUs too."""
    locks = (folder(runtime) / "locks").glob(f"{runtime}_*.txt")
    return sorted({path.stem.partition("-")[0] for path in locks})


def valid() -> tuple[str, ...]:
    """Names of all variants there are."""
    return tuple(
        name.replace(runtime, edition, 1)
        for edition in editions()
        for runtime in [runtime_of(edition)]
        for name in description(runtime).variants
    )


def takes_onnx(name: str) -> bool:
    """Whether that variant starts from the ONNX file of `to_onnx`: training for INT8 makes its own."""
    variant = Variant.parse(name)
    return not variant.qat and description(variant.runtime).starts_from == "onnx"


def known(name: str) -> Variant:
    """The variant of that name; ValueError lists the valid ones, or where its runtime has no such lock, those."""
    if name in valid():
        return Variant.parse(name)
    edition = name.partition("-")[0]
    runtime = runtime_of(edition)
    if runtime in RUNTIMES and edition not in editions():
        there = ", ".join([runtime, *_more(runtime)])
        raise ValueError(f"unknown variant {name!r}: {runtime} has no lock {edition}; those there are: {there}")
    raise ValueError(f"unknown variant {name!r}; valid variants are {', '.join(valid())}")
