"""Classify the evaluation set with one variant: top-1, top-5 and every prediction."""

import argparse
import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from stages.common import errors, files, images, isolate, metrics, params, paths, variants
from stages.common.errors import PipelineError
from stages.common.images import Preprocessing
from stages.runtimes import Manifest
from stages.runtimes.protocol import infer

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


def read_labels(table: Path) -> tuple[list[str], list[int]]:
    """Files and classes of data/evaluation/labels.csv."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["file"] for row in rows], [int(row["label"]) for row in rows]


def predict(variant: str, batch_size: int) -> list[Prediction]:
    """Classify every evaluation image in order; decoding runs beside inference, and memory stays flat."""
    names, labels = read_labels(paths.EVALUATION / "labels.csv")
    preprocessing = Preprocessing.from_json(files.read_json(paths.MODEL)["preprocessing"])
    session = Manifest.read(variant).load()
    found: list[Prediction] = []
    with tqdm(desc=variant, total=len(names), unit="image", disable=None) as bar:
        for batch in images.batches([paths.EVALUATION / name for name in names], preprocessing, batch_size):
            probabilities = infer(session, batch)
            best = metrics.top_k(probabilities, TOP)
            scores = np.take_along_axis(probabilities, best, axis=1).astype(float)
            for classes, values in zip(best.tolist(), scores.tolist(), strict=True):
                found.append(Prediction(names[len(found)], labels[len(found)], classes, values))
            bar.update(len(batch))
    return found


def count(predictions: list[Prediction]) -> dict[str, int]:
    """How many images there are, and for how many the best class, or one of the best five, is the label."""
    return {
        "images": len(predictions),
        "top1_correct": sum(p.classes[0] == p.label for p in predictions),
        "top5_correct": sum(p.label in p.classes for p in predictions),
    }


def write_predictions(predictions: list[Prediction], path: Path) -> None:
    """One line per image; a score keeps the digits that a float32 has."""
    rows = ((p.file, p.label, *p.classes, *(f"{score:.7g}" for score in p.scores)) for p in predictions)
    files.write_csv(path, HEADER, rows)


def evaluate(variant: str, batch_size: int) -> dict[str, int]:
    """Write predictions.csv and return the counts."""
    predictions = predict(variant, batch_size)
    write_predictions(predictions, paths.record(variant, "predictions.csv"))
    return count(predictions)


def main() -> None:
    """Read params, evaluate one variant, and write evaluate.json and predictions.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", choices=variants.VALID)
    name = parser.parse_args().variant
    batch_size = params.load().evaluation.batch_size
    manifest = Manifest.read(name)
    record = paths.record(name, "evaluate.json")
    write_predictions([], paths.record(name, "predictions.csv"))
    if manifest.status != "ok":
        # Not this stage's failure: it is done, and runs again when there is a model.
        files.write_json(record, {"status": "skipped", "reason": manifest.reason})
        return
    try:
        files.write_json(record, {"status": "ok", "reason": None} | isolate.call(evaluate, name, batch_size))
    except PipelineError as error:
        files.write_json(record, {"status": "failed", "reason": str(error)})
        raise PipelineError(f"{name} could not be evaluated: {error}") from None


if __name__ == "__main__":
    errors.run(main)
