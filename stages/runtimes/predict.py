"""Classes of images by one loaded model, equal for all runtimes: the verb `predict`, and what a cluster's nodes do."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from ..contracts import labels, predictions
from ..contracts.evaluation import Answered, Counts
from ..contracts.messages import PredictOrder
from ..contracts.predictions import Answer, Prediction, answers
from ..contracts.preprocessing import Floats, Preprocessing
from ..core.errors import PipelineError
from ..data import batches
from . import repeated
from .contract import Session, infer

# Names that a sentence shows.
FIRST = 3
# Fewer images may be answered alike by a model that tells others apart.
ENOUGH = 8


def predict(session: Session, preprocessing: Preprocessing, order: PredictOrder, name: str) -> Counts:
    """Classify the images of a folder in the order of its labels.csv, and write the table; `name` is the variant's."""
    folder = Path(order.images)
    table = labels.read_table(folder / "labels.csv")
    decoded = batches.batches([folder / file for file, _ in table], preprocessing, order.batch_size)
    first = next(decoded)
    repeated.refuse(session, first, name)
    layers: list[str] = []
    rows = _predictions(session, table, chain([first], decoded), name, layers)
    return write(rows, Path(order.target), name, layers)


def _predictions(
    session: Session, table: list[tuple[str, int]], decoded: Iterable[Floats], name: str, layers: list[str]
) -> Iterator[Prediction]:
    """Decoding runs beside inference, and memory stays flat; `layers` takes that which spoils the first answer."""
    from tqdm import tqdm

    images = iter(table)
    with tqdm(desc=name, total=len(table), unit="image", disable=None) as bar:
        for batch in decoded:
            shown = list(islice(images, len(batch)))
            found = classify(session, batch, [label for _, label in shown])
            if not layers and (spoilt := [place for place, answer in enumerate(found) if not answer.classes]):
                layers.append(session.first_not_finite(batch[spoilt[0] : spoilt[0] + 1]))
            yield from (Prediction(file, label, *answer) for (file, label), answer in zip(shown, found, strict=True))
            bar.update(len(batch))


def classify(session: Session, batch: Floats, labels: Sequence[int]) -> list[Answer]:
    """What the model answers on each image, compared with its label."""
    return answers(infer(session, batch), labels)


def write(rows: Iterable[Prediction], path: Path, name: str, layers: Sequence[str] = ()) -> Counts:
    """Write the predictions.csv of a variant as the images come, and count them; PipelineError if these are no answers.

    `layers` is filled meanwhile: with that which spoils the first answer.
    """
    tally = _Tally(layers)
    predictions.write(map(tally.counted, rows), path)
    if fault := tally.counts.no_answers(name):
        raise PipelineError(fault, code="no-answers", **dataclasses.asdict(tally.counts.answered))
    return tally.counts


class _Tally:
    """Counts predictions that pass."""

    def __init__(self, layers: Sequence[str]) -> None:
        self._layers = layers
        self._images = self._without = self._tied = 0
        self._top1 = self._top5 = 0.0
        self._first_without: list[str] = []
        self._labels: set[int] = set()
        self._kinds: set[tuple[float, ...]] = set()

    def counted(self, row: Prediction) -> Prediction:
        """The same."""
        self._images += 1
        self._top1 += row.top1
        self._top5 += row.top5
        self._tied += row.tied > 1
        if not row.classes:
            self._without += 1
            self._first_without += [row.file] if self._without <= FIRST else []
        if len(self._kinds) < 2:
            self._kinds.add((*row.classes, *row.scores))
        if len(self._labels) < 2:
            self._labels.add(row.label)
        return row

    @property
    def counts(self) -> Counts:
        """Of all so far."""
        alike = len(self._kinds) == 1 < len(self._labels) and self._images >= ENOUGH and not self._without
        layer = next(iter(self._layers), "")
        answered = Answered(self._without, tuple(self._first_without), self._tied, alike, layer)
        return Counts(self._images, self._top1, self._top5, answered)
