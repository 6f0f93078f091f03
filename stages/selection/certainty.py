"""Whether a run is certain enough to move the champion, which a doubtful one must leave where it is."""

from collections.abc import Iterator, Sequence

from stages.contracts import codec
from stages.contracts.conversion import Conversion, conversion_path
from stages.contracts.row import SUMMARY, Row, Summary
from stages.contracts.selection import Selection
from stages.core import files
from stages.statistics.doubts import words


def hesitation(chosen: Selection, summary: Summary) -> str | None:
    """Why this run moves no champion, whichever it is; None where nothing speaks against it."""
    return next(_reasons(chosen, summary), None)


def _reasons(chosen: Selection, summary: Summary) -> Iterator[str]:
    """Variants that this machine cannot run are no reason: most machines have some."""
    failed = [row.name for row in summary.here if row.status.state == "failed"]
    baseline = summary.baseline()
    if chosen.outcome != "selected":
        yield chosen.outcome
    if failed:
        yield f"{', '.join(failed)} failed"
    if baseline and baseline.accuracy and baseline.accuracy.means_nothing:
        yield f"the accuracy of {baseline.name} means nothing yet"
    for row in summary.here:
        if row.name == chosen.winner:
            yield from _of_winner(row, chosen)


def _of_winner(row: Row, chosen: Selection) -> Iterator[str]:
    """Its doubts, and what an interrupted run left: a choice of other figures, or a model made since."""
    if row.doubts:
        yield _doubtful(row)
    if chosen.figures and chosen.figures != files.sha256(SUMMARY):
        yield f"{SUMMARY} has changed since the choice"
    if row.conversion and codec.read(Conversion, conversion_path(row.name)).sha256 != row.conversion.sha256:
        yield f"{row.name} was converted again since it was measured"


def unmeasured(champion: str | None, rows: Sequence[Row]) -> str | None:
    """Why nothing is known to be better than the champion, a variant; None where this run measured it well."""
    row = next((row for row in rows if row.name == champion), None)
    if row is None:
        return f"the champion, {champion or 'no variant'}, is not among `variants`, and so was not compared"
    if not row.status.ok:
        return f"the champion, {row.name}, was {row.status.state} ({row.status.explanation}), and so was not compared"
    return _doubtful(row) if row.doubts else None


def _doubtful(row: Row) -> str:
    return f"the measurement of {row.name} is doubtful ({', '.join(words(row.doubts))})"
