"""Accuracy of the variants of one device, with what changes from the baseline and from INT8 without training."""

import math
from collections.abc import Mapping

from stages.contracts.evaluation import Counts
from stages.contracts.predictions import Predictions
from stages.contracts.row import Accuracy, Change, Share
from stages.contracts.variant import BASELINE, Variant
from stages.statistics import paired
from stages.statistics.assignment import permuted
from stages.statistics.chance import at_chance
from stages.statistics.paired import Z95
from stages.statistics.per_class import ClassReport


def compare(counts: Mapping[str, Counts], predictions: Mapping[str, Predictions]) -> dict[str, Accuracy]:
    """Accuracy of each variant that was evaluated, beside the others; both arguments by its name."""
    changes = _changes(predictions)
    return {
        name: Accuracy(
            top1=share(count.top1_correct, count.images),
            top5=share(count.top5_correct, count.images),
            averages=ClassReport.from_predictions(predictions[name]).averages(),
            agreement=_agreement(name, changes.get(name)),
            change=changes.get(name),
            change_from_int8=_change(predictions, Variant.parse(name).post_training.name, name),
            at_chance=at_chance(predictions[name]) if name == BASELINE.name else None,
            answered=count.answered,
            permuted=permuted(predictions[name]) if name == BASELINE.name else None,
        )
        for name, count in counts.items()
    }


def share(correct: float, images: int) -> Share:
    """Correct images with Wilson's interval."""
    return Share(correct, images, wilson_ci95(correct, images))


def wilson_ci95(correct: float, total: int) -> tuple[float, float]:
    """Wilson's 95 % score interval for a share (Wilson 1927, JASA 22:209): honest near 0, near 1 and for 20 images.

    By its formula, since SciPy's takes whole numbers, and a tie counts as its share.
    """
    portion, wide = correct / total, Z95**2 / total
    middle = (portion + wide / 2) / (1 + wide)
    reach = math.sqrt(wide * (portion * (1 - portion) + wide / 4)) / (1 + wide)
    return (middle - reach if correct else 0.0), (middle + reach if correct < total else 1.0)


def _changes(predictions: Mapping[str, Predictions]) -> dict[str, Change]:
    """Of each variant from the baseline, with p-values adjusted for how many there are."""
    changes = {name: _change(predictions, BASELINE.name, name) for name in predictions}
    return paired.adjust({name: change for name, change in changes.items() if change})


def _change(predictions: Mapping[str, Predictions], before: str, after: str) -> Change | None:
    """None for a variant and itself, and where either was not evaluated or they were on other images."""
    old, new = predictions.get(before), predictions.get(after)
    if before == after or old is None or new is None or not paired.same_images(old, new):
        return None
    return paired.compare(old, new)


def _agreement(name: str, change: Change | None) -> float | None:
    """Share of images with the baseline's answer."""
    if name == BASELINE.name:
        return 1.0
    return (change.images - change.changed) / change.images if change else None
