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
    "tied",
    "top1",
    "top5",
)


def top_k(probabilities: npt.NDArray[np.float32], k: int = 5) -> npt.NDArray[np.int64]:
    """Best classes of each row [n, classes] -> [n, k], best first; ties go to the lower class."""
    return np.argsort(-probabilities, axis=1, kind="stable")[:, :k]


class Answer(NamedTuple):
    """The best classes of one image, best first, with their probabilities; none where one is NaN or infinite.

    `tied` classes share the first place. `top1` and `top5` say how right that is, from 0 to 1: of a tie, the share of
    its classes that a fair draw would take into the first one or five, if the label is among them.
    """

    classes: list[int]
    scores: list[float]
    tied: int
    top1: float
    top5: float


def answers(probabilities: npt.NDArray[np.float32], labels: Sequence[int]) -> list[Answer]:
    """Of each image [n, classes], compared with its label."""
    finite = np.isfinite(probabilities).all(axis=1)
    known = np.where(finite[:, None], probabilities, 0)
    best = top_k(known, TOP)
    scores = np.take_along_axis(known, best, axis=1).astype(float)
    tied = (known == scores[:, :1]).sum(axis=1)
    wanted = known[np.arange(len(known)), labels][:, None]
    above, level = (known > wanted).sum(axis=1), (known == wanted).sum(axis=1)
    shares = [np.clip((k - above) / level, 0, 1).tolist() for k in (1, TOP)]
    columns = zip(finite.tolist(), best.tolist(), scores.tolist(), tied.tolist(), *shares, strict=True)
    return [Answer(*answer) if answered else NO_ANSWER for answered, *answer in columns]


NO_ANSWER = Answer([], [], 0, 0.0, 0.0)


class Prediction(NamedTuple):
    """What a variant answers on one image, as in `Answer`."""

    file: str
    label: int
    classes: list[int]
    scores: list[float]
    tied: int
    top1: float
    top5: float

    @classmethod
    def plain(cls, file: str, label: int, classes: list[int], scores: list[float]) -> "Prediction":
        """One without ties, and where no class is given without an answer."""
        right = float(label in classes[:1]), float(label in classes)
        return cls(file, label, classes, scores, min(1, len(classes)), *right)

    @property
    def best(self) -> int | None:
        """The best class, of several the lowest; None without an answer."""
        return self.classes[0] if self.classes else None

    @property
    def score(self) -> float:
        """Its probability."""
        return self.scores[0] if self.scores else 0.0

    @property
    def right(self) -> bool:
        """Whether the best class is the label, and it alone."""
        return self.top1 == 1


class Predictions(Sequence[Prediction]):
    """Those of all images in their order, in numbers and not in objects: of a million, 76 MB in place of 600."""

    def __init__(self, predictions: Iterable[Prediction]) -> None:
        """Takes them one by one."""
        self._files: list[str] = []
        self._labels, self._classes, self._scores = array("i"), array("i"), array("d")
        self._tied, self._right = array("i"), array("d")
        for prediction in predictions:
            # All variants are evaluated on the same files.
            self._files.append(sys.intern(prediction.file))
            self._labels.append(prediction.label)
            self._classes.extend(_five(prediction.classes, NONE))
            self._scores.extend(_five(prediction.scores, 0.0))
            self._tied.append(prediction.tied)
            self._right.extend((prediction.top1, prediction.top5))

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
        place = range(len(self))[index]
        first = TOP * place
        classes = [label for label in self._classes[first : first + TOP] if label != NONE]
        scores = self._scores[first : first + len(classes)].tolist()
        right = self._right[2 * place : 2 * place + 2]
        return Prediction(self._files[index], self._labels[index], classes, scores, self._tied[index], *right)


def write(predictions: Iterable[Prediction], path: Path) -> None:
    """One line per image, as they come; a score keeps the digits that a float32 has."""
    rows = (
        (
            p.file,
            p.label,
            *_five([*map(str, p.classes)], ""),
            *_five([f"{score:.7g}" for score in p.scores], ""),
            p.tied,
            *(f"{share:.7g}" for share in (p.top1, p.top5)),
        )
        for p in predictions
    )
    files.write_csv(path, HEADER, rows, for_people=True)


def _five(values: Sequence[Value], nothing: Value) -> list[Value]:
    """A model of fewer classes leaves the last cells empty."""
    return [*values, *[nothing] * (TOP - len(values))]


def read(path: Path) -> Predictions:
    """In the order of the images; empty where the file is missing, PipelineError where it is damaged."""
    return Predictions(files.parse_csv(path, _prediction, "predictions") if path.exists() else [])


def _prediction(line: dict[str, str]) -> Prediction:
    file = files.name_in(line["file"])
    classes = [_class(line[f"class{i}"]) for i in range(1, TOP + 1) if line[f"class{i}"]]
    scores = [_score(line[f"score{i}"]) for i in range(1, TOP + 1) if line[f"score{i}"]]
    label, tied = _class(line["label"]), int(line.get("tied", 1))
    if len(classes) != len(scores) or bool(classes) != (tied > 0):
        raise ValueError(f"{file} has {len(classes)} classes, {len(scores)} scores and {tied} in first place")
    if "tied" not in line:  # of a revision before ties were counted
        return Prediction.plain(file, label, classes, scores)
    return Prediction(file, label, classes, scores, tied, _score(line["top1"]), _score(line["top5"]))


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
