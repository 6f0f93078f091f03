"""Classify the evaluation set with one variant, and count: for the stage `evaluate`, and for a cluster."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from stages.contracts import labels, paths, predictions
from stages.contracts.predictions import TOP, Prediction, top_k
from stages.contracts.preprocessing import Floats, Preprocessing
from stages.core import files, isolate
from stages.core.errors import PipelineError
from stages.data import batches
from stages.measurement import system
from stages.runtimes import Manifest
from stages.runtimes.contract import Session, infer


def classify(session: Session, batch: Floats) -> Iterator[tuple[list[int], list[float]]]:
    """The best classes of each image, best first, with their probabilities."""
    probabilities = infer(session, batch)
    best = top_k(probabilities, TOP)
    scores = np.take_along_axis(probabilities, best, axis=1).astype(float)
    return zip(best.tolist(), scores.tolist(), strict=True)


def predict(variant: str, batch_size: int) -> Iterator[Prediction]:
    """Classify every evaluation image in order; decoding runs beside inference, and memory stays flat."""
    table = labels.read_table(paths.EVALUATION / "labels.csv")
    preprocessing = Preprocessing.from_json(files.read_json(paths.MODEL)["preprocessing"])
    session = Manifest.read(variant).load()
    images_and_labels = iter(table)
    with tqdm(desc=variant, total=len(table), unit="image", disable=None) as bar:
        for batch in batches.batches([paths.EVALUATION / name for name, _ in table], preprocessing, batch_size):
            for classes, values in classify(session, batch):
                yield Prediction(*next(images_and_labels), classes, values)
            bar.update(len(batch))


def write(found: Iterable[Prediction], path: Path) -> dict[str, int]:
    """Write predictions.csv as the images come.

    Returns how many there are, and for how many the best class, or one of the best five, is the label.
    """
    counts = {"images": 0, "top1_correct": 0, "top5_correct": 0}

    def counted() -> Iterator[Prediction]:
        for prediction in found:
            counts["images"] += 1
            counts["top1_correct"] += prediction.right
            counts["top5_correct"] += prediction.label in prediction.classes
            yield prediction

    predictions.write(counted(), path)
    return counts


def evaluate(variant: str, batch_size: int) -> dict[str, int]:
    """Write predictions.csv and return the counts."""
    return write(predict(variant, batch_size), paths.record(variant, "predictions.csv"))


def run(name: str, batch_size: int) -> str | None:
    """Evaluate, and write evaluate.json, predictions.csv and evaluate_system.csv; why it failed, if it did."""
    manifest = Manifest.read(name)
    blank(name)
    if manifest.status != "ok":
        # Not this stage's failure: it is done, and runs again when there is a model.
        files.write_json(paths.record(name, "evaluate.json"), {"status": "skipped", "reason": manifest.reason})
        return None
    try:
        with system.watched(paths.record(name, "evaluate_system.csv")):
            found = isolate.call(evaluate, name, batch_size)
    except PipelineError as error:
        return lost(name, str(error))
    files.write_json(paths.record(name, "evaluate.json"), {"status": "ok", "reason": None} | found)
    return None


def blank(name: str) -> None:
    """No predictions and no samples, so that none of an earlier run stay."""
    predictions.write([], paths.record(name, "predictions.csv"))
    system.write([], paths.record(name, "evaluate_system.csv"))


def lost(name: str, reason: str) -> str:
    """Record why there is no result; returns it."""
    files.write_json(paths.record(name, "evaluate.json"), {"status": "failed", "reason": reason})
    return reason
