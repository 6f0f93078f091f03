"""What a cluster did, kept on this disk by GPU model, so that a sweep that was interrupted goes on from there."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stages.cluster import adopt
from stages.contracts import codec
from stages.contracts.conversion import MANIFEST, Manifest
from stages.contracts.conversion import folder as model_folder
from stages.contracts.status import Status
from stages.core import files

# In a folder of results: what they were made from.
KEY = "key"


@dataclass(frozen=True)
class Kept:
    """What is kept of one GPU model."""

    gpu_model: str

    @property
    def place(self) -> Path:
        """Folders of the variants, and of the benchmark."""
        return adopt.SWEEP / self.gpu_model

    def folder(self, unit: str) -> Path:
        """Where the results of a unit lie, by the paths that they have in the checkout."""
        return adopt.folder(self.gpu_model, unit)

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
