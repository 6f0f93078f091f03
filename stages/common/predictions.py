"""predictions.csv of a variant: the best classes of every evaluation image."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from stages.common import files

TOP = 5
HEADER = (
    "file",
    "label",
    *(f"class{i}" for i in range(1, TOP + 1)),
    *(f"score{i}" for i in range(1, TOP + 1)),
)


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


def write(predictions: Iterable[Prediction], path: Path) -> None:
    """One line per image, as they come; a score keeps the digits that a float32 has."""
    rows = ((p.file, p.label, *_five(p.classes), *_five([f"{score:.7g}" for score in p.scores])) for p in predictions)
    files.write_csv(path, HEADER, rows)


def _five(values: Sequence[object]) -> list[object]:
    """A model of fewer classes leaves the last cells empty."""
    return [*values, *[""] * (TOP - len(values))]


def read(path: Path) -> list[Prediction]:
    """In the order of the images; empty where the file is missing, PipelineError where it is damaged."""
    return files.parse_csv(path, _prediction, "predictions") if path.exists() else []


def _prediction(line: dict[str, str]) -> Prediction:
    classes = [int(line[f"class{i}"]) for i in range(1, TOP + 1) if line[f"class{i}"]]
    scores = [float(line[f"score{i}"]) for i in range(1, TOP + 1) if line[f"score{i}"]]
    return Prediction(line["file"], int(line["label"]), classes, scores)
