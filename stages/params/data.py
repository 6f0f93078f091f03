"""The blocks `split`, `evaluation` and `calibration`: where images come from."""

from typing import ClassVar

from pydantic.dataclasses import dataclass

from .fields import STRICT, Part, Positive, Seed, Source

# As any source: its part of `split.source`.
SPLIT = "split"


@dataclass(frozen=True, config=STRICT)
class SplitParams:
    """One labelled source that is taken apart; None: nothing is split."""

    KEY: ClassVar[str] = "split"

    source: Source | None
    evaluation: Part
    seed: Seed


@dataclass(frozen=True, config=STRICT)
class EvaluationParams:
    """The labelled images."""

    KEY: ClassVar[str] = "evaluation"

    source: Source
    batch_size: Positive


@dataclass(frozen=True, config=STRICT)
class CalibrationParams:
    """The images that set INT8 ranges."""

    KEY: ClassVar[str] = "calibration"

    source: Source
    images: Positive
    seed: Seed
