"""What a cluster did: the stage `sweep` keeps it on this disk, and the stages that would have done it adopt it."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from stages.contracts import paths
from stages.core import files
from stages.runtimes.registry import VALID

# In a folder of results: what they were made from.
KEY = "key"
# A unit is what DVC calls a stage: convert@VARIANT, evaluate@VARIANT or this one.
BENCHMARK = "benchmark"


class Sweep(NamedTuple):
    """reports/sweep.json; with the local engine all values are None, so that nothing depends on it."""

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
        kept = Kept(str(self.gpu_model)).folder(unit)
        for model in kept.glob("models/*"):
            shutil.rmtree(model.relative_to(kept), ignore_errors=True)
        unpack(pack(kept, "models", "reports"), Path())


LOCAL = Sweep("local", None, dict.fromkeys(VALID), None, {})


def read() -> Sweep:
    """What the stage `sweep` wrote."""
    return Sweep(**files.read_json(paths.SWEEP_RECORD))


def write(sweep: Sweep) -> None:
    """The inverse of `read`."""
    files.write_json(paths.SWEEP_RECORD, sweep._asdict())


@dataclass(frozen=True)
class Kept:
    """What is kept of one GPU model."""

    gpu_model: str

    @property
    def place(self) -> Path:
        """Folders of the variants, and of the benchmark."""
        return paths.SWEEP / self.gpu_model

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

    def status(self, variant: str) -> str | None:
        """How the kept conversion of a variant ended; None if none is kept."""
        manifest = self.folder(f"convert@{variant}") / paths.model(variant) / paths.MANIFEST
        return str(json.loads(manifest.read_text(encoding="utf-8"))["status"]) if manifest.exists() else None


def pack(start: Path, *names: str) -> dict[str, bytes]:
    """Contents of all files below these folders, and of these files, by their paths from `start`."""
    found = [start / name for name in names]
    inside = [path for place in found for path in (place.rglob("*") if place.is_dir() else [place])]
    return {path.relative_to(start).as_posix(): path.read_bytes() for path in sorted(inside) if path.is_file()}


def unpack(content: Mapping[str, bytes], start: Path) -> None:
    """The inverse of `pack`."""
    for name, value in content.items():
        files.write_bytes(start / name, value)
