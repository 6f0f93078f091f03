"""reports/environment.json: the machine, and what each runtime says of itself on it; nothing that changes by itself."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from ..core.errors import PipelineError
from .variant import Variant

ENVIRONMENT = Path("reports/environment.json")
FINGERPRINTS = Path("reports/fingerprints.json")
GPU_MODELS = Path("reports/gpu_models.json")
SOURCES = Path("reports/sources.json")
# By GPU model the records of those nodes, each below a folder that stands for the checkout.
OTHER_GPUS = Path("reports/other_gpus")


@dataclass(frozen=True)
class Gpu:
    """What never changes of a GPU; its driver may keep the memory to itself."""

    name: str
    compute_capability: str
    memory_bytes: int | None


@dataclass(frozen=True)
class CpuIdentity:
    """What tells two CPUs of one name apart: numbers of their maker, arithmetic of the features, bytes by cache.

    `hypervisor` is None on a machine that is none's guest.
    """

    vendor: str | None
    family: str | None
    model: str | None
    stepping: str | None
    microcode: str | None
    features: tuple[str, ...]
    caches_bytes: dict[str, int]
    hypervisor: str | None


@dataclass(frozen=True)
class CpuSettings:
    """What sets the speed of the same CPUs: the governor of their clocks, a quota of a container in CPUs, and the
    variables by which libraries set their threads and kernels. A value that may be a secret is not recorded.
    """

    governor: str | None = None
    quota_cpus: float | None = None
    variables: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Machine:
    """The hardware and its driver; `gpu_missing` says why there is no GPU."""

    cpu: str
    cores: int
    threads: int
    platform: str
    driver: str | None
    gpus: tuple[Gpu, ...]
    gpu_missing: str | None
    # None where the system does not tell.
    identity: CpuIdentity | None = None

    @property
    def name(self) -> str:
        """What the model ran on, in a few words: the first GPU, which is the one that is used."""
        return self.gpus[0].name if self.gpus else f"{self.cpu}, {self.threads} threads"


@dataclass(frozen=True)
class Discovery:
    """What a runtime finds on a machine: versions of what it uses, and by precision why it cannot run; None: it can."""

    versions: dict[str, str]
    unavailable: dict[str, str | None]


@dataclass(frozen=True)
class RuntimeEnvironment:
    """One edition of a runtime on one machine, with the Python that it runs in."""

    # Such as onnxruntime, or onnxruntime_1_23 by another of its locks.
    runtime: str
    python: str
    versions: dict[str, str]
    unavailable: dict[str, str | None]
    # From which file of the model it converts.
    starts_from: Literal["saved_model", "onnx"] = "saved_model"
    # Why it could not be asked, where that is a failure; all else is then unknown.
    failed: str | None = None
    # Digest of the lock file that its own environment is made of; None: it runs in the pipeline's.
    lock: str | None = None


@dataclass(frozen=True)
class Environment:
    """All that results depend on; `base` holds the versions of the pipeline's own libraries."""

    SCHEMA: ClassVar[int] = 1

    machine: Machine
    base: dict[str, str]
    runtimes: tuple[RuntimeEnvironment, ...]
    settings: CpuSettings = CpuSettings()

    def unavailable(self, variant: Variant) -> str | None:
        """Why a variant cannot run here; PipelineError for one that no runtime makes."""
        reasons = {f"{one.runtime}-{name}": why for one in self.runtimes for name, why in one.unavailable.items()}
        name = f"{variant.edition}-{variant.precision}"
        if name not in reasons:
            raise PipelineError(
                f"no runtime makes {name}: name one of {', '.join(reasons)}", code="unknown-variant", variant=name
            )
        return reasons[name]

    def runtime(self, name: str) -> RuntimeEnvironment:
        """What one edition of a runtime says of itself; KeyError for one that was not asked."""
        return {found.runtime: found for found in self.runtimes}[name]


@dataclass(frozen=True)
class Fingerprints:
    """Digests of all that a runtime brings, which DVC compares key by key; those of the timings are one."""

    SCHEMA: ClassVar[int] = 1

    convert: dict[str, str]
    predict: dict[str, str]
    time: str
    # Whether a variant starts from the ONNX file that `to_onnx` makes.
    onnx: bool = True


@dataclass(frozen=True)
class GpuModels:
    """The GPU models of a cluster by Ray's names: that of environment.json, and what the nodes of the others are."""

    SCHEMA: ClassVar[int] = 1

    primary: str | None = None
    others: dict[str, Environment] = field(default_factory=dict)


@dataclass(frozen=True)
class Sources:
    """Of each source in params.yaml a digest of names, sizes and modification times; None for one that is not used."""

    SCHEMA: ClassVar[int] = 1

    weights: str | None
    path: str | None
    labels: str | None
    split: str | None
    train: str | None
    qat: str | None
    evaluation: str | None
    calibration: str | None
