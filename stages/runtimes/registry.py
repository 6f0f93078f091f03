"""Which runtimes there are: a line each, with the package that holds it."""

import importlib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import cast

from ..contracts.variant import Variant
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
    """A module of that runtime's folder, or the folder's own, imported now; PipelineError where the folder is not."""
    name = RUNTIMES[runtime]
    try:
        return importlib.import_module(name + (f".{part}" if part else ""), __package__)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise PipelineError(
            f"stages/runtimes/registry.py has the runtime {runtime} in the package {name}, which Python does not find: "
            "put the folder that holds it on PYTHONPATH, or remove the entry",
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
    return cast(Description, module(runtime).DESCRIPTION)


def valid() -> tuple[str, ...]:
    """Names of all variants there are."""
    return tuple(name for runtime in RUNTIMES for name in description(runtime).variants)


def known(name: str) -> Variant:
    """The variant of that name; ValueError lists the valid ones."""
    if name not in valid():
        raise ValueError(f"unknown variant {name!r}; valid variants are {', '.join(valid())}")
    return Variant.parse(name)
