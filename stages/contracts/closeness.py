"""How far two answers to the same images are apart."""

import numpy as np

from .preprocessing import Floats


def distance(first: Floats, second: Floats) -> float:
    """The largest difference of a probability; infinite where one of both is no number."""
    with np.errstate(invalid="ignore"):  # infinity less infinity
        gap = np.abs(first - second)
    both = ~np.isfinite(first) & ~np.isfinite(second)
    return float(np.where(both, 0, np.where(np.isfinite(gap), gap, np.inf)).max())
