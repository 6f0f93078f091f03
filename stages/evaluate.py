"""Classify the evaluation set with one variant: top-1, top-5 and every prediction; adopts what a cluster classified."""

import argparse

from stages.cluster import adopt
from stages.contracts.variant import argument
from stages.core import errors
from stages.core.errors import PipelineError
from stages.measurement import evaluation
from stages.params import load
from stages.params.data import EvaluationParams


def main() -> None:
    """Read params, evaluate one variant, and write evaluate.json, predictions.csv and evaluate_system.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", type=argument)
    name = parser.parse_args().variant.name
    batch_size = load.read(EvaluationParams).batch_size
    sweep, unit = adopt.read(), f"evaluate@{name}"
    if not sweep.sources.get(name) or not evaluation.has_model(name):
        status = evaluation.run(name, batch_size)
    elif unit in sweep.failed:
        status = evaluation.record_failure(name, sweep.failed[unit])
    else:
        sweep.adopt(unit)
        return
    if status.state == "failed":
        raise PipelineError(f"{name} could not be evaluated: {status.reason}", code="not-evaluated", variant=name)


if __name__ == "__main__":
    errors.run(main)
