"""Describe the machine that does the work, and fingerprint the user's own files: a change of either is noticed."""

import argparse
import ctypes
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

import pynvml

from stages.cluster import ray
from stages.contracts import paths
from stages.core import errors, files
from stages.core.cores import cores
from stages.core.gpu import driver, session
from stages.params import document
from stages.params.document import CUSTOM, ExecutionParams, Params
from stages.runtimes.shared.gpu_requirements import TENSORRT_WHEELS

# TF 2.14.1 opens TensorRT by these names, from the wheel's folder or the system's.
TENSORRT_LIBRARY = "libnvinfer.so.8"


def describe_machine(threads: int | None) -> dict[str, Any]:
    """All that results depend on, and nothing that changes by itself: no time, no clocks, no free memory."""
    driver, gpus, gpu_missing = _nvidia()
    return {
        "gpus": gpus,
        "gpu_missing": gpu_missing,
        "driver": driver,
        "cuda": _wheel("nvidia-cuda-runtime-cu11"),
        "cudnn": _wheel("nvidia-cudnn-cu11"),
        "tensorrt": _tensorrt(),
        "tensorflow": {"version": _wheel("tensorflow"), **_tensorflow_build()},
        "tensorrt_python": _tensorrt_python() if gpus else None,  # without a GPU nothing depends on it
        "cuda_python": _wheel("cuda-bindings"),
        "litert": _wheel("ai-edge-litert"),
        "onnxruntime": _wheel("onnxruntime-gpu") or _wheel("onnxruntime"),
        "onnxruntime_gpu": _wheel("onnxruntime-gpu") is not None,
        "cpu": _cpu_model(),
        "cores": cores(),
        "threads": threads or cores(),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "platform": f"{platform.system()} {platform.machine()}",
    }


def _nvidia() -> tuple[str | None, list[dict[str, Any]], str | None]:
    """Driver version, GPUs, and why there are none."""
    try:
        with session() as gpus:
            hidden = "CUDA_VISIBLE_DEVICES hides every device" if "CUDA_VISIBLE_DEVICES" in os.environ else None
            missing = None if gpus else hidden or "its driver lists no device that answers"
            return driver(), [gpu.describe() for gpu in gpus], missing
    except pynvml.NVMLError as error:
        return None, [], f"its driver does not answer: {error}"


def _wheel(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _tensorflow_build() -> dict[str, Any]:
    """CUDA and TensorRT support, from the build record in TensorFlow's folder: importing it would take seconds."""
    found = importlib.util.find_spec("tensorflow")
    record = Path(found.origin or "").parent / "python/platform/build_info.py" if found else Path()
    text = record.read_text(encoding="utf-8") if record.is_file() else ""
    version = re.search(r"'cuda_version', '([\d.]+)'", text)
    return {
        "built_with_tensorrt": "'is_tensorrt_build', True" in text,
        "built_for_cuda": version and version[1],
    }


def _tensorrt() -> dict[str, Any]:
    """TensorRT that TensorFlow's extra requires of pip, and the one that loads here."""
    required = next(filter(None, (re.match(r"tensorrt\s*\(?==([\d.]+)", line) for line in _requirements())), None)
    folder = importlib.util.find_spec("tensorrt")
    places = [Path(place) / TENSORRT_LIBRARY for place in (folder.submodule_search_locations or [] if folder else [])]
    loaded, missing = None, None
    for name in [*(str(place) for place in places if place.exists()), TENSORRT_LIBRARY]:
        try:
            number = ctypes.CDLL(name).getInferLibVersion()
            loaded = f"{number // 1000}.{number // 100 % 10}.{number % 100}"
            break
        except OSError as error:
            missing = missing or str(error)  # that of the wheel, if there is one, says more than that of the system
    return {"required": required and required[1], "loaded": loaded, "missing": None if loaded else missing}


def _tensorrt_python() -> dict[str, Any] | None:
    """The TensorRT that Python can import, whose engines need no TensorFlow.

    TensorRT-RTX without CUDA's bindings is here for the tests.
    """
    names = [name for name in TENSORRT_WHEELS if "rtx" not in name or _wheel("cuda-bindings")]
    found = ((name, _wheel(name)) for name in names)
    return next(({"version": version, "rtx": "rtx" in name} for name, version in found if version), None)


def _requirements() -> list[str]:
    try:
        return importlib.metadata.requires("tensorflow") or []
    except importlib.metadata.PackageNotFoundError:
        return []


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.*)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return found[1] if found else platform.processor()


def describe_cluster(setting: ExecutionParams, threads: int | None) -> dict[str, dict[str, Any]]:
    """A machine of each GPU model of the cluster, the home model first."""
    with ray.joined(setting) as parts:
        tasks = {name: nodes.start(describe_machine, threads) for name, nodes in parts.items()}
        return {name: parts[name].result(task) for name, task in tasks.items()}


def fingerprint(setting: Params, checkout: Path) -> dict[str, str | None]:
    """Digest of names, sizes and modification times of every local file or folder that params.yaml names.

    As `make` does, it trusts the clock of the file system: reading 50,000 images at every start would take minutes.
    """
    own = setting.model.name == CUSTOM
    named = {
        "weights": setting.model.weights,
        "path": setting.model.path,
        # Where the names of a user's classes come from.
        "labels": setting.custom.labels or setting.split.source or setting.evaluation.source if own else None,
        "split": setting.split.source,
        "train": setting.image_sources().get("train"),
        "qat": setting.train.source if setting.asks_qat else None,
        "evaluation": setting.evaluation.source,
        "calibration": setting.calibration.source,
    }
    return {key: source and _stat_digest(source, checkout) for key, source in named.items()}


def _stat_digest(source: str, checkout: Path) -> str:
    path = paths.resolve(source, checkout)
    if not path.exists():
        return "not a local file"
    found = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for item in found:
        state = item.stat()
        digest.update(f"{item.relative_to(path)} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def main() -> None:
    """Read params, look around, and write environment.json, gpu_models.json and sources.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, default=Path(), help="where relative paths of params.yaml start")
    arguments = parser.parse_args()
    setting = document.load()
    sources = fingerprint(setting, arguments.checkout)
    threads = setting.benchmark.threads
    machines = describe_cluster(setting.execution, threads) if setting.execution.engine == "ray" else {}
    home = next(iter(machines), None)
    files.write_json(paths.SOURCES, sources)
    files.write_json(paths.ENVIRONMENT, machines.pop(home) if home else describe_machine(threads))
    files.write_json(paths.GPU_MODELS, {"home": home, "others": machines})


if __name__ == "__main__":
    errors.run(main)
