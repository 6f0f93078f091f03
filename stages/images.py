"""Collect the labelled images for evaluation and training and those for calibration, check each, keep them apart."""

import argparse
import tempfile
from pathlib import Path

from stages.contracts import codec
from stages.contracts.images import IMAGES, remarks
from stages.core import errors
from stages.core.shown import say
from stages.data.sets import Division, Draw, Request, collect
from stages.params import load, training
from stages.params.data import CalibrationParams, EvaluationParams, SplitParams
from stages.params.measurement import variants
from stages.params.model import ModelParams
from stages.params.training import TrainParams


def main() -> None:
    """Read params, collect, and write data/evaluation, data/calibration, data/train and their record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, default=Path(), help="where relative paths of params.yaml start")
    with tempfile.TemporaryDirectory() as work:
        record, failures = collect(request(), parser.parse_args().checkout, Path(work))
    codec.write(record, IMAGES)
    say(*remarks(record.evaluation, record.calibration))
    errors.fail(failures)


def request() -> Request:
    """The sets that params.yaml describes."""
    split, calibration = load.read(SplitParams), load.read(CalibrationParams)
    return Request(
        load.read(EvaluationParams).source,
        Draw(calibration.source, calibration.images, calibration.seed),
        training.source(load.read(ModelParams), load.read(TrainParams), variants()),
        Division(split.source, split.evaluation, split.seed) if split.source else None,
    )


if __name__ == "__main__":
    errors.run(main)
