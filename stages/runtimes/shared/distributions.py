"""Which distributions are installed here, by their metadata: nothing is imported."""

import importlib.metadata
import sys
from contextlib import suppress

# TensorFlow, as it may be called, and the CUDA that its extra brings.
TENSORFLOW = (
    "tensorflow",
    "tensorflow-cpu",
    "nvidia-cuda-runtime-cu11",
    "nvidia-cudnn-cu11",
    "nvidia-cuda-runtime-cu12",
    "nvidia-cudnn-cu12",
)


def version(name: str) -> str | None:
    """Of the distribution; None where it is not installed."""
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return None


def versions(*names: str) -> dict[str, str]:
    """Of those that are installed, by name."""
    return {name: installed for name in names if (installed := version(name))}


def python() -> str:
    """Version of this interpreter, such as 3.10."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"
