"""Classify the evaluation set with one variant: top-1, top-5 and every prediction; adopts what a cluster found."""

import argparse

from stages.cluster import kept
from stages.core import errors
from stages.core.errors import PipelineError
from stages.measurement import evaluation
from stages.params import document
from stages.runtimes import Manifest
from stages.runtimes.registry import VALID


def main() -> None:
    """Read params, evaluate one variant, and write evaluate.json, predictions.csv and evaluate_system.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", choices=VALID)
    name = parser.parse_args().variant
    batch_size = document.load().evaluation.batch_size
    sweep, unit = kept.read(), f"evaluate@{name}"
    failed = sweep.failed.get(unit)
    if not sweep.sources[name] or Manifest.read(name).status != "ok":
        failed = evaluation.run(name, batch_size)
    elif failed:
        evaluation.blank(name)
        evaluation.lost(name, failed)
    else:
        sweep.adopt(unit)
    if failed:
        raise PipelineError(f"{name} could not be evaluated: {failed}")


if __name__ == "__main__":
    errors.run(main)
