"""What a cluster did, as the stages that would have done it adopt it."""

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from stages.contracts import codec, conversion
from stages.core import files

SWEEP_RECORD = Path("reports/sweep.json")
# What a cluster converted, evaluated and timed, by GPU model.
SWEEP = Path("models/sweep")
# A unit is what DVC calls a stage: convert@VARIANT, evaluate@VARIANT or this one.
BENCHMARK = "benchmark"
ENDED = "it was ended before it was done: run the same command again, and it goes on from there"


def folder(gpu_model: str, unit: str) -> Path:
    """Where the results of a unit lie, by the paths that they have in the checkout."""
    stage, _, variant = unit.partition("@")
    return SWEEP / gpu_model / (variant or BENCHMARK) / stage


@dataclass(frozen=True)
class Sweep:
    """reports/sweep.json; with the local engine all values are None, so that nothing depends on it."""

    SCHEMA: ClassVar[int] = 1

    engine: str
    # By Ray's name, that of the results to adopt.
    gpu_model: str | None
    # Of every variant a digest that changes with what there is to adopt.
    sources: dict[str, str | None]
    benchmark: str | None
    # Units that have no result, and why.
    failed: dict[str, str]
    # Of every variant a digest of the training for INT8 that it takes, None for those that take none. It stands here
    # since another list of variants repeats this stage and no training.
    trained: dict[str, str | None] = field(default_factory=dict)

    @property
    def came_to_nothing(self) -> bool:
        """Whether there is nothing to adopt where there should be."""
        return self.engine != "local" and self.gpu_model is None

    def adopt(self, unit: str) -> None:
        """Copy the results of a unit to where its stage writes them."""
        place = folder(str(self.gpu_model), unit)
        for model in place.glob("models/*"):
            shutil.rmtree(model.relative_to(place), ignore_errors=True)
        unpack(pack(place, "models", "reports"), Path())


def local(variants: tuple[str, ...]) -> Sweep:
    """What there is to adopt of the local engine: nothing."""
    return Sweep("local", None, dict.fromkeys(variants), None, {}, dict.fromkeys(variants))


def lost(variants: tuple[str, ...], reason: str = ENDED) -> Sweep:
    """What there is to adopt of a sweep without an end: why there is nothing."""
    units = [*(f"convert@{name}" for name in variants), BENCHMARK]
    failed = dict.fromkeys(units, f"sweep: {reason}")
    return Sweep("ray", None, dict.fromkeys(variants, reason), reason, failed, dict.fromkeys(variants))


def read() -> Sweep:
    """What the stage `sweep` wrote."""
    return codec.read(Sweep, SWEEP_RECORD)


def write(sweep: Sweep) -> None:
    """The inverse of `read`."""
    codec.write(sweep, SWEEP_RECORD)


def forget(listed: Collection[str], known: Collection[str]) -> None:
    """Remove the folders of variants that are no longer listed, which DVC leaves where they are; its cache keeps them.

    A checkout that pulls these results has none, and would time everything again for their sake.
    """
    for name in set(known) - set(listed):
        for place in (conversion.folder(name), conversion.conversion_path(name).parent):
            shutil.rmtree(place, ignore_errors=True)


def pack(start: Path, *names: str) -> dict[str, bytes]:
    """Contents of all files below these folders, and of these files, by their paths from `start`."""
    places = [start / name for name in names]
    inside = [path for place in places for path in (place.rglob("*") if place.is_dir() else [place])]
    return {path.relative_to(start).as_posix(): path.read_bytes() for path in sorted(inside) if path.is_file()}


def unpack(content: Mapping[str, bytes], start: Path) -> None:
    """The inverse of `pack`."""
    for name, value in content.items():
        files.write_bytes(start / name, value)
