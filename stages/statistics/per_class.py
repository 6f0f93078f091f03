"""How well a variant knows each class, what it takes each class for, and whether its confidence can be believed."""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stages.contracts.labels import Labels
from stages.contracts.predictions import NONE, Prediction
from stages.contracts.row import ClassAverages
from stages.core import files

# As many as Guo et al. take.
BINS = 15
# A larger matrix cannot be read.
MOST_DRAWN = 30
SCORES_SHOWN = 10
PAIRS_SHOWN = 15
# Tables of every class, each after the variant's name.
CLASSES = Path("reports/classes")
SCORES, CONFUSION, CALIBRATION = ".csv", "_confusion.csv", "_calibration.csv"
FILES = (SCORES, CONFUSION, CALIBRATION)


@dataclass(frozen=True)
class ClassScore:
    """Shares from 0 to 1: precision is None for a class that is never predicted, recall for one without images.

    F1 is the harmonic mean of both as 2 TP / (2 TP + FP + FN), which either of these leaves defined, at 0.
    """

    label: int
    precision: float | None
    recall: float | None
    f1: float
    support: int


@dataclass(frozen=True)
class Bin:
    """Images whose best class has a probability in (low, high]; its mean, and the share of them that are right."""

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


class Confused(NamedTuple):
    """Images of one class that are taken for another, by the baseline and by a variant."""

    label: int
    predicted: int
    before: int
    after: int


