"""Choose the variant to ship: the best one within the budget, and for every other one why it is not."""

from dataclasses import replace

from stages.contracts import codec
from stages.contracts.row import SUMMARY, Summary
from stages.contracts.selection import SELECTION
from stages.core import errors, files
from stages.params import load
from stages.params.choice import Budget, SelectParams
from stages.params.measurement import BenchmarkParams
from stages.selection import choice, record


def main() -> None:
    """Read params and the summary, choose, and write selection.json; no choice is an answer too, and no failure."""
    batch_sizes = load.read(BenchmarkParams).batch_sizes
    question = choice.ask(load.read(SelectParams), load.read(Budget), batch_sizes)
    chosen = record.select(codec.read(Summary, SUMMARY), question, load.digest())
    codec.write(replace(chosen, figures=files.sha256(SUMMARY)), SELECTION)


if __name__ == "__main__":
    errors.run(main)
