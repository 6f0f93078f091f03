"""reports/environment.json: the machine, and what each runtime says of itself on it; nothing that changes by itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

ENVIRONMENT = Path("reports/environment.json")
# By variant and stage a digest of all that it depends on, which DVC compares.
FINGERPRINTS = Path("reports/fingerprints.json")


@dataclass(frozen=True)
class Gpu:
    """What never changes of a GPU; its driver may keep the memory to itself."""

    name: str
    compute_capability: str
    memory_bytes: int | None


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
    """One runtime on one machine, with the Python that it runs in."""

    runtime: str
    python: str
    versions: dict[str, str]
    unavailable: dict[str, str | None]


@dataclass(frozen=True)
class Environment:
    """All that results depend on; `base` holds the versions of the pipeline's own libraries."""

    SCHEMA: ClassVar[int] = 1

    machine: Machine
    base: dict[str, str]
    runtimes: tuple[RuntimeEnvironment, ...]

    def runtime(self, name: str) -> RuntimeEnvironment:
        """What one runtime says of itself; KeyError for one that was not asked."""
        return {found.runtime: found for found in self.runtimes}[name]
