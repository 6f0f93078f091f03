"""Which runtimes there are: a line each, with the package that holds it."""

import importlib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import cast

from ..contracts.variant import Variant
from .description import Description

RUNTIMES = {
    "savedmodel": ".savedmodel",
    "tftrt": ".tftrt",
    "tflite": ".tflite",
    "onnxruntime": ".onnxruntime",
    "tensorrt": ".tensorrt",
}


def module(runtime: str, part: str = "") -> ModuleType:
    """A module of that runtime's folder, or the folder's own, imported now."""
    return importlib.import_module(RUNTIMES[runtime] + (f".{part}" if part else ""), __package__)


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
