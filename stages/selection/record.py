"""selection.json: the facts of a choice with the sentences for them."""

from stages.contracts.row import Row, Summary
from stages.contracts.selection import Judged, NearestMiss, Selection
from stages.selection import words
from stages.selection.choice import Answers, Choice, Question, choose


def select(summary: Summary, question: Question, params: str, answers: Answers | None = None) -> Selection:
    """All of selection.json; `params` is load.digest()."""
    choice = choose(summary, question, answers)
    return Selection(
        params=params,
        objective=question.objective,
        batch_size=question.batch_size,
        budget=question.limits,
        outcome=choice.outcome,
        headline=words.headline(choice),
        sentence=words.sentence(choice),
        winner=choice.winner.name if choice.winner else None,
        rivals=choice.rivals,
        nearest_miss=None if choice.winner else _nearest_miss(choice),
        pareto=choice.pareto,
        variants={row.name: _judged(row, choice) for row in summary.here},
    )


def _judged(row: Row, choice: Choice) -> Judged:
    standing, reason = choice.standing(row.name), words.reason(row, choice)
    if standing is None:
        return Judged(False, None, None, reason)
    return Judged(standing.eligible, standing.verdict, standing.images_needed, reason)


def _nearest_miss(choice: Choice) -> NearestMiss | None:
    if choice.nearest is None:
        return None
    return NearestMiss(choice.nearest.measured.name, words.misses(choice.nearest, choice.question.limits))
