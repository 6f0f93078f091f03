"""The block `tracking`: where MLflow keeps the runs."""

from typing import ClassVar

from pydantic.dataclasses import dataclass

from .fields import STRICT, Text


@dataclass(frozen=True, config=STRICT)
class TrackingParams:
    """Where MLflow keeps the runs; `uri` None: as its environment variable says, else a file of this checkout."""

    KEY: ClassVar[str] = "tracking"

    uri: Text | None
    experiment: Text
