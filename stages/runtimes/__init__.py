"""One module per runtime, all of the shape that `protocol` describes; imports no stage."""

import importlib
from typing import Any, NamedTuple, cast

from ..contracts import paths
from ..core import files
from .contract import Runtime, Session


def runtime(name: str) -> Runtime:
    """The module of that runtime, imported now: its library is not, until it converts or loads."""
    return cast(Runtime, importlib.import_module(f"stages.runtimes.{name}"))


class Manifest(NamedTuple):
    """A variant's folder in its own words (variant.json)."""

    variant: str
    runtime: str
    precision: str
    qat: bool
    status: str
    reason: str | None
    options: dict[str, Any]

    @classmethod
    def read(cls, variant: str) -> "Manifest":
        """Read models/VARIANT/variant.json."""
        return cls(**files.read_json(paths.model(variant) / paths.MANIFEST))

    def load(self, threads: int | None = None) -> Session:
        """Load the model beside the manifest."""
        return runtime(self.runtime).load(paths.model(self.variant), self.precision, self.options, threads)
