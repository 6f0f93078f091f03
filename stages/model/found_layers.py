"""Layers by which a Keras model prepares its images itself, and what that means for how they are prepared before it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stages.params.model import CustomParams

if TYPE_CHECKING:
    from keras import Model as Network
    from keras.layers import Layer

# A layer that makes fractions of 1 out of pixels scales by less than this, as 1/127.5; one that has them as an input
# scales by more.
LEAST = 0.05
# Of fractions; pixels have larger means and deviations.
FRACTION = 2.0


class Found(NamedTuple):
    """What it does, in words, and whether it takes pixels from 0 to 255."""

    does: str
    takes_pixels: bool = False


def find(network: "Network") -> tuple[Found, ...]:
    """The layers that resize, scale or normalise, those of nested models too."""
    described = ((layer.name, _described(layer)) for layer in _layers(network))
    return tuple(found._replace(does=f"its layer {name} {found.does}") for name, found in described if found)


def _layers(network: "Network") -> Iterator["Layer"]:
    for layer in network.layers:
        yield from _layers(layer) if hasattr(layer, "layers") else [layer]


def unscaled(custom: CustomParams, found: tuple[Found, ...]) -> CustomParams:
    """With pixels as they are where no key scales them and the model does."""
    scaling = any(layer.takes_pixels for layer in found) and custom.scaling.scale is None
    return replace(custom, scale=(1.0,)) if scaling else custom


def told(custom: CustomParams, found: tuple[Found, ...]) -> tuple[str, ...]:
    """A sentence for each layer, and what it gets."""
    scale = custom.scaling.scale
    gets = "so it gets pixels from 0 to 255" if scale is None else f"and custom.scale is {max(map(abs, scale)):.3g}"
    if scale is not None and max(map(abs, scale)) < LEAST:
        gets += ", which scales twice: set it to null, unless the model was trained so"
    return tuple(f"{layer.does}, {gets}" if layer.takes_pixels else layer.does for layer in found)


def _described(layer: "Layer") -> Found | None:
    kind = type(layer).__name__
    if kind in ("Resizing", "CenterCrop"):
        done = "resizes" if kind == "Resizing" else "cuts the centre out"
        return Found(f"{done} to {layer.height} x {layer.width}, after custom.size and resize")
    if kind == "Rescaling":
        scale = np.max(np.abs(np.asarray(layer.scale, np.float32)))
        return Found(f"scales its input by {scale:.6g}", bool(scale < LEAST))
    if kind == "Normalization":
        largest = float(np.max(np.abs([np.max(np.abs(part)) for part in (layer.mean, layer.variance)])))
        return Found("normalises its input by a mean and a deviation of its own", largest > FRACTION)
    return None
