"""Which distributions are installed here, by their metadata: nothing is imported."""

import importlib.metadata
import sys
from contextlib import suppress

# The wheels that hold TensorFlow, of which one is installed; with the CUDA that the extra of one brings.
WHEELS = ("tensorflow", "tensorflow-cpu")
TENSORFLOW = (
    *WHEELS,
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
