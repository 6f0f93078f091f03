"""What tf.image.resize makes of pixels, in NumPy: fractions, since it never rounds."""

import numpy as np
import numpy.typing as npt

from ..contracts.preprocessing import Floats, Method
from .taps import Kernel, Taps, covered, summed, within

# Of the table in which its bicubic looks its weights up.
TABLE = 1024


def resize(pixels: npt.NDArray[np.uint8], size: tuple[int, int], method: Method, antialias: bool) -> Floats:
    """float32 [height, width, channels] for a size of width and height."""
    width, height = size
    axes = tuple(zip(pixels.shape, (height, width), strict=False))
    if pixels.shape[:2] == (height, width):
        return pixels.astype(np.float32)
    if method == "nearest":
        rows, columns = (_nearest(*axis) for axis in axes)
        return pixels[rows][:, columns].astype(np.float32)
    if method == "bilinear" and not antialias:
        return _bilinear(pixels, height, width)
    return summed(pixels, *(_taps(*axis, method, antialias) for axis in axes))


def _taps(old: int, new: int, method: Method, antialias: bool) -> Taps:
    if method == "area":
        return covered(old, new)
    if method == "bicubic" and not antialias:
        return _looked_up(old, new)
    return _spans(old, new, *KERNELS[method], antialias)


def _centres(old: int, new: int) -> Floats:
    """Where the middle of each new pixel lies on the old axis."""
    return (np.arange(new, dtype=np.float32) + np.float32(0.5)) * (np.float32(old) / np.float32(new))


def _nearest(old: int, new: int) -> npt.NDArray[np.intp]:
    return np.floor(_centres(old, new)).astype(np.intp).clip(0, old - 1)


def _bilinear(pixels: npt.NDArray[np.uint8], height: int, width: int) -> Floats:
    top, bottom, down = _neighbours(pixels.shape[0], height)
    left, right, across = (part for part in _neighbours(pixels.shape[1], width))
    across = across[:, None]

    def row(places: npt.NDArray[np.intp]) -> Floats:
        rows = pixels[places].astype(np.float32)
        return rows[:, left] + (rows[:, right] - rows[:, left]) * across

    above = row(top)
    return above + (row(bottom) - above) * down[:, None, None]


def _neighbours(old: int, new: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats]:
    place = _centres(old, new) - np.float32(0.5)
    below = np.floor(place)
    first, last = below.clip(0).astype(np.intp), np.ceil(place).clip(0, old - 1).astype(np.intp)
    return first, last, place - below


def _looked_up(old: int, new: int) -> Taps:
    """Of four pixels, by a table, as bicubic without antialiasing does it."""
    place = _centres(old, new) - np.float32(0.5)
    below = np.floor(place)
    step = np.rint((place - below) * TABLE).astype(np.intp)
    near, far = _table()
    weights = np.stack([far[step], near[step], near[TABLE - step], far[TABLE - step]], axis=1)
    return within(below.astype(np.intp)[:, None] + np.arange(-1, 3), weights, old, renormalized=True)


def _table() -> tuple[Floats, Floats]:
    """Keys's cubic within one pixel, and from there to the next."""
    x = np.arange(TABLE + 1, dtype=np.float32) / np.float32(TABLE)
    return _cubic(x), _cubic(x + 1)


def _cubic(x: Floats) -> Floats:
    near = (np.float32(1.5) * x - np.float32(2.5)) * x * x + 1
    far = ((np.float32(-0.5) * x + np.float32(2.5)) * x - 4) * x + 2
    return np.where(x >= 2, np.float32(0), np.where(x >= 1, far, near))


def _triangle(x: Floats) -> Floats:
    return (1 - x).clip(0)


def _lanczos(x: Floats) -> Floats:
    return np.where(x > 3, np.float32(0), np.sinc(x) * np.sinc(x / 3)).astype(np.float32)


# By method the kernel of a distance, and how far it reaches.
KERNELS: dict[Method, tuple[Kernel, float]] = {
    "bilinear": (_triangle, 1.0),
    "bicubic": (_cubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}


def _spans(old: int, new: int, kernel: Kernel, reach: float, antialias: bool) -> Taps:
    """Of all pixels that a kernel reaches, which grows with the factor by which the image shrinks."""
    growth = max(old / new, 1.0) if antialias else 1.0
    centres = _centres(old, new)
    first = np.ceil(centres - reach * growth - 0.5).astype(np.intp)
    places = first[:, None] + np.arange(2 * int(np.ceil(reach * growth)) + 1)
    distances = np.abs(places + np.float32(0.5) - centres[:, None]) / np.float32(growth)
    return within(places, kernel(distances.astype(np.float32)), old, renormalized=True)
