"""Holds a converted model against the SavedModel: by the size of its files, and by its answers on calibration images.

A converter may end well, and have written a file without weights, or one that computes something else.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..contracts import closeness, reference
from ..contracts.closeness import Gap
from ..contracts.conversion import ConvertJob, Scalar
from ..contracts.predictions import top_k
from ..contracts.preprocessing import Floats
from ..core import files
from ..core.errors import PipelineError
from ..data import examples
from .contract import Session, infer
from .repeated import STEPS

# Precisions whose answers are the model's but for rounding; all others have weights of one byte.
BYTES = {"fp32": 4, "fp16": 2}
# Of the bytes that all parameters would take. Of batch normalisation a converter folds three of four into the layer
# before, and what no answer depends on it leaves out; none of these prunes weights, shares or packs them.
LEAST = 0.25
# Of a probability: a step of TFLite's INT8 softmax (1/256).
STEP = 2.0**-8
# The SavedModel is sure of an image whose best class it puts so far before the next: quantisation would have to move
# both by half of that. Of fewer such images chance tells too little.
MARGIN, ENOUGH = 0.5, 8
REMEDY = "leave this variant out of `variants`, and report it"


def refuse_small(job: ConvertJob) -> None:
    """PipelineError if the files are too small to hold the model's weights."""
    size = sum(files.sizes(Path(job.target)).values())
    needed = job.reference.parameters * BYTES.get(job.precision, 1)
    if size < LEAST * needed:
        raise PipelineError(
            f"its files have {size:,} bytes, where {job.reference.parameters:,} parameters in {job.precision} take "
            f"{needed:,}, so that weights are missing: {REMEDY}",
            code="weights-missing",
            size_bytes=size,
            needed_bytes=needed,
        )


def compare(job: ConvertJob, session: Session) -> dict[str, Scalar]:
    """How many images were compared, the largest difference of a probability, and the share with the same best class.

    PipelineError if that is more than rounding explains in FP32 and FP16, or nothing that INT8 explains elsewhere. An
    image that the SavedModel has no number for is left out.
    """
    shown = examples.read(job.preprocessing, Path(job.calibration))
    ours = _reference(job, len(shown.asked))
    known = np.isfinite(ours).all(axis=1)
    if not known.any():
        return {"compared_images": 0}
    theirs = _answers(session, shown.asked, job.batch_sizes[-1])
    words = f"{known.sum()} images of {job.calibration if shown.real else 'noise'}"
    gap = closeness.between(ours[known], theirs[known], words, _most(job, session))
    if job.precision in BYTES:
        _refuse_other(gap)
    else:
        _refuse_broken(ours[known], gap)
    return {
        "compared_images": len(gap.answers),
        "compared_difference": gap.difference,
        "compared_agreement": 1 - gap.moved / len(gap.answers),
    }


def _reference(job: ConvertJob, images: int) -> Floats:
    """The SavedModel's answers; PipelineError where they are to other images."""
    answers = reference.read(Path(job.reference.answers))
    if len(answers) != images:
        raise PipelineError(
            f"{job.reference.answers} has answers to {len(answers)} images and {job.calibration} gives {images}: run "
            "`make repro`, which writes it anew",
            code="answers-to-others",
            file=job.reference.answers,
        )
    return answers


def _answers(session: Session, images: Floats, size: int) -> Floats:
    """In batches that the runtime has engines for."""
    starts = range(0, len(images), size)
    return np.concatenate([infer(session, images[start : start + size]).copy() for start in starts])


def _most(job: ConvertJob, session: Session) -> float:
    """What rounding may move a probability: of FP32 a GPU takes 10 bits too, as TF32, which are those of FP16.

    FP16 weights alone move EfficientNet-Lite0 and MobileNetV2 by 0.007 on 96 photographs (TFLite). An engine rounds
    what flows between layers besides, and other models are deeper.
    """
    return closeness.MOST if job.precision == "fp16" or session.on_gpu else job.reference.allowed_difference


def _refuse_other(gap: Gap) -> None:
    if not gap.close:
        raise PipelineError(
            f"it answers otherwise than the SavedModel: {gap}; {REMEDY}",
            code="conversion-differs",
            difference=gap.difference,
            moved=gap.moved,
        )


def _refuse_broken(ours: Floats, gap: Gap) -> None:
    """PipelineError for what quantisation does not do: no numbers, one answer to all images, or guesses."""
    theirs = gap.answers
    if lost := int((~np.isfinite(theirs)).any(axis=1).sum()):
        raise _broken(f"answers {lost} of {gap.words} with NaN or infinity, and the SavedModel none")
    if _alike(ours, theirs):
        raise _broken(f"answers {gap.words} alike, which the SavedModel tells apart")
    sure = _sure(ours)
    if guesses(ours[sure], theirs[sure]):
        raise _broken(
            f"agrees no more than by chance on those {sure.sum()} of {gap.words} that the SavedModel is sure of"
        )


def _broken(what: str) -> PipelineError:
    return PipelineError(
        f"it {what}, so that its weights are lost, or beyond what INT8 can tell apart: leave this variant out of "
        "`variants`, or train for INT8 (`-int8-qat`)",
        code="conversion-broken",
    )


def _alike(ours: Floats, theirs: Floats) -> bool:
    """Whether theirs are one answer to all images, and ours are several, another one for half of the images or more."""
    others = np.abs(ours - theirs[:1]).max(axis=1) > STEPS
    several = len(ours) >= ENOUGH and _spread(ours) > STEPS
    return several and _spread(theirs) <= STEP and 2 * int(others.sum()) >= len(ours)


def _spread(answers: Floats) -> float:
    """The largest difference of a probability from the first image's."""
    return float(np.abs(answers - answers[:1]).max())


def _sure(answers: Floats) -> npt.NDArray[np.bool_]:
    """Which images have a best class far before the next."""
    best = np.sort(answers, axis=1)
    sure: npt.NDArray[np.bool_] = best[:, -1] - best[:, -2] >= MARGIN
    return sure


def guesses(ours: Floats, theirs: Floats) -> bool:
    """Whether the best classes of theirs [images, classes] tell nothing of ours, of which quantisation keeps most.

    They agree on no more than half of the images, and on no more than the same answers would if they were dealt out at
    random: Cohen's kappa is not above 0 (Cohen, A coefficient of agreement for nominal scales, 1960).
    """
    if len(ours) < ENOUGH:
        return False
    first, second = (top_k(side, 1)[:, 0] for side in (ours, theirs))
    chance = float((first[:, None] == second).mean())
    return float((first == second).mean()) <= min(chance, 0.5)
