"""How far two forms of a model answer the same images apart, and how far rounding alone may take them."""

from typing import NamedTuple

import numpy as np

from .predictions import top_k
from .preprocessing import Floats

# Of a probability, and of the largest logit, which rounds before softmax does: in FP32, and where FP16 takes part.
SINGLE, HALF = (1e-4, 1e-6), (1e-2, 2.5e-4)
# Of a probability, where another library has built the graph anew.
REBUILT = 1e-3
# However large logits are: beyond it images change their class.
MOST = 5e-2
# Of the range of the logarithms, in which a softmax that is all 0 and 1 still shows what went into it. It is a part of
# what probabilities may differ by.
LOGS = 10
# Smaller probabilities are not compared by it. One that was made as 1 less another is coarse: of the steps that FP32
# has below 1.
SMALLEST, SMALLEST_COARSE, STEP = 1e-30, 1e-4, 2.0**-24


class Gap(NamedTuple):
    """How far answers are from a reference's: of a probability, of their logarithms' range, and in classes."""

    difference: float
    logs: float
    moved: int
    allowed: float
    # What was asked, in words, and what was answered: float32 [images, classes].
    words: str
    answers: Floats

    @property
    def close(self) -> bool:
        """Whether rounding explains it."""
        # INT8 steps, for which more than FP16's rounding is allowed, move small probabilities far.
        return self.difference <= self.allowed and (self.logs <= LOGS * self.allowed or self.allowed > MOST)

    def __str__(self) -> str:
        """Such as: 0.98 away on 16 images of data/calibration (allowed: 0.0001), and 9 of 16 get another class."""
        far, most = f"{self.difference:.2g}", f"{self.allowed:.2g}"
        if self.difference <= self.allowed:
            far, most = f"{self.logs:.1%} of the range of its logarithms", f"{LOGS * self.allowed:.1%}"
        classes = f"{self.moved} of {len(self.answers)} get another class"
        return f"{far} away on {self.words} (allowed: {most}), and {classes}"


def between(reference: Floats, other: Floats, words: str, most: float) -> Gap:
    """Of `other` from `reference`, both float32 [images, classes], which are answers to what `words` says.

    One that is no number in the reference alone, or in the other, is infinitely far.
    """
    known = bool(np.isfinite(reference).all(axis=1).any())
    moved = int((top_k(reference, 1) != top_k(other, 1)).sum())
    far = distance(reference, other) if known else float("inf")
    return Gap(far, _of_logs(reference, other), moved, most, words, other)


def allowed(half: bool, logits: float = 1.0) -> float:
    """Of a probability, in a model with FP16 or without, whose logits are up to so large."""
    plain, share = HALF if half else SINGLE
    return min(max(plain, share * logits), MOST)


def alike(answers: Floats) -> bool:
    """Whether no image is told from another, as far as FP32 shows."""
    first = np.broadcast_to(answers[:1], answers.shape)
    most = allowed(half=False)
    return distance(first, answers) <= most and _of_logs(first, answers) <= LOGS * most


def distance(first: Floats, second: Floats) -> float:
    """The largest difference of a probability; infinite where one of both is no number."""
    with np.errstate(invalid="ignore"):  # infinity less infinity
        gap = np.abs(first - second)
    both = ~np.isfinite(first) & ~np.isfinite(second)
    return float(np.where(both, 0, np.where(np.isfinite(gap), gap, np.inf)).max())


def _of_logs(reference: Floats, other: Floats) -> float:
    """The largest difference of logarithms, as a share of their range."""
    pair = [np.nan_to_num(side, nan=1, posinf=1) for side in (reference, other)]
    coarse = [side % STEP == 0 for side in pair]
    smallest = np.where(coarse[0] | coarse[1], SMALLEST_COARSE, SMALLEST)
    ours, theirs = (np.log(np.clip(side, smallest, 1)) for side in pair)
    return float(np.abs(ours - theirs).max() / max(1.0, float(np.abs(ours).max())))
