"""`make check`: prints the choice, and what got worse since another revision; the exit status says how it ended."""

from functools import partial

from stages.commands import results
from stages.commands.outcome import current_choice
from stages.commands.revision import predictions_at, record_at
from stages.contracts import codec, predictions
from stages.contracts.evaluation import predictions_path
from stages.contracts.predictions import Predictions
from stages.contracts.row import SUMMARY, Summary
from stages.contracts.selection import SELECTION, Selection
from stages.core.shown import say
from stages.reporting import table
from stages.selection import regression
from stages.selection.choice import void

# How it ended, so that a CI job can tell; 1 is an error, 2 a wrong command line.
STATUS = {"selected": 0, "cannot tell": 3, "nothing within budget": 4}
REGRESSION = 5


def check(against: str | None) -> int:
    """Print the choice, and what got worse since the revision `against` if one is named; returns the exit status."""
    with results.last() as excuse:
        return _check(against, current_choice(excused=bool(excuse)))


def _check(against: str | None, chosen: Selection) -> int:
    summary = codec.read(Summary, SUMMARY)
    say(table.title(summary))
    for name, judged in chosen.variants.items():
        say(f"  {name}: {judged.reason or chosen.mark}")
    say(chosen.sentence)
    least = STATUS["cannot tell"] if void(summary) else 0
    return max(least, STATUS[chosen.outcome], _compared(against, summary, chosen) if against is not None else 0)


def _compared(revision: str, summary: Summary, chosen: Selection) -> int:
    """Print what got worse since then, and what cannot be told; returns the exit status."""
    old, before = record_at(Summary, revision, SUMMARY), record_at(Selection, revision, SELECTION)
    ships = regression.Chosen(before.winner, chosen.winner)
    verdict = regression.compare(old, summary, ships, partial(predictions_at, revision), predictions_of)
    return told(verdict, f"Worse than {revision}", f"Nothing that was compared is worse than {revision} beyond noise.")


def told(verdict: regression.Verdict, worse: str, fine: str) -> int:
    """Print what a comparison found; returns the exit status. `worse` begins a sentence, `fine` is one, or empty."""
    for note in verdict.notes:
        say(f"  {note}")
    if verdict.unknown:
        say(f"Cannot tell: {'; '.join(verdict.unknown)}.")
    if sentence := f"{worse}: {'; '.join(verdict.regressions)}." if verdict.regressions else fine:
        say(sentence)
    return REGRESSION if verdict.regressions else STATUS["cannot tell"] if verdict.unknown else 0


def predictions_of(variant: str) -> Predictions:
    """Those of the last run."""
    return predictions.read(predictions_path(variant))
