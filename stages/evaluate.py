"""Classify the evaluation set with one variant: top-1, top-5 and every prediction."""

import argparse
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from stages.common import errors, files, images, isolate, labels, metrics, params, paths, predictions, system, variants
from stages.common.errors import PipelineError
from stages.common.images import Preprocessing
from stages.common.predictions import TOP, Prediction
from stages.runtimes import Manifest
from stages.runtimes.protocol import infer


def predict(variant: str, batch_size: int) -> list[Prediction]:
    """Classify every evaluation image in order; decoding runs beside inference, and memory stays flat."""
    table = labels.read_table(paths.EVALUATION / "labels.csv")
    preprocessing = Preprocessing.from_json(files.read_json(paths.MODEL)["preprocessing"])
    session = Manifest.read(variant).load()
    found: list[Prediction] = []
    with tqdm(desc=variant, total=len(table), unit="image", disable=None) as bar:
        for batch in images.batches([paths.EVALUATION / name for name, _ in table], preprocessing, batch_size):
            probabilities = infer(session, batch)
            best = metrics.top_k(probabilities, TOP)
            scores = np.take_along_axis(probabilities, best, axis=1).astype(float)
            for classes, values in zip(best.tolist(), scores.tolist(), strict=True):
                found.append(Prediction(*table[len(found)], classes, values))
            bar.update(len(batch))
    return found


def count(found: Sequence[Prediction]) -> dict[str, int]:
    """How many images there are, and for how many the best class, or one of the best five, is the label."""
    return {
        "images": len(found),
        "top1_correct": sum(p.right for p in found),
        "top5_correct": sum(p.label in p.classes for p in found),
    }


def evaluate(variant: str, batch_size: int) -> dict[str, int]:
    """Write predictions.csv and return the counts."""
    found = predict(variant, batch_size)
    predictions.write(found, paths.record(variant, "predictions.csv"))
    return count(found)


def main() -> None:
    """Read params, evaluate one variant, and write evaluate.json, predictions.csv and evaluate_system.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", choices=variants.VALID)
    name = parser.parse_args().variant
    batch_size = params.load().evaluation.batch_size
    manifest = Manifest.read(name)
    record = paths.record(name, "evaluate.json")
    predictions.write([], paths.record(name, "predictions.csv"))
    system.write([], paths.record(name, "evaluate_system.csv"))
    if manifest.status != "ok":
        # Not this stage's failure: it is done, and runs again when there is a model.
        files.write_json(record, {"status": "skipped", "reason": manifest.reason})
        return
    try:
        with system.watched(paths.record(name, "evaluate_system.csv")):
            found = isolate.call(evaluate, name, batch_size)
    except PipelineError as error:
        files.write_json(record, {"status": "failed", "reason": str(error)})
        raise PipelineError(f"{name} could not be evaluated: {error}") from None
    files.write_json(record, {"status": "ok", "reason": None} | found)


if __name__ == "__main__":
    errors.run(main)
