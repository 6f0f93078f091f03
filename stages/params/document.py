"""The whole of params.yaml, checked before anything runs: every block, and what they ask of each other."""

import dataclasses
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from stages.contracts.variant import BASELINE
from stages.runtimes import registry

from . import load, training
from .choice import Budget, SelectParams
from .data import SPLIT, CalibrationParams, EvaluationParams, SplitParams
from .execution import ExecutionParams
from .fields import STRICT, no_repeats
from .load import PARAMS, Scalar
from .measurement import BenchmarkParams, ConvertParams, engine_batch_sizes
from .mistakes import Mistake, ParamsError, refused
from .model import CUSTOM, SMALL, CustomParams, ModelParams
from .tracking import TrackingParams
from .training import QatParams, TrainParams


def _known(name: str) -> str:
    try:
        return registry.known(name).name
    except ValueError as error:
        raise refused("unknown-variant", str(error)) from None


# Those that a runtime makes; alone, measurement.Variants looks at their form.
KnownVariants = Annotated[
    tuple[Annotated[str, AfterValidator(_known)], ...], Field(min_length=1), AfterValidator(no_repeats)
]


@dataclass(frozen=True, config=STRICT)
class Params:
    """All of params.yaml, in its order; the runtimes' blocks follow as they are registered."""

    model: ModelParams
    custom: CustomParams
    split: SplitParams
    train: TrainParams
    qat: QatParams
    evaluation: EvaluationParams
    calibration: CalibrationParams
    variants: KnownVariants
    convert: ConvertParams
    benchmark: BenchmarkParams
    budget: Budget
    select: SelectParams
    execution: ExecutionParams
    tracking: TrackingParams

    @property
    def runtimes(self) -> dict[str, dict[str, Scalar]]:
        """The options of every runtime, with the defaults of what is left out."""
        return {name: dataclasses.asdict(getattr(self, name)) for name in registry.RUNTIMES}

    @property
    def sources(self) -> dict[str, str | None]:
        """By name what the user's files may be among, for Sources in contracts/environment.py; None: not used."""
        labels = self.custom.labels or self.split.source or self.evaluation.source
        return {
            "weights": self.model.weights,
            "path": self.model.path,
            "labels": labels if self.model.name == CUSTOM else None,
            "split": self.split.source,
            "train": training.source(self.model, self.train, self.variants),
            "qat": self.train.source if training.asks_qat(self.variants) else None,
            "evaluation": self.evaluation.source,
            "calibration": self.calibration.source,
        }


@cache
def _file(runtimes: tuple[str, ...]) -> type[Params]:
    """Params and an optional block for each runtime, whose options a plain dataclass describes."""
    options = ((name, registry.description(name).options) for name in runtimes)
    fields = [(name, kind, dataclasses.field(default_factory=kind)) for name, kind in options]
    kind: type[Params] = dataclasses.make_dataclass("File", fields, bases=(Params,), frozen=True)
    return kind


def check(path: Path = PARAMS) -> Params:
    """Read and check the file; ParamsError names every wrong key and what is allowed there."""
    params = load.check(_file(tuple(registry.RUNTIMES)), "", load.everything(path), path)
    mistakes = [mistake for rule in RULES for mistake in rule(params)]
    if mistakes:
        raise ParamsError(path, mistakes)
    return params


def _options_for_all_batch_sizes(params: Params) -> Iterator[Mistake]:
    sizes = engine_batch_sizes(params.benchmark, params.evaluation.batch_size)
    for name in registry.RUNTIMES:
        options = getattr(params, name)
        problem = options.problem(sizes) if hasattr(options, "problem") else None
        if problem:
            yield Mistake(name, "batch-sizes", problem)


def _batch_sizes_that_are_measured(params: Params) -> Iterator[Mistake]:
    sizes = params.benchmark.batch_sizes
    for key, size in (
        ("budget.p99_batch_size", params.budget.p99_batch_size),
        ("select.batch_size", params.select.batch_size),
    ):
        if size is not None and size not in sizes:
            yield Mistake(
                key,
                "not-measured",
                f"`{key}` is {size}, which is not measured; add it to benchmark.batch_sizes "
                f"({', '.join(map(str, sizes))}), or set null for the smallest",
            )


def _a_baseline_to_drop_from(params: Params) -> Iterator[Mistake]:
    drop = params.budget.max_top1_drop
    if drop is not None and BASELINE.name not in params.variants:
        yield Mistake(
            "budget.max_top1_drop",
            "no-baseline",
            f"`budget.max_top1_drop` is {drop:g}, but a drop is against {BASELINE.name}; add it to variants, or set "
            "null",
        )


def _a_split_of_something(params: Params) -> Iterator[Mistake]:
    sources = params.sources
    parts = [f"`{key}.source`" for key in ("evaluation", "calibration", "train") if sources[key] == SPLIT]
    if parts and params.split.source is None:
        yield Mistake(
            "split.source",
            "nothing-to-split",
            f"{' and '.join(parts)} is split, but `split.source` is null; set it to labelled images",
        )
    if sources["train"] == SPLIT and sources["evaluation"] != SPLIT:
        yield Mistake(
            "train.source",
            "split-half-used",
            "`train.source` is split, but `evaluation.source` is not, so that a part of the images would be used for "
            "nothing; set evaluation.source to split, or train.source to the images",
        )


def _what_training_prepares(params: Params) -> Iterator[Mistake]:
    custom, backbone = params.custom, params.train.backbone
    if not params.model.trains:
        return
    if backbone == SMALL and custom.size is None:
        yield Mistake(
            "custom.size",
            "size-missing",
            "`model.path` is trained, but `custom.size` is null; set [height, width] to train for",
        )
    fixed = [key for key in ("size", "channels", "scale", "mean", "std") if getattr(custom, key) is not None]
    for key in fixed if backbone != SMALL else []:
        yield Mistake(
            f"custom.{key}",
            "fixed-by-backbone",
            f"`custom.{key}` is set, but the backbone {backbone} takes images as it was pretrained; set null",
        )


# What blocks ask of each other, once each of them is right by itself.
RULES = (
    _options_for_all_batch_sizes,
    _batch_sizes_that_are_measured,
    _a_baseline_to_drop_from,
    _a_split_of_something,
    _what_training_prepares,
)
