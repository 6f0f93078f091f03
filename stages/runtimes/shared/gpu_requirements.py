"""What GPUs can compute, by NVIDIA's support matrices: for sentences that say why a variant is skipped."""

import re

from ...contracts.environment import Gpu, Machine

# Before 7.0, where all GPUs have it, these have fast FP16 (NVIDIA's support matrix of TensorRT 8.5).
FAST_FP16 = (5.3, 6.0, 6.2)
# INT8 needs the instruction DP4A, which came with 6.1 (PTX ISA, "dp4a"); 6.2 has no INT8 in the same matrix.
FIRST_INT8, NO_INT8 = 6.1, 6.2

# CUDA runs on drivers from these on (NVIDIA's table of CUDA minor version compatibility).
CUDA_11_DRIVER, CUDA_12_DRIVER, CUDA_13_DRIVER = "450.80.02", "525.60.13", "580"


def numbers(version: str) -> tuple[int, ...]:
    """The numbers in a version, to compare it with another."""
    return tuple(int(number) for number in re.findall(r"\d+", version))


def no_gpu(machine: Machine) -> str | None:
    """Why there is no NVIDIA GPU; None: there is one."""
    return None if machine.gpus else f"no NVIDIA GPU ({machine.gpu_missing})"


def too_old(driver: str | None, oldest: str, name: str) -> str | None:
    """Why the library of that name does not run on this driver; None: it does."""
    if numbers(driver or "0") >= numbers(oldest):
        return None
    return f"the NVIDIA driver {driver} is too old for {name}: install {oldest} or newer"


def capability(gpu: Gpu) -> float:
    """The compute capability as a number."""
    return float(gpu.compute_capability)


def described(gpu: Gpu) -> str:
    """The GPU in a sentence."""
    return f"{gpu.name} (compute capability {capability(gpu)})"


def no_units(precision: str, gpu: Gpu) -> str | None:
    """Which fast units that precision would need and this GPU lacks; None: it has them."""
    if precision == "int8" and (capability(gpu) < FIRST_INT8 or capability(gpu) == NO_INT8):
        return f"{described(gpu)} has no INT8 units"
    if precision == "fp16" and capability(gpu) < 7 and capability(gpu) not in FAST_FP16:
        return f"{described(gpu)} has no fast FP16 units"
    return None
