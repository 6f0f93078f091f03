"""The block `execution`: on which machines the variants run."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from .fields import STRICT, Text
from .mistakes import refused


def _same_on_all_nodes(place: str) -> str:
    _, address, root = place.partition("://")
    if not (root.strip("/") if address else Path(place).is_absolute()):
        raise refused(
            "not-on-all-nodes",
            "it should be a whole path, or an address such as s3://bucket/photos: nodes have no checkout",
        )
    return place.rstrip("/") or place


@dataclass(frozen=True, config=STRICT)
class ExecutionParams:
    """Where variants are converted, evaluated and timed."""

    KEY: ClassVar[str] = "execution"

    engine: Literal["local", "ray"]
    gpu_model: Text | None
    retries: Annotated[int, Field(ge=0, le=100)]
    images: Annotated[Text, AfterValidator(_same_on_all_nodes)] | None
