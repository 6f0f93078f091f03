"""The part of an image that the model sees, in the model's size, by Pillow."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..contracts.preprocessing import Floats, Preprocessing


def model_input(image: Image.Image, prepared: Preprocessing) -> Floats:
    """Model input of one RGB image: float32 [height, width, channels]."""
    return prepared.normalize(pixels(image, prepared))


def pixels(image: Image.Image, prepared: Preprocessing) -> npt.NDArray[np.uint8]:
    """What the model sees of an RGB image before it is scaled: uint8 RGB or gray [height, width, channels]."""
    fitted = _fitted(image.convert("L") if prepared.channels == "gray" else image, prepared)
    return np.asarray(fitted).reshape(prepared.shape)


def _fitted(image: Image.Image, prepared: Preprocessing) -> Image.Image:
    size = (prepared.width, prepared.height)
    if prepared.resize == "pad":
        return _padded(image, prepared)
    box = _crop(image, prepared) if prepared.resize == "crop" else image
    return box if box.size == size else box.resize(size, Image.Resampling.BICUBIC)


def _padded(image: Image.Image, prepared: Preprocessing) -> Image.Image:
    width, height = prepared.width, prepared.height
    ratio = min(width / image.width, height / image.height)
    # ImageOps.pad fails on an image so long that it would have no width.
    inner = max(1, round(image.width * ratio)), max(1, round(image.height * ratio))
    page = Image.new(image.mode, (width, height))
    fitted = image if image.size == inner else image.resize(inner, Image.Resampling.BICUBIC)
    page.paste(fitted, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return page


def _crop(image: Image.Image, prepared: Preprocessing) -> Image.Image:
    if image.width * prepared.height <= image.height * prepared.width:
        across = image.width * prepared.crop_fraction
        down = across * (prepared.height / prepared.width)
    else:
        down = image.height * prepared.crop_fraction
        across = down * (prepared.width / prepared.height)
    width, height = max(1, round(across)), max(1, round(down))
    left, top = (image.width - width + 1) // 2, (image.height - height + 1) // 2
    return image.crop((left, top, left + width, top + height))