@dataclass(frozen=True)
class ClassReport:
    """All of one variant: classes that are a label or a prediction, by number; images by (label, predicted); bins.

    The counts are sparse and empty bins are left out, so that it grows with the images and not with the classes.
    """

    scores: tuple[ClassScore, ...]
    confusion: Mapping[tuple[int, int], int]
    bins: tuple[Bin, ...]

    @classmethod
    def from_predictions(cls, predictions: Sequence[Prediction]) -> "ClassReport":
        """Compare the best class of every image with its label; without an answer an image is in no bin or count."""
        confusion = Counter((p.label, p.best) for p in predictions if p.best is not None)
        return cls(_scores(predictions), dict(sorted(confusion.items())), _bins(predictions))

    @property
    def known(self) -> tuple[ClassScore, ...]:
        """The classes that have images."""
        return tuple(score for score in self.scores if score.support)

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean distance of confidence and accuracy over the images, by bins.

        Guo et al. 2017, On Calibration of Modern Neural Networks, eq. 3, with their 15 bins of equal width.
        """
        distances = [bin_.images * abs(bin_.confidence - bin_.accuracy) for bin_ in self.bins]
        return sum(distances) / sum(bin_.images for bin_ in self.bins)

    def averages(self) -> ClassAverages:
        """Over the classes that have images.

        An undefined precision counts as 0, as in scikit-learn's classification_report (zero_division=0).
        """
        precision, recall, f1 = zip(*((s.precision or 0.0, s.recall or 0.0, s.f1) for s in self.known), strict=True)
        weights = [score.support for score in self.known]
        return ClassAverages(
            macro_precision=float(np.mean(precision)),
            macro_recall=float(np.mean(recall)),
            macro_f1=float(np.mean(f1)),
            weighted_precision=float(np.average(precision, weights=weights)),
            weighted_recall=float(np.average(recall, weights=weights)),
            weighted_f1=float(np.average(f1, weights=weights)),
            ece=self.ece,
        )

    @property
    def drawable(self) -> bool:
        """Whether a confusion matrix of all classes can be read."""
        return 2 <= len(self.known) <= MOST_DRAWN

    def matrix(self) -> npt.NDArray[np.int64]:
        """Images of each of n known classes by answer [n, n + 1]; the last column is of classes without images."""
        places = {score.label: place for place, score in enumerate(self.known)}
        counts = np.zeros((len(places), len(places) + 1), np.int64)
        for (label, predicted), images in self.confusion.items():
            counts[places[label], places.get(predicted, -1)] += images
        return counts

    def write(self, folder: Path, variant: str, labels: Labels) -> None:
        """Scores with the names of the classes, counts and bins, as three tables."""
        scores = ((score.label, labels.name(score.label), *astuple(score)[1:]) for score in self.scores)
        columns = ("class", "name", "precision", "recall", "f1", "support")
        files.write_csv(folder / f"{variant}{SCORES}", columns, scores, for_people=True)
        counts = ((*pair, images) for pair, images in self.confusion.items())
        files.write_csv(folder / f"{variant}{CONFUSION}", ("label", "predicted", "images"), counts)
        names = [field.name for field in fields(Bin)]
        files.write_csv(folder / f"{variant}{CALIBRATION}", names, map(astuple, self.bins))

    @classmethod
    def read(cls, variant: str) -> "ClassReport":
        """What `summarize` wrote of a variant; PipelineError where a table is missing or damaged."""
        return cls(
            tuple(files.parse_csv(CLASSES / f"{variant}{SCORES}", _score, "classes")),
            dict(files.parse_csv(CLASSES / f"{variant}{CONFUSION}", _count, "classes")),
            tuple(files.parse_csv(CLASSES / f"{variant}{CALIBRATION}", _bin, "classes")),
        )


def _scores(predictions: Sequence[Prediction]) -> tuple[ClassScore, ...]:
    """Of each class that is a label or a prediction."""
    from sklearn.metrics import precision_recall_fscore_support  # takes a second to import

    if not predictions:
        return ()
    labels, predicted = [p.label for p in predictions], [NONE if p.best is None else p.best for p in predictions]
    classes = sorted({*labels, *predicted} - {NONE})
    with warnings.catch_warnings():
        # It would take the numbers of many classes with few images for measured values, and say so.
        warnings.simplefilter("ignore", UserWarning)
        columns = precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=np.nan)
    return tuple(
        ClassScore(label, _known(precision), _known(recall), float(f1), int(support))
        for label, precision, recall, f1, support in zip(classes, *columns, strict=True)
    )


def _known(share: float) -> float | None:
    return None if np.isnan(share) else float(share)


def _bins(predictions: Sequence[Prediction]) -> tuple[Bin, ...]:
    """The bins that have images."""
    edges = np.linspace(0, 1, BINS + 1)
    answered = [p for p in predictions if p.best is not None]
    confidences = np.array([p.score for p in answered])
    right = np.array([p.top1 for p in answered])
    # Rounding takes probabilities a little beyond 1, and 0 is in no half-open bin.
    places = np.clip(np.digitize(confidences, edges, right=True) - 1, 0, BINS - 1)
    return tuple(
        Bin(
            low=float(edges[place]),
            high=float(edges[place + 1]),
            images=int(inside.sum()),
            confidence=float(confidences[inside].mean()),
            accuracy=float(right[inside].mean()),
        )
        for place in range(BINS)
        if (inside := places == place).any()
    )


def lowest(report: ClassReport) -> list[ClassScore]:
    """The classes with the lowest F1, those with more images first."""
    return sorted(report.known, key=lambda score: (score.f1, -score.support, score.label))[:SCORES_SHOWN]


def most_lost(before: ClassReport, after: ClassReport) -> list[tuple[ClassScore, ClassScore]]:
    """The classes that lose F1 from `before` to `after`, on the same images, the largest loss first."""
    pairs = [pair for pair in zip(before.known, after.known, strict=True) if pair[0].f1 > pair[1].f1]
    return sorted(pairs, key=lambda pair: (pair[1].f1 - pair[0].f1, -pair[0].support, pair[0].label))[:SCORES_SHOWN]


def most_confused(before: ClassReport, after: ClassReport) -> list[Confused]:
    """The pairs of classes that either takes for each other most often."""
    pairs = [
        Confused(label, predicted, *(report.confusion.get((label, predicted), 0) for report in (before, after)))
        for label, predicted in before.confusion.keys() | after.confusion.keys()
        if label != predicted
    ]
    return sorted(pairs, key=lambda pair: (-max(pair.before, pair.after), -pair.after, *pair[:2]))[:PAIRS_SHOWN]


def _score(line: dict[str, str]) -> ClassScore:
    precision, recall = (float(line[name]) if line[name] else None for name in ("precision", "recall"))
    return ClassScore(int(line["class"]), precision, recall, float(line["f1"]), int(line["support"]))


def _count(line: dict[str, str]) -> tuple[tuple[int, int], int]:
    return (int(line["label"]), int(line["predicted"])), int(line["images"])


def _bin(line: dict[str, str]) -> Bin:
    low, high, confidence, accuracy = (float(line[name]) for name in ("low", "high", "confidence", "accuracy"))
    return Bin(low, high, int(line["images"]), confidence, accuracy)
