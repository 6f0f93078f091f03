"""How pixels become model input: written by `save`, applied wherever an image meets a model."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Channels = Literal["rgb", "bgr", "gray"]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes model input: cut or fitted to the shape, resized, then x * scale + offset by channel."""

    height: int
    width: int
    # crop: centred, of the shape's proportions, `crop_fraction` of the largest that fits. stretch: the whole image.
    # pad: the whole image in its own proportions, on black.
    resize: Literal["crop", "stretch", "pad"]
    crop_fraction: float
    # One value for each channel, in the order of `channels`: rgb, bgr, or gray for a single one.
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    channels: Channels

    def __post_init__(self) -> None:
        """Of a record that somebody edited, too."""
        count = 1 if self.channels == "gray" else 3
        if not len(self.scale) == len(self.offset) == count:
            raise ValueError(f"{self.channels} takes {count} values each of scale and offset")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the model's input."""
        return self.height, self.width, len(self.scale)

    def normalize(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        """Scale RGB or gray pixels [..., width, channels] in 0-255 to what the model was trained on."""
        ordered = pixels[..., ::-1] if self.channels == "bgr" else pixels
        # Whole rows at a time: NumPy is ten times slower on an inner dimension of 3.
        rows = ordered.reshape(*pixels.shape[:-2], -1)
        scale, offset = (np.array(values * pixels.shape[-2], np.float32) for values in (self.scale, self.offset))
        scaled: Floats = rows * scale
        scaled += offset
        return scaled.reshape(pixels.shape)

    def noise(self, count: int) -> Floats:
        """The same seeded pixels each time as so many model inputs, for where what they show does not matter."""
        return self.normalize(np.random.default_rng(0).integers(0, 256, (count, *self.shape), np.uint8))
