"""The blocks `budget` and `select`: what a variant may cost, and which one is best."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from .fields import STRICT, Positive, Share


@dataclass(frozen=True, config=STRICT)
class Budget:
    """What a variant may cost at most; None: no limit."""

    KEY: ClassVar[str] = "budget"

    max_top1_drop: Share | None
    max_p99_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None
    p99_batch_size: Positive | None
    max_size_bytes: Annotated[int, Field(ge=1)] | None
    max_peak_memory_bytes: Annotated[int, Field(ge=1)] | None


@dataclass(frozen=True, config=STRICT)
class SelectParams:
    """What makes a variant the best of those within budget."""

    KEY: ClassVar[str] = "select"

    objective: Literal["latency", "throughput", "size", "top1"]
    batch_size: Positive | None
