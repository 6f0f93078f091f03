from collections.abc import Callable
from dataclasses import replace

import pytest

from stages.contracts.predictions import Prediction, Predictions
from stages.contracts.row import Latency, Row
from stages.contracts.selection import Limits, Objective
from stages.contracts.status import Status
from stages.core.errors import PipelineError
from stages.params import load
from stages.params.choice import Budget, SelectParams
from stages.selection import choice
from stages.selection.choice import Choice, Question, choose, paired_drop
from tests.fixtures.summaries import UNBOUNDED, change, latency, row, stopped, summary, with_p99

BASELINE, FP32, INT8 = NAMES = "savedmodel-fp32", "tflite-fp32", "tflite-int8"
NONE = Limits(None, None, 1, None, None)
FASTEST = Question("latency", 1, NONE)
DROP = replace(FASTEST, limits=replace(NONE, max_top1_drop=0.01))
SIZE = replace(FASTEST, limits=replace(NONE, max_size_bytes=3_000_000))


def latencies(one: float, eight: float) -> dict[int, Latency]:
    return {1: latency(one), 8: latency(eight)}


THREE = (
    row(BASELINE, latencies=latencies(4, 32), size=8_000_000),
    row(FP32, latencies=latencies(3, 24), size=4_000_000),
    row(INT8, latencies=latencies(2, 16), size=2_000_000),
)


def chosen(question: Question = FASTEST, *rows: Row) -> Choice:
    return choose(summary(*(rows or THREE)), question, lambda name: answered(300))


def answered(right: int) -> Predictions:
    return Predictions(Prediction.plain(f"{i}", 1, [1 if i < right else 0], [1.0]) for i in range(400))


def test_without_a_budget_the_fastest_wins() -> None:
    found = chosen()
    assert (found.outcome, found.winner and found.winner.name) == ("selected", INT8)
    assert [standing.measured.name for standing in found.standings] == [INT8, FP32, BASELINE]


@pytest.mark.parametrize(
    ("objective", "winner"), [("latency", INT8), ("size", INT8), ("top1", BASELINE), ("throughput", FP32)]
)
def test_the_objective_decides_what_is_best(objective: Objective, winner: str) -> None:
    rows = (
        row(BASELINE, 0.8, latencies(4, 32), 8_000_000),
        row(FP32, 0.75, {1: replace(latency(3), throughput_ips=900)}, 4_000_000),
        row(INT8, 0.75, latencies(2, 16), 2_000_000),
    )
    found = chosen(replace(FASTEST, objective=objective), *rows)
    assert found.winner and found.winner.name == winner


def test_equal_accuracy_is_decided_by_speed_and_then_by_size() -> None:
    rows = (row(BASELINE, size=2), row(FP32, size=1), row(INT8, latencies={1: latency(5)}, size=1))
    found = chosen(replace(FASTEST, objective="top1"), *rows)
    assert [standing.measured.name for standing in found.standings] == [FP32, BASELINE, INT8]


def test_the_batch_size_of_the_question_is_respected() -> None:
    rows = (
        row(BASELINE, latencies=latencies(5, 30)),
        row(FP32, latencies=latencies(9, 10)),
        row(INT8, latencies=latencies(2, 20)),
    )
    winners = [chosen(replace(FASTEST, batch_size=size), *rows).winner for size in (1, 8)]
    assert [winner and winner.name for winner in winners] == [INT8, FP32]


# Rivals.


def test_rivals_are_those_whose_interval_overlaps_the_winners() -> None:
    rows = (
        row(BASELINE, latencies={1: latency(4.0, (3.0, 5.0))}),
        row(FP32, latencies={1: latency(3.0, (2.4, 3.6))}),
        row(INT8, latencies={1: latency(2.0, (1.5, 2.5))}),
    )
    assert chosen(FASTEST, *rows).rivals == (FP32,)
    assert chosen(replace(FASTEST, objective="top1"), *rows).rivals == (FP32, BASELINE)
    assert chosen(replace(FASTEST, objective="size"), *rows).rivals == ()


def test_an_interval_without_an_end_may_reach_anywhere() -> None:
    rows = (row(FP32, latencies={1: latency(9.0, UNBOUNDED)}), row(INT8, latencies={1: latency(2.0)}))
    assert chosen(FASTEST, *rows).rivals == (FP32,)
    rows = (row(FP32, latencies={1: latency(9.0, (8.0, None))}), row(INT8, latencies={1: latency(2.0)}))
    assert chosen(FASTEST, *rows).rivals == ()


def test_top1_is_compared_on_the_same_images() -> None:
    """14 of 400 lost and none gained: Wilson's intervals of the two shares overlap, the paired one excludes 0."""
    right = {BASELINE: 340, FP32: 340, INT8: 326}
    low, high = paired_drop(BASELINE, INT8, lambda name: answered(right[name]))
    assert 0.02 < low < 0.035 < high < 0.06
    rows = [
        row(name, count / 400, {1: latency(p50)}) for (name, count), p50 in zip(right.items(), (4, 3, 2), strict=True)
    ]
    found = choose(summary(*rows), replace(FASTEST, objective="top1"), lambda name: answered(right[name]))
    assert (found.winner and found.winner.name, found.rivals) == (FP32, (BASELINE,))


