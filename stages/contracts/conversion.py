"""reports/variants/V/convert.json and models/V/variant.json: what a conversion made, and what proves its precision."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from .preprocessing import Preprocessing
from .reference import Reference
from .status import Status
from .variant import Variant

Scalar = bool | int | float | str | None


def folder(variant: str) -> Path:
    """Where the converted model lies."""
    return Path("models") / variant


def record(variant: str, name: str) -> Path:
    """A variant's own result, such as `convert.json`."""
    return Path("reports/variants") / variant / name


def conversion_path(variant: str) -> Path:
    """Of the record of its conversion."""
    return record(variant, "convert.json")


# In every variant's folder: what it is, and whether there is a model beside it.
MANIFEST = "variant.json"


@dataclass(frozen=True)
class ConvertJob:
    """One conversion: from a SavedModel, or the ONNX file made of it, to files in the folder `target`.

    Fake quantisation in either holds the ranges that INT8 is to have. `calibration` is a folder of images.
    """

    saved_model: str
    onnx: str
    target: str
    precision: str
    batch_sizes: tuple[int, ...]  # smallest first
    calibration: str
    preprocessing: Preprocessing
    # Decoded in the worker to the runtime's own Options.
    options: dict[str, Scalar]
    # What the converted model is to answer.
    reference: Reference


@dataclass(frozen=True)
class Proof:
    """What makes the label of a variant true."""

    kind: Literal["saved_model", "trt_ops", "engine_layers", "tensor_types", "graph_layers"]
    # Those that have weights, by the precision they compute in; empty where the runtime does not tell.
    layers: dict[str, int]
    # Flat, under the names that the reference of records lists, such as `engine_build_s.batch8`.
    facts: dict[str, Scalar]
    # What a reader of the table should know, each as what follows the variant's name.
    notes: tuple[str, ...] = ()

    def under(self, prefix: str) -> dict[str, Scalar]:
        """The facts below a name: `engine_build_s` has one for each engine."""
        start = f"{prefix}."
        return {name.removeprefix(start): value for name, value in self.facts.items() if name.startswith(start)}


@dataclass(frozen=True)
class Build:
    """One of several builds of the same, which show how far builds differ."""

    convert_s: float
    size_bytes: int
    model_sha256: str
    p50_ms: float


@dataclass(frozen=True)
class Conversion:
    """How the conversion ended; `seconds` imports included; `files` in bytes by their path inside the folder."""

    SCHEMA: ClassVar[int] = 1

    variant: Variant
    status: Status
    seconds: float | None = None
    files: dict[str, int] | None = None
    sha256: str | None = None
    proof: Proof | None = None
    builds: tuple[Build, ...] = ()

    @property
    def size_bytes(self) -> int | None:
        """All files of the variant together."""
        return sum(self.files.values()) if self.files else None


@dataclass(frozen=True)
class Manifest:
    """A variant's folder in its own words, which travel with it; without a model it has no options."""

    SCHEMA: ClassVar[int] = 1

    variant: Variant
    status: Status
    options: dict[str, Scalar]
