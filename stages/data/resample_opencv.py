"""What cv2.resize makes of pixels of 8 bits, in NumPy."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..contracts.preprocessing import Floats, Method, Pixels
from .taps import Kernel, Places, Taps, covered, summed, within

Bytes = npt.NDArray[np.uint8]
# Its weights are whole numbers of this many bits after the point.
BITS = 11
# Of one, its length before and after.
Axis = tuple[int, int]


def resize(pixels: Bytes, size: tuple[int, int], method: Method) -> Bytes:
    """uint8 [height, width, channels] for a size of width and height."""
    axes = tuple(zip(pixels.shape, reversed(size), strict=False))
    if all(old == new for old, new in axes):
        return pixels
    if method == "nearest":
        rows, columns = (_nearest(*axis) for axis in axes)
        return pixels[rows][:, columns]
    # It takes area for bilinear where both sides are halved, and a kind of bilinear for area where one grows.
    halved = method == "bilinear" and all(old == 2 * new for old, new in axes)
    if halved or (method == "area" and all(old >= new for old, new in axes)):
        return _averaged(pixels, axes)
    if method in ("bilinear", "area"):
        return _in_fixed_point(pixels, *(TWO[method](*axis) for axis in axes))
    return _rounded(_summed(pixels, *(WIDE[method](*axis) for axis in axes)))


def _rounded(pixels: Floats) -> Bytes:
    return _bytes(np.rint(pixels).clip(0, 255))


def _bytes(pixels: Pixels) -> Bytes:
    return pixels.astype(np.uint8)


def _scale(old: int, new: int) -> float:
    """Not old / new, which may round otherwise."""
    return 1 / (new / old)


def _nearest(old: int, new: int) -> Places:
    places: Places = np.floor(np.arange(new) * _scale(old, new)).astype(np.intp)
    return places.clip(0, old - 1)


def _averaged(pixels: Bytes, axes: Sequence[Axis]) -> Bytes:
    if any(old % new for old, new in axes):
        return _rounded(_summed(pixels, *(covered(*axis, np.float64) for axis in axes)))
    (rows, columns), (height, width) = ([old // new for old, new in axes], [new for _, new in axes])
    sums = pixels.astype(np.int32).reshape(height, rows, width, columns, -1).sum(axis=(1, 3))
    if rows == columns == 2:
        return _bytes((sums + 2) >> 2)  # a half is rounded up, and elsewhere to even
    return _rounded(sums.astype(np.float32) * np.float32(1 / (rows * columns)))


def _summed(pixels: Bytes, rows: Taps, columns: Taps) -> Floats:
    """Columns first."""
    return summed(pixels.swapaxes(0, 1), columns, rows).swapaxes(0, 1)


def _linear(old: int, new: int) -> Taps:
    """The two pixels beside the middle of each new one."""
    place = ((np.arange(new) + 0.5) * _scale(old, new) - 0.5).astype(np.float32)
    return _beside(np.floor(place).astype(np.intp), place - np.floor(place), old)


def _spread(old: int, new: int) -> Taps:
    """As much of the second pixel as a new one, which is smaller, covers of it."""
    first = np.floor(np.arange(new) * _scale(old, new)).astype(np.intp)
    beyond = (np.arange(1, new + 1) - (first + 1) * (new / old)).astype(np.float32)
    return _beside(first, np.where(beyond <= 0, 0, beyond - np.floor(beyond)), old)


def _beside(first: Places, share: Floats, old: int) -> Taps:
    weights = np.stack([1 - share, share], axis=1).astype(np.float32)
    return within(first[:, None] + np.arange(2), weights, old, renormalized=False)


def _cubic(old: int, new: int) -> Taps:
    """Of four pixels, sharper than others do it: with a = -0.75."""
    return _kernel(old, new, 2, _keys)


def _keys(x: Floats) -> Floats:
    near, far = (1.25 * x - 2.25) * x * x + 1, ((-0.75 * x + 3.75) * x - 6) * x + 3
    return np.where(x >= 1, far, near).astype(np.float32)


def _lanczos(old: int, new: int) -> Taps:
    """Of eight pixels, and never more."""
    places, weights = _kernel(old, new, 4, _sinc)
    return Taps(places, np.asarray(np.rint(weights * (1 << BITS)) / np.float32(1 << BITS), np.float32))


def _sinc(x: Floats) -> Floats:
    return np.asarray(np.sinc(x) * np.sinc(x / 4), np.float32)


def _kernel(old: int, new: int, reach: int, kernel: Kernel) -> Taps:
    place = ((np.arange(new) + 0.5) * _scale(old, new) - 0.5).astype(np.float32)
    places = np.floor(place).astype(np.intp)[:, None] + np.arange(1 - reach, 1 + reach)
    weights = kernel(np.abs(places - place[:, None]).astype(np.float32))
    return within(places, weights / weights.sum(axis=1, keepdims=True), old, renormalized=False)


TWO = {"bilinear": _linear, "area": _spread}
WIDE = {"bicubic": _cubic, "lanczos": _lanczos}


def _in_fixed_point(pixels: Bytes, rows: Taps, columns: Taps) -> Bytes:
    """Sums of whole numbers that lose their last bits where OpenCV's do."""
    down, across = ((taps.weights * (1 << BITS)).round().astype(np.int32) for taps in (rows, columns))
    total = np.full((len(rows.places), len(columns.places), pixels.shape[2]), 2, np.int32)
    for line, share in zip(rows.places.T, down.T, strict=True):
        old = pixels[line].astype(np.int32)
        pairs = zip(columns.places.T, across.T, strict=True)
        new = sum(old[:, place] * weight[:, None] for place, weight in pairs) >> 4
        total += new * share[:, None, None] >> 16
    return _bytes(total >> 2)
