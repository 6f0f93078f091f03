"""How pixels become model input: written by `save`, applied wherever an image meets a model."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Channels = Literal["rgb", "bgr", "gray"]
Resize = Literal["crop", "stretch", "pad", "resize-crop"]
Method = Literal["nearest", "bilinear", "bicubic", "lanczos", "area"]
Library = Literal["pillow", "tensorflow", "opencv"]
Floats = npt.NDArray[np.float32]
# Of an image before it is scaled: uint8, or float32 where a library does not round.
Number = np.number[Any]
Pixels = npt.NDArray[Number]


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes model input: cut or fitted to the shape, resized, then x * scale + offset by channel."""

    height: int
    width: int
    # crop: centred, of the shape's proportions, `crop_fraction` of the largest that fits. stretch: the whole image.
    # pad: the whole image in its own proportions, on black. resize-crop: resized so that the shorter side has
    # `resize_side` pixels (None: the input's shorter side divided by `crop_fraction`), then the centre.
    resize: Resize
    crop_fraction: float
    # One value for each channel, in the order of `channels`: rgb, bgr, or gray for a single one.
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    channels: Channels
    method: Method = "bicubic"
    # Whether the filter grows with the factor by which an image shrinks.
    antialias: bool = True
    # Whose arithmetic.
    library: Library = "pillow"
    resize_side: int | None = None
    # Whether an image is turned as its EXIF tag says.
    orientation: bool = True

    def __post_init__(self) -> None:
        """Of a record that somebody edited, too."""
        count = 1 if self.channels == "gray" else 3
        if not len(self.scale) == len(self.offset) == count:
            raise ValueError(f"{self.channels} takes {count} values each of scale and offset")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the model's input."""
        return self.height, self.width, len(self.scale)

    @property
    def shorter_side(self) -> int:
        """Of what `resize-crop` cuts the centre out of."""
        # What is a whole number may lack a little as a float.
        return self.resize_side or int(min(self.height, self.width) / self.crop_fraction + 1e-6)

    @property
    def arithmetic(self) -> str:
        """How pixels are made of others, in words."""
        by = {"pillow": "Pillow", "tensorflow": "tf.image, which does not round", "opencv": "OpenCV"}[self.library]
        if self.method in ("nearest", "area"):
            return f"{self.method}, by {by}"
        return f"{self.method} {'with' if self.antialias else 'without'} antialiasing, by {by}"

    @property
    def pixel_type(self) -> type[Number]:
        """Of pixels before they are scaled: TensorFlow does not round."""
        return np.float32 if self.library == "tensorflow" else np.uint8

    @property
    def bytes_per_image(self) -> int:
        """Of its pixels."""
        return int(np.prod(self.shape)) * np.dtype(self.pixel_type).itemsize

    def normalize(self, pixels: Pixels) -> Floats:
        """Scale RGB or gray pixels [..., width, channels] in 0-255 to what the model was trained on."""
        ordered = pixels[..., ::-1] if self.channels == "bgr" else pixels
        # Whole rows at a time: NumPy is ten times slower on an inner dimension of 3.
        rows = ordered.reshape(*pixels.shape[:-2], -1)
        scale, offset = (np.array(values * pixels.shape[-2], np.float32) for values in (self.scale, self.offset))
        scaled: Floats = np.multiply(rows, scale)
        scaled += offset
        return scaled.reshape(pixels.shape)

    def noise(self, count: int) -> Floats:
        """The same seeded pixels each time as so many model inputs, for where what they show does not matter."""
        return self.normalize(np.random.default_rng(0).integers(0, 256, (count, *self.shape), np.uint8))
