"""Images on which two forms of a model are compared: real ones through its own preprocessing, and noise."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..contracts.images import CALIBRATION
from ..contracts.preprocessing import Floats, Preprocessing
from . import batches

REAL, NOISE, VARIED = 16, 4, 8


class Examples(NamedTuple):
    """Model inputs [n, height, width, channels], in words what they are, and how many of the first ones are real."""

    images: Floats
    words: str
    real: int = 0

    @property
    def few(self) -> Floats:
        """The first ones, and those that differ most from each other."""
        return np.concatenate([self.images[:NOISE], self.images[-VARIED:]])

    @property
    def asked(self) -> Floats:
        """The real ones; all where none is."""
        return self.images[: self.real or None]


def read(prepared: Preprocessing, folder: Path = CALIBRATION) -> Examples:
    """Some images of the folder, spread over it, besides noise; noise alone where it has none."""
    noise = [prepared.noise(NOISE), varied(prepared)]
    words = f"{NOISE + VARIED} images of noise"
    if real := len(images := batches.some(folder, prepared, REAL)):
        return Examples(np.concatenate([images, *noise]), f"{real} images of {folder} and {words}", real)
    return Examples(np.concatenate(noise), words)


def varied(prepared: Preprocessing) -> Floats:
    """Seeded model inputs [8, height, width, channels] that differ in brightness, colour and contrast."""
    rng = np.random.default_rng(0)
    light, strength = np.linspace(0, 255, VARIED), rng.uniform(0, 80, VARIED)
    colour = light[:, None] + rng.uniform(-60, 60, (VARIED, prepared.shape[2]))
    grain = rng.standard_normal((VARIED, *prepared.shape)) * strength[:, None, None, None]
    return prepared.normalize(np.clip(colour[:, None, None, :] + grain, 0, 255).astype(np.uint8))
