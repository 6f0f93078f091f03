"""Classes of images by one loaded model, equal for all runtimes: the verb `predict`, and what a cluster's nodes do."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from ..contracts import labels, predictions
from ..contracts.evaluation import Counts
from ..contracts.messages import PredictOrder
from ..contracts.predictions import TOP, Prediction, top_k
from ..contracts.preprocessing import Floats, Preprocessing
from ..core.errors import PipelineError
from ..data import batches
from .contract import Session, infer


def predict(session: Session, preprocessing: Preprocessing, order: PredictOrder, name: str) -> Counts:
    """Classify the images of a folder in the order of its labels.csv, and write the table; `name` is the bar's."""
    folder = Path(order.images)
    table = labels.read_table(folder / "labels.csv")
    decoded = batches.batches([folder / file for file, _ in table], preprocessing, order.batch_size)
    return write(_predictions(session, table, decoded, name), Path(order.target))


def _predictions(
    session: Session, table: list[tuple[str, int]], decoded: Iterable[Floats], name: str
) -> Iterator[Prediction]:
    """Decoding runs beside inference, and memory stays flat."""
    from tqdm import tqdm

    images = iter(table)
    with tqdm(desc=name, total=len(table), unit="image", disable=None) as bar:
        for batch in decoded:
            shown = list(islice(images, len(batch)))
            answers = classify(session, batch, [file for file, _ in shown])
            for image, (classes, scores) in zip(shown, answers, strict=True):
                yield Prediction(*image, classes, scores)
            bar.update(len(batch))


def classify(session: Session, batch: Floats, names: Sequence[str] = ()) -> Iterator[tuple[list[int], list[float]]]:
    """The best classes of each image, best first, with their probabilities; PipelineError where one is not finite."""
    probabilities = infer(session, batch)
    if not (finite := np.isfinite(probabilities).all(axis=1)).all():
        bad = int(finite.argmin())
        raise _not_finite(names[bad] if names else f"{bad} of a batch")
    best = top_k(probabilities, TOP)
    scores = np.take_along_axis(probabilities, best, axis=1).astype(float)
    return zip(best.tolist(), scores.tolist(), strict=True)


def _not_finite(image: str) -> PipelineError:
    return PipelineError(
        f"the model answers NaN or infinity on image {image}: leave this variant out of `variants`, or choose a "
        "precision whose range holds what the model computes",
        code="not-finite",
        image=image,
    )


def write(rows: Iterable[Prediction], path: Path) -> Counts:
    """Write predictions.csv as the images come, and count them and those that are right."""
    images = top1 = top5 = 0

    def counted() -> Iterator[Prediction]:
        nonlocal images, top1, top5
        for row in rows:
            images += 1
            top1 += row.right
            top5 += row.label in row.classes
            yield row

    predictions.write(counted(), path)
    return Counts(images, top1, top5)
