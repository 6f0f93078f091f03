"""The part of an image that the model sees, in the model's size."""

import numpy as np
from PIL import Image

from ..contracts.preprocessing import Floats, Pixels, Preprocessing
from .resample import Size, resize

# What is a whole number may lack so little of it as a float.
SLACK = 1e-6


def model_input(image: Image.Image, prepared: Preprocessing) -> Floats:
    """Model input of one RGB image: float32 [height, width, channels]."""
    return prepared.normalize(pixels(image, prepared))


def pixels(image: Image.Image, prepared: Preprocessing) -> Pixels:
    """What the model sees of an RGB image before it is scaled: RGB or gray [height, width, channels]."""
    seen = image.convert("L") if prepared.channels == "gray" else image
    if prepared.resize == "pad":
        return _padded(seen, prepared)
    if prepared.resize == "resize-crop":
        return _middle(resize(seen, _outer(seen, prepared), prepared), prepared)
    shown = _crop(seen, prepared) if prepared.resize == "crop" else seen
    return resize(shown, (prepared.width, prepared.height), prepared)


def _padded(image: Image.Image, prepared: Preprocessing) -> Pixels:
    """As ImageOps.pad rounds it, which fails on an image so long that it has no width; or tf.image.resize_with_pad."""
    page = np.zeros(prepared.shape, prepared.pixel_type)
    ratio = min(prepared.width / image.width, prepared.height / image.height)
    across, down = image.width * ratio, image.height * ratio
    if prepared.library == "tensorflow":
        width, height = max(1, int(across + SLACK)), max(1, int(down + SLACK))
        left, top = (max(0, int((prepared.width - across) / 2)), max(0, int((prepared.height - down) / 2)))
    else:
        width, height = max(1, round(across)), max(1, round(down))
        left, top = (prepared.width - width) // 2, (prepared.height - height) // 2
    page[top : top + height, left : left + width] = resize(image, (width, height), prepared)
    return page


def _outer(image: Image.Image, prepared: Preprocessing) -> Size:
    """A shorter side of so many pixels, and the other as torchvision's Resize rounds it."""
    side = prepared.shorter_side
    shorter = min(image.size)
    return max(1, int(side * image.width / shorter)), max(1, int(side * image.height / shorter))


def _middle(found: Pixels, prepared: Preprocessing) -> Pixels:
    """As torchvision's CenterCrop rounds it, with black where there is less than that."""
    page = np.zeros(prepared.shape, found.dtype)
    (to_rows, rows), (to_columns, columns) = (
        _overlap(*axis) for axis in zip(found.shape[:2], page.shape, strict=False)
    )
    page[to_rows, to_columns] = found[rows, columns]
    return page


def _overlap(old: int, new: int) -> tuple[slice, slice]:
    """Of one axis the places that are filled, and those that fill them."""
    before, cut = max(0, (new - old) // 2), round(max(0, old - new) / 2)
    length = min(old, new)
    return slice(before, before + length), slice(cut, cut + length)


def _crop(image: Image.Image, prepared: Preprocessing) -> Image.Image:
    if image.width * prepared.height <= image.height * prepared.width:
        across = image.width * prepared.crop_fraction
        down = across * (prepared.height / prepared.width)
    else:
        down = image.height * prepared.crop_fraction
        across = down * (prepared.width / prepared.height)
    if prepared.library == "tensorflow":  # as smart_resize of Keras rounds it
        width, height = max(1, int(across + SLACK)), max(1, int(down + SLACK))
        left, top = (image.width - width) // 2, (image.height - height) // 2
    else:
        width, height = max(1, round(across)), max(1, round(down))
        left, top = (image.width - width + 1) // 2, (image.height - height + 1) // 2
    return image.crop((left, top, left + width, top + height))
