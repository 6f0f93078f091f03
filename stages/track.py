"""Log the results to MLflow, once: a parent run for the pipeline and a child run for each variant."""

import argparse
from pathlib import Path

from stages.contracts import codec
from stages.contracts.row import SUMMARY, Summary
from stages.contracts.selection import SELECTION, Selection
from stages.core import errors
from stages.params import document
from stages.tracking import runs


def main() -> None:
    """Read params, the figures and the choice, and log what the store does not have yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, default=Path(), help="the main checkout, where the default store lies")
    parser.add_argument("--experiment", default="", help="name of the DVC experiment, if any")
    arguments = parser.parse_args()
    summary, chosen = codec.read(Summary, SUMMARY), codec.read(Selection, SELECTION)
    runs.track(runs.Results(document.check(), summary, chosen, arguments.experiment), arguments.checkout)


if __name__ == "__main__":
    errors.run(main)
