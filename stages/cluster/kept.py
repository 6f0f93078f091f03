"""What a cluster did: the stage `sweep` keeps it on this disk, and the stages that would have done it adopt it."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from stages.contracts import codec
from stages.contracts.conversion import MANIFEST, Manifest
from stages.contracts.conversion import folder as model_folder
from stages.contracts.status import Status
from stages.core import files
from stages.runtimes import registry

SWEEP_RECORD = Path("reports/sweep.json")
# What a cluster converted, evaluated and timed, by GPU model.
SWEEP = Path("models/sweep")
# In a folder of results: what they were made from.
KEY = "key"
# A unit is what DVC calls a stage: convert@VARIANT, evaluate@VARIANT or this one.
BENCHMARK = "benchmark"


@dataclass(frozen=True)
class Sweep:
    """reports/sweep.json; with the local engine all values are None, so that nothing depends on it."""

    SCHEMA: ClassVar[int] = 1

    engine: str
    # By Ray's name, that of the results to adopt.
    gpu_model: str | None
    # Of every variant a digest that changes with what there is to adopt.
    sources: dict[str, str | None]
    benchmark: str | None
    # Units that have no result, and why.
    failed: dict[str, str]

    def adopt(self, unit: str) -> None:
        """Copy the results of a unit to where its stage writes them."""
        place = Kept(str(self.gpu_model)).folder(unit)
        for model in place.glob("models/*"):
            shutil.rmtree(model.relative_to(place), ignore_errors=True)
        unpack(pack(place, "models", "reports"), Path())


LOCAL = Sweep("local", None, dict.fromkeys(registry.valid()), None, {})


def read() -> Sweep:
    """What the stage `sweep` wrote."""
    return codec.read(Sweep, SWEEP_RECORD)


def write(sweep: Sweep) -> None:
    """The inverse of `read`."""
    codec.write(sweep, SWEEP_RECORD)


@dataclass(frozen=True)
class Kept:
    """What is kept of one GPU model."""

    gpu_model: str

    @property
    def place(self) -> Path:
        """Folders of the variants, and of the benchmark."""
        return SWEEP / self.gpu_model

    def folder(self, unit: str) -> Path:
        """Where the results of a unit lie, by the paths that they have in the checkout."""
        stage, _, variant = unit.partition("@")
        return self.place / (variant or BENCHMARK) / stage

    def has(self, unit: str, key: str) -> bool:
        """Whether there are results that were made from the same."""
        path = self.folder(unit) / KEY
        return path.exists() and path.read_text(encoding="utf-8") == key

    @contextmanager
    def keeping(self, unit: str, key: str) -> Iterator[Path]:
        """A folder for the results of a unit, which are kept if the block ends without an error."""
        with files.new_directory(self.folder(unit)) as target:
            yield target
            (target / KEY).write_text(key, encoding="utf-8")

    def drop(self, unit: str) -> None:
        """Remove what an earlier sweep kept of it."""
        shutil.rmtree(self.folder(unit), ignore_errors=True)

    def status(self, variant: str) -> Status | None:
        """How the kept conversion of a variant ended; None if none is kept."""
        manifest = self.folder(f"convert@{variant}") / model_folder(variant) / MANIFEST
        return codec.read(Manifest, manifest).status if manifest.exists() else None

    def has_model(self, variant: str) -> bool:
        """Whether its kept conversion succeeded."""
        status = self.status(variant)
        return status is not None and status.ok


def clean(folder: Path, names: list[str]) -> None:
    """Remove all folders but these."""
    for stale in {path.name for path in folder.glob("*")} - set(names):
        shutil.rmtree(folder / stale)


def pack(start: Path, *names: str) -> dict[str, bytes]:
    """Contents of all files below these folders, and of these files, by their paths from `start`."""
    places = [start / name for name in names]
    inside = [path for place in places for path in (place.rglob("*") if place.is_dir() else [place])]
    return {path.relative_to(start).as_posix(): path.read_bytes() for path in sorted(inside) if path.is_file()}


def unpack(content: Mapping[str, bytes], start: Path) -> None:
    """The inverse of `pack`."""
    for name, value in content.items():
        files.write_bytes(start / name, value)
