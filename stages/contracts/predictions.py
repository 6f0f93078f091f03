"""predictions.csv of a variant: the best classes of every evaluation image."""

import math
import sys
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar, overload

import numpy as np
import numpy.typing as npt

from ..core import files

TOP = 5
# Stands for a class that a model of fewer does not have.
NONE = -1
# What 32 bits hold.
HIGHEST = 2**31 - 1
Value = TypeVar("Value")
HEADER = (
    "file",
    "label",
    *(f"class{i}" for i in range(1, TOP + 1)),
    *(f"score{i}" for i in range(1, TOP + 1)),
)


def top_k(probabilities: npt.NDArray[np.float32], k: int = 5) -> npt.NDArray[np.int64]:
    """Best classes of each row [n, classes] -> [n, k], best first; ties go to the lower class."""
    return np.argsort(-probabilities, axis=1, kind="stable")[:, :k]


class Prediction(NamedTuple):
    """The best classes of one image, best first, with their probabilities."""

    file: str
    label: int
    classes: list[int]
    scores: list[float]

    @property
    def right(self) -> bool:
        """Whether the best class is the label."""
        return self.classes[0] == self.label


class Predictions(Sequence[Prediction]):
    """Those of all images in their order, in numbers and not in objects: of a million, 76 MB in place of 600."""

    def __init__(self, predictions: Iterable[Prediction]) -> None:
        """Takes them one by one."""
        self._files: list[str] = []
        self._labels, self._classes, self._scores = array("i"), array("i"), array("d")
        for prediction in predictions:
            # All variants are evaluated on the same files.
            self._files.append(sys.intern(prediction.file))
            self._labels.append(prediction.label)
            self._classes.extend(_five(prediction.classes, NONE))
            self._scores.extend(_five(prediction.scores, 0.0))

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> list[Prediction]: ...
    def __getitem__(self, index: int | slice) -> Prediction | list[Prediction]:
        """A prediction, or a list of them for a slice."""
        if isinstance(index, slice):
            return [self[one] for one in range(len(self))[index]]
        first = TOP * range(len(self))[index]
        classes = [label for label in self._classes[first : first + TOP] if label != NONE]
        scores = self._scores[first : first + len(classes)].tolist()
        return Prediction(self._files[index], self._labels[index], classes, scores)


def write(predictions: Iterable[Prediction], path: Path) -> None:
    """One line per image, as they come; a score keeps the digits that a float32 has."""
    rows = (
        (p.file, p.label, *_five([*map(str, p.classes)], ""), *_five([f"{score:.7g}" for score in p.scores], ""))
        for p in predictions
    )
    files.write_csv(path, HEADER, rows)


def _five(values: Sequence[Value], nothing: Value) -> list[Value]:
    """A model of fewer classes leaves the last cells empty."""
    return [*values, *[nothing] * (TOP - len(values))]


def read(path: Path) -> Predictions:
    """In the order of the images; empty where the file is missing, PipelineError where it is damaged."""
    return Predictions(files.parse_csv(path, _prediction, "predictions") if path.exists() else [])


def _prediction(line: dict[str, str]) -> Prediction:
    classes = [_class(line[f"class{i}"]) for i in range(1, TOP + 1) if line[f"class{i}"]]
    scores = [_score(line[f"score{i}"]) for i in range(1, TOP + 1) if line[f"score{i}"]]
    if not 0 < len(classes) == len(scores):
        raise ValueError(f"{line['file']} has {len(classes)} classes and {len(scores)} scores")
    return Prediction(line["file"], _class(line["label"]), classes, scores)


def _class(cell: str) -> int:
    number = int(cell)
    if not 0 <= number <= HIGHEST:
        raise ValueError(f"{cell[:20]} is no class")
    return number


def _score(cell: str) -> float:
    score = float(cell)
    if not math.isfinite(score):
        raise ValueError(f"a score of {score}")
    return score
