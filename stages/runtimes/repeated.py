"""Asks a loaded model again: one answer to an image, alone or beside others, the first time or the second."""

import numpy as np

from ..contracts.closeness import distance
from ..contracts.preprocessing import Floats
from ..contracts.variant import Variant
from ..core.errors import PipelineError
from .contract import Session, infer

IMAGES = 8
# Of a probability, between batches of two sizes, which take other kernels: what FP16 and TF32 round, and what a value
# does that falls into the next step of INT8.
ROUNDING, STEPS = 2e-2, 0.1
ROUNDED = ("fp32", "fp16")


def refuse(session: Session, images: Floats, name: str) -> None:
    """PipelineError if the model of that variant answers some images alone otherwise than in their batch, or by lot.

    The batch is a whole one of the evaluation: some models answer otherwise only from so many images on.
    """
    first = infer(session, images)[:IMAGES].copy()
    alone = np.concatenate([infer(session, images[place : place + 1]).copy() for place in range(len(first))])
    again = infer(session, images)[:IMAGES]
    most = ROUNDING if Variant.parse(name).precision in ROUNDED else STEPS
    if (gap := distance(first, again)) > most:
        raise _refused("answers-random", gap, most, "asked twice for the same images")
    if (gap := distance(first, alone)) > most:
        raise _refused("answers-mixed", gap, most, f"asked for {len(images)} images together and for each alone")


def _refused(code: str, gap: float, most: float, asked: str) -> PipelineError:
    return PipelineError(
        f"{asked}, its answers are up to {gap:.2g} apart (allowed: {most}), so that no figure of it means much: leave "
        "this variant out of `variants`, and report it",
        code=code,
        difference=gap,
    )