def test_predictions_of_other_images_are_an_error_that_names_both_variants() -> None:
    shorter = Predictions(answered(300)[:10])
    with pytest.raises(PipelineError) as caught:
        paired_drop(INT8, BASELINE, lambda name: shorter if name == INT8 else answered(300))
    assert (caught.value.code, caught.value.values) == ("other-images", {"variants": (INT8, BASELINE)})


# Within a budget.


def test_a_drop_that_is_proven_large_costs_the_choice() -> None:
    rows = (THREE[0], with_change(1, 3, 2, 10_000), with_change(2, 400, 100, 10_000))
    found = chosen(DROP, *rows)
    assert (found.outcome, found.winner and found.winner.name) == ("selected", FP32)
    assert [standing.verdict for standing in found.standings] == ["exceeds", "within", "within"]


def with_change(index: int, lost: int, gained: int, images: int) -> Row:
    one = THREE[index]
    return row(one.name, latencies={s.batch_size: s.latency for s in one.speeds}, change=change(lost, gained, images))


def test_a_better_variant_that_may_be_within_budget_leaves_the_choice_open() -> None:
    """Without one flip in 20 images the drop lies between -16 and 16 points."""
    found = chosen(DROP, THREE[0], with_change(1, 0, 0, 20), with_change(2, 0, 0, 20))
    assert (found.outcome, found.winner and found.winner.name) == ("cannot tell", BASELINE)
    assert found.doubtful and found.doubtful.measured.name == INT8


def test_a_doubtful_variant_that_would_not_win_anyway_is_no_doubt_about_the_choice() -> None:
    found = chosen(DROP, THREE[0], with_change(1, 0, 0, 20), with_change(2, 0, 0, 10_000))
    assert (found.outcome, found.doubtful) == ("selected", None)


def test_nothing_within_budget_has_the_nearest_miss() -> None:
    found = chosen(replace(FASTEST, limits=replace(NONE, max_size_bytes=1_900_000)))
    assert (found.outcome, found.winner, found.rivals) == ("nothing within budget", None, ())
    assert found.nearest and found.nearest.measured.name == INT8


def test_p99_is_judged_at_its_batch_size() -> None:
    def at_eight(p50: float, p99: float) -> dict[int, Latency]:
        return {1: latency(p50), 8: with_p99(p50, p99, (p99 - 1, p99 + 1))}

    rows = (
        row(BASELINE, latencies=at_eight(4, 80)),
        row(FP32, latencies=at_eight(3, 40)),
        row(INT8, latencies=at_eight(2, 60)),
    )
    found = chosen(replace(FASTEST, limits=replace(NONE, max_p99_ms=50, p99_batch_size=8)), *rows)
    assert found.winner and found.winner.name == FP32


def test_variants_that_did_not_run_are_never_chosen() -> None:
    found = chosen(FASTEST, *THREE[:2], stopped(INT8, Status("failed", "no memory", "convert")))
    assert found.winner and found.winner.name == FP32
    assert found.standing(INT8) is None
    assert INT8 not in found.pareto


def test_without_any_result_nothing_is_chosen() -> None:
    found = chosen(FASTEST, *(stopped(name, Status("failed", "no memory", "convert")) for name in NAMES))
    assert (found.outcome, found.winner, found.nearest, found.pareto) == ("nothing within budget", None, None, ())


# The Pareto line.


def test_the_pareto_line_is_what_no_other_beats() -> None:
    rows = (
        row(BASELINE, 0.9, {1: latency(4)}, 8_000_000),
        row(FP32, 0.8, {1: latency(3)}, 4_000_000),
        row(INT8, 0.8, {1: latency(2)}, 2_000_000),
    )
    assert chosen(FASTEST, *rows).pareto == (INT8, BASELINE)


def test_equal_variants_are_both_on_the_pareto_line() -> None:
    assert set(chosen(FASTEST, row(FP32), row(INT8)).pareto) == {FP32, INT8}


# The question.


def test_what_params_leave_open_is_asked_at_the_smallest_batch_size(edit: Callable[..., None]) -> None:
    edit(("budget.max_p99_ms", 50))
    question = choice.ask(load.read(SelectParams), load.read(Budget), (1, 8))
    assert question == Question("latency", 1, Limits(None, 50, 1, None, None))
    edit(("select.batch_size", 8), ("budget.p99_batch_size", 8), ("select.objective", "top1"))
    question = choice.ask(load.read(SelectParams), load.read(Budget), (1, 8))
    assert question == Question("top1", 8, Limits(None, 50, 8, None, None))
