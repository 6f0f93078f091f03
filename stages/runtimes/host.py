"""What this machine has, and what each runtime finds on it; imports no framework."""

import os
import platform
from collections.abc import Iterable

import pynvml

from ..contracts.environment import (
    CpuSettings,
    Discovery,
    Environment,
    Gpu,
    Machine,
    RuntimeEnvironment,
)
from ..contracts.variant import Variant, runtime_of
from ..core import cgroup
from ..core import gpu as nvml
from ..core.cores import cores
from ..core.errors import reason
from ..core.variables import speed_variables
from . import cpu, elsewhere, environments, registry
from .pythons import NoInterpreterError
from .shared import distributions

# Of the pipeline itself: what decodes, saves and exports.
BASE = (*distributions.WHEELS, "keras", "numpy", "pillow", "onnx", "tf2onnx")


def describe(threads: int | None, variants: Iterable[str] | None = None) -> Environment:
    """All that results depend on, and nothing that changes by itself: no time, no clocks, no free memory.

    Environments of runtimes are made of which there are `variants` (None: the usual one of each).
    """
    machine = describe_machine(threads)
    usual = list(registry.RUNTIMES)
    needed = usual if variants is None else [Variant.parse(name).edition for name in variants]
    runtimes = tuple(_runtime(name, machine, name in needed) for name in dict.fromkeys([*usual, *needed]))
    return Environment(machine, distributions.versions(*BASE), runtimes, settings())


def settings() -> CpuSettings:
    """What sets the speed of the CPUs, and may be another tomorrow."""
    return CpuSettings(cpu.governor(), cgroup.quota_cpus(), speed_variables(os.environ))


def describe_machine(threads: int | None) -> Machine:
    """The hardware, with the number of CPU threads that runtimes get (None: all cores)."""
    driver, gpus, gpu_missing = _nvidia()
    return Machine(
        cpu=cpu.name(),
        cores=cores(),
        threads=threads or cores(),
        platform=f"{platform.system()} {platform.machine()}",
        driver=driver,
        gpus=gpus,
        gpu_missing=gpu_missing,
        identity=cpu.describe(),
    )


def _runtime(edition: str, machine: Machine, needed: bool) -> RuntimeEnvironment:
    name, failed = runtime_of(edition), None
    python, lock = distributions.python(), None
    try:
        if (own := environments.lock(edition)) is None:
            found: Discovery = registry.module(name, "discover").discover(machine)
        elif needed:
            lock = own.sha256
            python, found = elsewhere.discover(edition, own, machine)
        else:
            found = _nothing(name, "no variant of it is listed, so that its environment is not made")
    except (NoInterpreterError, environments.NoLockError) as error:
        found = _nothing(name, str(error))
    except Exception as error:  # a broken installation of one costs its own variants
        found, failed = _nothing(name, None), reason(error)
    starts_from = registry.description(name).starts_from
    return RuntimeEnvironment(edition, python, found.versions, found.unavailable, starts_from, failed, lock)


def _nothing(name: str, why: str | None) -> Discovery:
    return Discovery({}, dict.fromkeys(registry.description(name).precisions, why))


def _nvidia() -> tuple[str | None, tuple[Gpu, ...], str | None]:
    """Driver version, GPUs, and why there are none."""
    try:
        with nvml.session() as gpus:
            hidden = "CUDA_VISIBLE_DEVICES hides every device" if "CUDA_VISIBLE_DEVICES" in os.environ else None
            missing = None if gpus else hidden or "its driver lists no device that answers"
            return nvml.driver(), tuple(Gpu(*gpu.describe()) for gpu in gpus), missing
    except pynvml.NVMLError as error:
        return None, (), f"its driver does not answer: {error}"
