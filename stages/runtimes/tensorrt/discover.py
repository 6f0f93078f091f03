"""Which TensorRT Python can import, and whether it has kernels for this GPU."""

from collections.abc import Iterator
from typing import NamedTuple

from ...contracts.environment import Discovery, Gpu, Machine
from ..shared import distributions, gpu_requirements
from ..shared.tensorrt_wheels import CUDA_BINDINGS, Installed, installed
from . import DESCRIPTION


class Kind(NamedTuple):
    """A TensorRT that engines may be built with: what it needs (NVIDIA's support matrices), and whose lock has it."""

    driver: str
    oldest: float
    newest: float
    without: tuple[float, ...]
    edition: str

    def has_kernels(self, gpu: Gpu) -> bool:
        """Whether it can build for that GPU."""
        capability = gpu_requirements.capability(gpu)
        return self.oldest <= capability <= self.newest and capability not in self.without


# TensorRT-RTX leaves out Hopper's and Blackwell's data centre GPUs (its bindings' ComputeCapability).
KINDS = {
    "8": Kind(gpu_requirements.CUDA_11_DRIVER, 5.0, 9.0, (), "tensorrt"),
    "10": Kind(gpu_requirements.CUDA_12_DRIVER, 7.5, 12.1, (), "tensorrt_10"),
    "11": Kind(gpu_requirements.CUDA_12_DRIVER, 7.5, 12.1, (), "tensorrt_11"),
    "rtx": Kind(gpu_requirements.CUDA_13_DRIVER, 7.5, 12.1, (9.0, 10.0, 10.3), "tensorrt_rtx"),
}
OLDEST_OF_8 = (8, 5)


def discover(machine: Machine) -> Discovery:
    """Versions of TensorRT and CUDA's bindings where there is a GPU to use them, and of what writes the INT8 graph."""
    if reason := gpu_requirements.no_gpu(machine):
        return Discovery({}, dict.fromkeys(DESCRIPTION.precisions, reason))
    native = installed()
    wheels = [native.wheel] if native else []
    versions = distributions.versions(*wheels, CUDA_BINDINGS, "onnx", "onnxruntime-gpu", "onnxruntime")
    return Discovery(versions, {name: unavailable(name, machine, native) for name in DESCRIPTION.precisions})


def unavailable(precision: str, machine: Machine, native: Installed | None) -> str | None:
    """The first thing that is missing; which GPU will do depends on the TensorRT that is installed."""
    return next(_reasons(precision, machine, native), None)


def _reasons(precision: str, machine: Machine, native: Installed | None) -> Iterator[str]:
    if native is None:
        yield "TensorRT's Python module is not installed: `.venv/bin/python -m stages env check` lists what is missing"
        return
    if not distributions.version(CUDA_BINDINGS):
        yield "CUDA's Python bindings are not installed: `pip install cuda-bindings`, in the version of this CUDA"
    kind = KINDS.get("rtx" if native.is_rtx else native.version.partition(".")[0])
    if kind is None or (kind is KINDS["8"] and gpu_requirements.numbers(native.version) < OLDEST_OF_8):
        yield f"{native.name} is none of those that were tried: 8.5, 10, 11 and TensorRT-RTX"
        return
    if reason := gpu_requirements.too_old(machine.driver, kind.driver, native.name):
        yield reason
    gpu = machine.gpus[0]
    if not kind.has_kernels(gpu):
        yield f"{native.name} has no kernels for {gpu_requirements.described(gpu)}{_remedy(precision, gpu)}"
    if reason := gpu_requirements.no_units(precision, gpu):
        yield reason


def _remedy(precision: str, gpu: Gpu) -> str:
    """Which variants' TensorRT has kernels for it, if any has."""
    variants = [f"`{kind.edition}-{precision}`" for kind in KINDS.values() if kind.has_kernels(gpu)]
    return f": list {' or '.join(variants)} in `variants`" if variants else ""
