"""Register the chosen variant in MLflow as a model that takes images, with the alias `champion`, if it is certain."""

import argparse
from pathlib import Path

from stages.contracts import codec
from stages.contracts.row import SUMMARY, Summary
from stages.contracts.selection import SELECTION, Selection
from stages.core import errors
from stages.params import load
from stages.params.data import EvaluationParams
from stages.params.model import ModelParams
from stages.params.tracking import TrackingParams
from stages.selection.certainty import hesitation
from stages.serving.winner import Winner
from stages.tracking import champion
from stages.tracking.store import tracking_uri


def main() -> None:
    """Read params and the choice, and register the winner if there is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, default=Path(), help="the main checkout, where the default store lies")
    parser.add_argument("--experiment", default="", help="name of the DVC experiment, if any")
    arguments = parser.parse_args()
    chosen, summary = codec.read(Selection, SELECTION), codec.read(Summary, SUMMARY)
    uri = tracking_uri(load.read(TrackingParams), arguments.checkout)
    if arguments.experiment:  # a sweep tries what nobody has decided to ship
        champion.leave(uri, f"the experiment {arguments.experiment}")
    elif reason := hesitation(chosen, summary):
        champion.leave(uri, reason)
    else:
        name, batch_size = load.read(ModelParams).registered_name, load.read(EvaluationParams).batch_size
        champion.register(Winner.of(chosen, summary), summary.here, name, batch_size, uri)


if __name__ == "__main__":
    errors.run(main)
