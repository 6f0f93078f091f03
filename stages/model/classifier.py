"""Makes a classifier of images out of a user's model, as the block `custom` of params.yaml describes it.

Whatever of the two does not fit is a sentence that names the key to change.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stages.contracts.preprocessing import Channels, Floats, Preprocessing
from stages.core.errors import PipelineError
from stages.model import other_inputs
from stages.model.other_inputs import described
from stages.model.signatures import Model, refuse_fixed_batches
from stages.params.model import CustomParams

if TYPE_CHECKING:
    from tensorflow import Tensor, TensorSpec

Answer = Callable[["Tensor"], "Tensor"]
Named = Callable[[dict[str, "Tensor"]], dict[str, "Tensor"]]
# How far probabilities of one image may be from 1 in all: FP16 models round.
SLACK = 1e-2


@dataclass(frozen=True)
class Classifier:
    """float32 images [n, height, width, channels], prepared as `preprocessing` says, to probabilities [n, classes]."""

    call: Answer
    # What holds its variables, for a SavedModel to keep.
    tracked: Any
    preprocessing: Preprocessing
    classes: int
    parameters: int
    # The largest that it gives on seeded noise, where its answers are logits: FP32 rounds them by their size.
    logits: float = 1.0
    # The same as the file's own runtime answers, where it was converted to be opened; and whether FP16 takes part.
    original: Answer | None = None
    original_half: bool = False
    # Its own layers that prepare images, a sentence each.
    inside: tuple[str, ...] = ()


def classifier(tf: ModuleType, model: Model, setting: CustomParams) -> Classifier:
    """The model as a function from images to probabilities; PipelineError for the first thing that does not fit."""
    source = _picked(model.inputs, setting.input, "input")
    result = _picked(model.outputs, setting.output, "output")
    if not model.outputs[result].dtype.is_floating:
        raise PipelineError(
            f"the model's output {described(result, model.outputs[result])} tells one class, but not how sure it is: "
            "export the model with its probabilities or logits",
            code="output-no-scores",
            output=result,
        )
    others = other_inputs.constants(tf, model.inputs, source, setting.other_inputs)
    layout = _layout(source, model.inputs[source], setting)
    kind = model.inputs[source].dtype
    prepared = preprocessing(*layout[:3], setting, 1.0 if kind.is_integer else 1 / 255)
    if kind.is_integer:
        _refuse_changed_pixels(prepared)

    def raw(answers: Named, images: "Tensor") -> "Tensor":
        placed = tf.transpose(images, [0, 3, 1, 2]) if layout.channels_first else images
        # TFLite has no operation for what tf.saturate_cast would make of it.
        pixels = tf.minimum(tf.maximum(tf.round(placed), kind.min), kind.max) if kind.is_integer else placed
        inputs = {source: tf.cast(pixels, kind)}
        inputs |= {name: value(tf.shape(images)[0]) for name, value in others.items()}
        answer = tf.cast(answers(inputs)[result], tf.float32)
        return answer if answer.shape.rank == 2 else tf.reshape(answer, [tf.shape(images)[0], -1])

    own = partial(raw, model.call)
    scores = _probe(tf, own, prepared, result)
    _refuse_other_kind(scores, result, setting.answers)
    made = Classifier(own, model.tracked, prepared, max(2, scores.shape[1]), model.parameters)
    if model.original:
        made = replace(made, original=partial(raw, model.original.call), original_half=model.original.half)
    return _probabilities(tf, made, scores, setting.answers)


def _picked(specs: dict[str, "TensorSpec"], name: str | None, what: str) -> str:
    listed = ", ".join(described(key, spec) for key, spec in specs.items())
    if name is None and len(specs) == 1:
        return next(iter(specs))
    if name is None:
        raise PipelineError(
            f"the model has {len(specs)} {what}s: {listed}; name the one meant in custom.{what}",
            code="tensor-ambiguous",
            key=f"custom.{what}",
            names=[*specs],
        )
    if name not in specs:
        raise PipelineError(
            f"custom.{what} is {name}, but the model's {what}s are {listed}: name one of them",
            code="tensor-unknown",
            key=f"custom.{what}",
            name=name,
            names=[*specs],
        )
    return name


class Layout(NamedTuple):
    """What the input says of images."""

    height: int
    width: int
    channels: Channels
    channels_first: bool


def _layout(name: str, spec: "TensorSpec", setting: CustomParams) -> Layout:
    shape, named = [*spec.shape] if spec.shape.rank is not None else [], described(name, spec)
    words = f"the model's input {named}"
    if len(shape) != 4:
        raise _misfit(f"{words} takes no images: it should have 4 dimensions; see custom.input", "custom.input")
    refuse_fixed_batches(named, shape)
    if not (spec.dtype.is_floating or spec.dtype.name == "uint8"):
        raise _misfit(f"{words} is neither of floats nor of uint8: export the model with one that is", "custom.input")
    first = shape[3] not in (1, 3) and shape[1] in (1, 3)
    count, *sides = [shape[1], *shape[2:]] if first else [shape[3], *shape[1:3]]
    usual: dict[int | None, Channels] = {1: "gray", 3: "rgb", None: "rgb"}
    channels = setting.channels or usual.get(count)
    if channels is None or count not in (None, 1 if channels == "gray" else 3):
        allowed = "gray" if count == 1 else "rgb or bgr" if count == 3 else None
        remedy = f"set custom.channels to {allowed}" if allowed else "export the model for 1 or 3 channels"
        raise _misfit(
            f"{words} has {count} channels, but custom.channels is {channels or 'null'}: {remedy}", "custom.channels"
        )
    height, width = _sides(words, sides, setting.size)
    return Layout(height, width, channels, first)


def _sides(words: str, sides: list[int | None], size: tuple[int, ...] | None) -> tuple[int, int]:
    if size is None and None in sides:
        raise _misfit(f"{words} takes images of any size: say which in custom.size, as [height, width]", "custom.size")
    chosen = size or tuple(side or 0 for side in sides)
    if any(side not in (None, setting) for side, setting in zip(sides, chosen, strict=True)):
        raise _misfit(
            f"{words} takes {sides}, but custom.size is {[*chosen]}: set it to null, or to the former", "custom.size"
        )
    height, width = chosen
    return height, width


def _misfit(message: str, key: str) -> PipelineError:
    return PipelineError(message, code="input-no-images", key=key)


def preprocessing(height: int, width: int, channels: Channels, setting: CustomParams, pixel: float) -> Preprocessing:
    """How images are prepared, with scale = scale / std and offset = -mean / std; `pixel` is the scale of null."""
    count = 1 if channels == "gray" else 3
    given = setting.scaling
    blocks = {"scale": given.scale or (pixel,), "mean": given.mean or (0.0,), "std": given.std or (1.0,)}
    for key, values in blocks.items():
        if len(values) not in (1, count):
            allowed = "1" if count == 1 else f"1 or {count}"
            raise PipelineError(
                f"custom.{key} has {len(values)} values, but an image has {count} channels: give {allowed}",
                code="channel-values",
                key=f"custom.{key}",
                values=len(values),
                channels=count,
            )
    scale, mean, std = (np.broadcast_to(values, count) for values in blocks.values())
    factors, offsets = ([float(value) for value in values] for values in (scale / std, 0.0 - mean / std))
    numbers = {"scale": tuple(factors), "offset": tuple(offsets)}
    return Preprocessing(
        **{"height": height, "width": width, "channels": channels, **numbers, **setting.seen._asdict()}
    )


def _refuse_changed_pixels(prepared: Preprocessing) -> None:
    if {*prepared.scale} != {1.0} or any(prepared.offset):
        raise PipelineError(
            "the model takes uint8 pixels as they are, but custom.scale, mean and std would change them: set null",
            code="pixels-changed",
            key="custom.scale",
        )


def _probe(tf: ModuleType, raw: Answer, prepared: Preprocessing, result: str) -> Floats:
    """Answers to seeded noise: float32 [4, outputs]."""
    images = tf.constant(prepared.noise(4))
    with _failing(prepared):
        scores: Floats = raw(images).numpy()
        if scores.shape == (4, scores.size // 4) and scores.size:
            return scores
    raise PipelineError(
        f"the model's output {result} is of shape {[*scores.shape]}, but should be [images, classes]: name another in "
        "custom.output, or export the model with one",
        code="output-shape",
        key="custom.output",
        output=result,
        shape=[*scores.shape],
    )


@contextmanager
def _failing(prepared: Preprocessing) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise PipelineError(
            f"the model fails on 4 images of {[*prepared.shape]} ({reason}): check custom.size, or export it with a "
            "batch dimension that is left open",
            code="model-fails",
            key="custom.size",
            shape=[*prepared.shape],
        ) from None


def _refuse_other_kind(scores: Floats, result: str, answers: str) -> None:
    """PipelineError if what should be probabilities is not, or what should be logits looks like nothing else."""
    if not np.isfinite(scores).all():
        raise PipelineError(
            f"the model's output {result} is not finite on seeded noise: check custom.scale, mean and std",
            code="output-not-finite",
            key="custom.scale",
            output=result,
        )
    sums, inside = scores.sum(axis=1), bool(((scores >= -SLACK) & (scores <= 1 + SLACK)).all())
    alike = inside and (scores.shape[1] == 1 or bool((np.abs(sums - 1) <= SLACK).all()))
    if answers == "probabilities" and not alike:
        reason = f"adds up to {sums[0]:.3g} for an image" if scores.shape[1] > 1 else f"is {scores[0, 0]:.3g}"
        raise PipelineError(
            f"the model's output {result} {reason} and ranges from {scores.min():.3g} to {scores.max():.3g}, which are "
            "no probabilities of one class in several: if it is before softmax or sigmoid, set custom.answers to "
            "logits",
            code="output-no-probabilities",
            key="custom.answers",
            output=result,
        )
    if answers == "logits" and alike and scores.shape[1] > 1:
        raise PipelineError(
            f"the model's output {result} adds up to 1 for every image, so these are probabilities already, which a "
            "second softmax would flatten: set custom.answers to probabilities",
            code="output-no-logits",
            key="custom.answers",
            output=result,
        )


def _probabilities(tf: ModuleType, raw: Classifier, scores: Floats, answers: str) -> Classifier:
    """The same with probabilities in place of these answers."""
    logits = answers == "logits"

    def call(answer: Answer, images: "Tensor") -> "Tensor":
        found = answer(images)
        if scores.shape[1] > 1:
            return tf.nn.softmax(found) if logits else found
        second = tf.sigmoid(found) if logits else found
        return tf.concat([1 - second, second], axis=1)

    original = partial(call, raw.original) if raw.original else None
    largest = float(np.abs(scores).max()) if logits else 1.0
    return replace(raw, call=partial(call, raw.call), original=original, logits=largest)
