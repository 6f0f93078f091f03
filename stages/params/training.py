"""The blocks `train` and `qat`: how a model is trained, and trained on for INT8."""

from collections.abc import Iterable
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from stages.contracts import zoo
from stages.contracts.variant import Variant

from .fields import STRICT, Part, Positive, Seed, Share, Source, no_repeats, one_of
from .model import SMALL, ModelParams

LearningRate = Annotated[float, Field(gt=0, le=10)]


@dataclass(frozen=True, config=STRICT)
class AugmentParams:
    """How training images are changed, another way each time they are seen."""

    flip: bool
    rotate_degrees: Annotated[float, Field(ge=0, le=180)]
    shift: Share
    zoom: Share


@dataclass(frozen=True, config=STRICT)
class TrainParams:
    """How a model of the user's is trained."""

    KEY: ClassVar[str] = "train"

    source: Source
    backbone: Annotated[str, one_of((SMALL, *zoo.NAMES))]
    epochs: Positive
    patience: Positive
    frozen_epochs: Annotated[int, Field(ge=0, le=1_000_000)]
    batch_size: Positive
    learning_rate: LearningRate
    validation: Part
    class_weights: bool
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(no_repeats)]
    augment: AugmentParams


@dataclass(frozen=True, config=STRICT)
class QatParams:
    """How a model is trained on for INT8; the rest as TrainParams says."""

    KEY: ClassVar[str] = "qat"

    epochs: Positive
    learning_rate: LearningRate


def asks_qat(variants: Iterable[str]) -> bool:
    """Whether a variant takes what the stage `qat` makes."""
    return any(Variant.parse(name).qat for name in variants)


def source(model: ModelParams, train: TrainParams, variants: Iterable[str]) -> str | None:
    """Where training images come from; None where neither the stage `train` nor `qat` takes any."""
    return train.source if model.trains or asks_qat(variants) else None
