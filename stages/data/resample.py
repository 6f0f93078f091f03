"""Resizes an image by the arithmetic of the library that a model's pixels came from, without that library."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..contracts.preprocessing import Pixels, Preprocessing
from . import resample_opencv, resample_tensorflow

Size = tuple[int, int]
PILLOW = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "area": Image.Resampling.BOX,
}


def resize(image: Image.Image, size: Size, prepared: Preprocessing) -> Pixels:
    """The image in a width and height: [height, width, channels] of the type `prepared.pixel_type`."""
    if prepared.library == "pillow":
        return _array(_by_pillow(image, size, prepared))
    pixels = _array(image)
    if prepared.library == "tensorflow":
        return resample_tensorflow.resize(pixels, size, prepared.method, prepared.antialias)
    return resample_opencv.resize(pixels, size, prepared.method)


def _by_pillow(image: Image.Image, size: Size, prepared: Preprocessing) -> Image.Image:
    method = PILLOW[prepared.method]
    if image.size == size:
        return image
    if prepared.method in ("bilinear", "bicubic") and not prepared.antialias:
        # Its resize always antialiases, and what it calls a transform never does.
        return image.transform(size, Image.Transform.EXTENT, (0, 0, *image.size), method)
    return image.resize(size, method)


def _array(image: Image.Image) -> npt.NDArray[np.uint8]:
    return np.asarray(image).reshape(image.height, image.width, -1)
