"""Whether a model's outputs are other classes than they were taken for: labels are right and in wrong places."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stages.contracts.predictions import Prediction
from stages.contracts.row import Permuted

LEVEL = 0.01
# Of a class with fewer images nothing is known.
FEWEST_IMAGES = 3
# Classes that are looked at, those with the most images first: the matrix is dense.
MOST_CLASSES = 2000
# By how much of the images an assignment must be better, and how many it must get right.
GAIN, USEFUL = 0.2, 0.5
Ints = npt.NDArray[np.int64]


class Assigned(NamedTuple):
    """By class: its images, those right as it is named and as it is assigned, and the place of the assigned output."""

    images: Ints
    named: Ints
    right: Ints
    output: Ints

    @property
    def moved(self) -> npt.NDArray[np.bool_]:
        """Which classes have another output, that most of their images are answered as."""
        moved: npt.NDArray[np.bool_] = self.output != np.arange(len(self.output))
        return moved & (2 * self.right > self.images)

    @property
    def exchanged(self) -> bool:
        """Whether the moved classes have the outputs of each other and no more."""
        places = np.flatnonzero(self.moved)
        return set(places.tolist()) == set(self.output[places].tolist())


def permuted(predictions: Sequence[Prediction]) -> Permuted | None:
    """How many classes are answered as another one throughout, if the best assignment is so much better.

    It gets half of the images right or more. It gains a fifth of them, or the moved classes exchange their outputs:
    no model takes each of two classes for the other more often than not, however small their part of the images is.
    """
    images = Counter(p.label for p in predictions)
    rows = sorted(label for label, count in images.most_common(MOST_CLASSES) if count >= FEWEST_IMAGES)
    enough = {*rows}
    counts = Counter((p.label, p.best) for p in predictions if p.best is not None and p.label in enough)
    taken = {best for (label, best), count in counts.items() if label != best and 2 * count > images[label]}
    if len(taken) < 2:  # as of nearly every model: no matrix is made
        return None
    found = assign(counts, images, rows, taken)
    moved, total, named, right = (int(part.sum()) for part in (found.moved, *found[:3]))
    better = right - named >= GAIN * total or found.exchanged
    if moved < 2 or right < USEFUL * total or not better or _by_chance(found):
        return None
    return Permuted(moved, len(rows), total, named, right)


def assign(
    counts: Counter[tuple[int, int]], images: Counter[int], rows: Sequence[int], others: Iterable[int]
) -> Assigned:
    """Each class of `rows` gets one output of theirs or of `others`, so that most images are right.

    It is the linear sum assignment of the confusion counts (Crouse 2016, IEEE Trans. Aerosp. Electron. Syst. 52:1679).
    """
    from scipy.optimize import linear_sum_assignment  # takes a second to import, and only `summarize` needs it

    columns = {output: place for place, output in enumerate([*rows, *sorted({*others} - {*rows})])}
    places = {label: place for place, label in enumerate(rows)}
    matrix = np.zeros((len(rows), len(columns)), np.int64)
    for (label, output), count in counts.items():
        if output in columns:
            matrix[places[label], columns[output]] = count
    labels, outputs = linear_sum_assignment(matrix, maximize=True)
    return Assigned(np.array([images[label] for label in rows]), matrix.diagonal(), matrix[labels, outputs], outputs)


def _by_chance(found: Assigned) -> bool:
    """Whether the images of the moved classes may as well be right as named, at 1 %.

    By the sign test (McNemar's, exact) on those that one of both gets right. Its p-value is multiplied by the number of
    choices of so many classes, as Bonferroni's is, since the best of them is looked at.
    """
    from scipy.stats import binom

    moved = found.moved
    gained, lost = int(found.right[moved].sum()), int(found.named[moved].sum())
    choices = math.comb(len(moved), int(moved.sum()))
    return bool(binom.logsf(gained - 1, gained + lost, 0.5) + math.log(choices) > math.log(LEVEL))
