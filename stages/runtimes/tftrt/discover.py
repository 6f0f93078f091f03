"""Which TensorFlow and which TensorRT library TF-TRT would use, read from files and by dlopen."""

import ctypes
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from ...contracts.environment import Discovery, Machine
from ..shared import distributions, gpu_requirements
from . import DESCRIPTION

# TensorFlow 2.14.1 opens TensorRT by these names, from the wheel's folder or the system's.
LIBRARY = "libnvinfer.so.8"
# The newest GPUs that TensorRT 8 has kernels for: Hopper.
NEWEST_CAPABILITY = 9.0
LAST_TENSORFLOW = (2, 17)


@dataclass(frozen=True)
class Library:
    """The version of TensorRT's library, or why it does not load."""

    version: str | None
    missing: str | None = None


def discover(machine: Machine) -> Discovery:
    """Versions of TensorFlow and its CUDA, and of the library as `tensorrt` where there is a GPU to use it."""
    versions = distributions.versions(*distributions.TENSORFLOW)
    library = load_library() if machine.gpus else Library(None)
    known = versions | ({"tensorrt": library.version} if library.version else {})
    missing = no_tensorrt(versions.get("tensorflow"), library) if machine.gpus else None
    return Discovery(known, {name: unsuited(name, machine) or missing for name in DESCRIPTION.precisions})


def unsuited(precision: str, machine: Machine) -> str | None:
    """Why no TF-TRT would run on this hardware; None: it would."""
    if reason := gpu_requirements.no_gpu(machine):
        return reason
    if reason := gpu_requirements.too_old(machine.driver, gpu_requirements.CUDA_11_DRIVER, "CUDA 11"):
        return reason
    gpu = machine.gpus[0]
    if gpu_requirements.capability(gpu) > NEWEST_CAPABILITY:
        return f"{gpu_requirements.described(gpu)} is newer than TensorRT 8, whose last is {NEWEST_CAPABILITY}"
    return gpu_requirements.no_units(precision, gpu)


def no_tensorrt(tensorflow: str | None, library: Library) -> str | None:
    """Which library is missing or of another version than TF-TRT needs; None: none is."""
    if gpu_requirements.numbers(tensorflow or "0")[:2] > LAST_TENSORFLOW:
        return f"TensorFlow {tensorflow} has no TF-TRT, which left with 2.18: pin an older one in locks/tftrt.in"
    if not built_with_tensorrt():
        return "this TensorFlow was built without TensorRT: that for Linux on x86-64 has it"
    if library.version is None:
        return f"the TensorRT library does not load: {library.missing}"
    return None


def built_with_tensorrt() -> bool:
    """By the build record in TensorFlow's folder: importing it would take seconds."""
    spec = importlib.util.find_spec("tensorflow")
    record = Path(spec.origin or "").parent / "python/platform/build_info.py" if spec else Path()
    return record.is_file() and "'is_tensorrt_build', True" in record.read_text(encoding="utf-8")


def load_library() -> Library:
    """The library that TensorFlow would open here."""
    errors = []
    for name in _library_paths():
        try:
            number = ctypes.CDLL(name).getInferLibVersion()
            return Library(f"{number // 1000}.{number // 100 % 10}.{number % 100}")
        except OSError as error:
            errors.append(str(error))
    return Library(None, errors[0])  # that of the wheel, if there is one, says more than that of the system


def _library_paths() -> list[str]:
    spec = importlib.util.find_spec("tensorrt")
    folders = (spec.submodule_search_locations or []) if spec else []
    paths = [Path(folder) / LIBRARY for folder in folders]
    return [*(str(path) for path in paths if path.exists()), LIBRARY]
