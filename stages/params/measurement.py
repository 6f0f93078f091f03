"""The blocks `variants`, `convert` and `benchmark`: what is measured, and how thoroughly."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from stages.contracts.variant import Variant

from . import load
from .fields import STRICT, Positive, in_order, no_repeats
from .mistakes import refused


def _variant(name: str) -> str:
    try:
        return Variant.parse(name).name
    except ValueError as error:
        raise refused("no-variant", str(error)) from None


# Their form; which ones there are, `document` asks the runtimes.
Variants = Annotated[
    tuple[Annotated[str, AfterValidator(_variant)], ...], Field(min_length=1), AfterValidator(no_repeats)
]


def variants(path: Path = load.PARAMS) -> tuple[str, ...]:
    """Names of all variants, in the order of their rows."""
    names: tuple[str, ...] = load.read_key("variants", Variants, path)
    return names


@dataclass(frozen=True, config=STRICT)
class ConvertParams:
    """How often to build."""

    KEY: ClassVar[str] = "convert"

    repeats: Annotated[int, Field(ge=1, le=100)]


@dataclass(frozen=True, config=STRICT)
class BenchmarkParams:
    """How long and how wide to measure, and how quiet it has to be; batch sizes smallest first."""

    KEY: ClassVar[str] = "benchmark"

    batch_sizes: Annotated[
        tuple[Positive, ...], Field(min_length=1), AfterValidator(no_repeats), AfterValidator(in_order)
    ]
    min_samples: Annotated[int, Field(ge=2, le=1_000_000)]
    min_seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
    repeats: Annotated[int, Field(ge=1, le=1000)]
    threads: Positive | None
    max_foreign_cpu: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.05
    retries: Annotated[int, Field(ge=0, le=100)] = 1


def engine_batch_sizes(benchmark: BenchmarkParams, evaluation: int) -> tuple[int, ...]:
    """Every batch size that is ever served, smallest first; `evaluation` is evaluation.batch_size."""
    return tuple(sorted({*benchmark.batch_sizes, evaluation}))
