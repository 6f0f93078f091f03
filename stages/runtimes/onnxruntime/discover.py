"""ONNX Runtime runs on every CPU it installs on, but has INT8 layers there alone."""

from collections.abc import Collection

from ...contracts.environment import Discovery, Machine
from ..shared import distributions, gpu_requirements
from . import DESCRIPTION

# Either holds the same module.
CPU_WHEEL, GPU_WHEEL = "onnxruntime", "onnxruntime-gpu"
# Beside a wheel that is built for CUDA 12; later ones are for CUDA 13.
CUDA_12_WHEEL = "nvidia-cuda-runtime-cu12"


def discover(machine: Machine) -> Discovery:
    """The ONNX Runtime that is installed, for GPUs or for CPUs alone, and the library that writes its graphs."""
    versions = distributions.versions(GPU_WHEEL, CPU_WHEEL, "onnx")
    return Discovery(versions, {name: unavailable(name, machine, versions) for name in DESCRIPTION.precisions})


def unavailable(precision: str, machine: Machine, wheels: Collection[str]) -> str | None:
    """Why these wheels cannot run it; None: they can."""
    if not {CPU_WHEEL, GPU_WHEEL} & set(wheels):
        return "ONNX Runtime is not installed: `pip install onnxruntime`"
    if not machine.gpus or GPU_WHEEL not in wheels:
        return None
    if reason := gpu_requirements.too_old(machine.driver, *_cuda()):
        return reason
    if precision == "int8":
        return (
            "ONNX Runtime's CUDA provider has no QLinearConv and would compute in FP32 between Q/DQ pairs; the INT8 of "
            "a GPU is tensorrt-int8"
        )
    return None


def _cuda() -> tuple[str, str]:
    """The oldest driver of the CUDA that is installed, and its name."""
    if distributions.version(CUDA_12_WHEEL):
        return gpu_requirements.CUDA_12_DRIVER, "CUDA 12"
    return gpu_requirements.CUDA_13_DRIVER, "CUDA 13"
