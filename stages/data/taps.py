"""Resizing as weighted sums along one axis after the other: which pixels each new one is made of, and their weights."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..contracts.preprocessing import Floats, Number, Pixels

Places = npt.NDArray[np.intp]
Kernel = Callable[[Floats], Floats]


class Taps(NamedTuple):
    """For each new pixel of an axis the old ones, and the weight of each: both [new pixels, taps]."""

    places: Places
    weights: Floats


def summed(pixels: Pixels, rows: Taps, columns: Taps) -> Floats:
    """Rows first, then columns: float32 [height, width, channels]."""
    return _along_rows(_along_rows(pixels, rows).swapaxes(0, 1), columns).swapaxes(0, 1)


def _along_rows(pixels: Pixels, taps: Taps) -> Floats:
    found = np.zeros((len(taps.places), *pixels.shape[1:]), np.float32)
    for places, weights in zip(taps.places.T, taps.weights.T, strict=True):
        found += pixels[places] * weights[:, None, None]
    return found


def within(places: Places, weights: Floats, size: int, renormalized: bool) -> Taps:
    """Where a place is outside, the pixel at the border stands for it, or the others make up for it."""
    if renormalized:
        weights = np.where((places >= 0) & (places < size), weights, np.float32(0))
        weights = weights / weights.sum(axis=1, keepdims=True)
    return Taps(places.clip(0, size - 1), weights.astype(np.float32))


def covered(old: int, new: int, kind: type[Number] = np.float32) -> Taps:
    """By how much each old pixel lies inside a new one: their average, of places that are computed in this type."""
    scale = kind(old) / kind(new)
    start, end = np.arange(new).astype(kind) * scale, np.arange(1, new + 1).astype(kind) * scale
    places = np.floor(start).astype(np.intp)[:, None] + np.arange(int(np.ceil(scale)) + 1)
    inside = np.minimum(places + 1, end[:, None]) - np.maximum(places, start[:, None])
    return within(places, inside.clip(0), old, renormalized=True)
