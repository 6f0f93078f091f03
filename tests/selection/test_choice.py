from collections.abc import Callable
from dataclasses import replace

import pytest

from stages.contracts.predictions import Prediction, Predictions
from stages.contracts.row import AtChance, Doubt, Footprint, Latency, Permuted, Row
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


# Ties.


def tied(*sizes: int, **changes: object) -> Choice:
    """Three variants with p50s of 2.0, 2.1 and 2.2 ms and wide intervals, of these sizes."""
    p50s = zip(NAMES, (2.0, 2.1, 2.2), sizes, strict=True)
    rows = [row(name, latencies={1: latency(p50, (1.5, 2.5))}, size=size) for name, p50, size in p50s]
    rows[0] = replace(rows[0], **changes)  # type: ignore[arg-type]
    return chosen(FASTEST, *rows)


def test_a_tie_goes_to_the_smallest() -> None:
    found = tied(8_000_000, 2_000_000, 4_000_000)
    assert found.winner and (found.winner.name, found.rivals, found.outcome) == (FP32, (BASELINE, INT8), "selected")


def test_a_tie_of_one_size_goes_to_the_leanest_and_then_to_the_fastest() -> None:
    lean = Footprint(False, 200_000_000, None, None)
    rows = [row(name, latencies={1: latency(p50, (1.5, 2.5))}) for name, p50 in ((BASELINE, 2.0), (FP32, 2.1))]
    winners = [chosen(FASTEST, *found).winner for found in (rows, [rows[0], replace(rows[1], footprint=lean)])]
    assert [winner and winner.name for winner in winners] == [BASELINE, FP32]


def test_a_doubtful_variant_wins_no_tie_for_its_size() -> None:
    doubts = (Doubt("unsteady", 0.3, batch_size=1),)
    assert (winner := tied(1_000_000, 2_000_000, 4_000_000, doubts=doubts).winner) and winner.name == FP32


def test_what_is_slower_than_one_of_the_tied_is_no_winner_for_its_size() -> None:
    """The first ties with all, since its interval is wide, but the smallest is known to be slower than the second."""
    rows = (
        row(BASELINE, latencies={1: latency(2.0, (1.0, 4.0))}, size=8),
        row(FP32, latencies={1: latency(2.1, (2.0, 2.2))}, size=6),
        row(INT8, latencies={1: latency(3.5, (3.4, 3.6))}, size=2),
    )
    found = chosen(FASTEST, *rows)
    assert found.winner and (found.winner.name, found.rivals) == (BASELINE, (FP32, INT8))


def accurate(right: dict[str, int], sizes: dict[str, int]) -> Choice:
    rows = [row(name, count / 400, {1: latency(4)}, sizes[name]) for name, count in right.items()]
    return choose(summary(*rows), replace(FASTEST, objective="top1"), lambda name: answered(right[name]))


def test_accuracies_that_few_images_cannot_tell_apart_are_no_tie() -> None:
    """The smaller variant may be the worse one: about so many images would tell."""
    found = accurate({BASELINE: 342, INT8: 340}, {BASELINE: 8, INT8: 2})
    assert found.pick and found.pick.unsure and found.winner
    assert (found.outcome, found.winner.name, found.pick.unsure.name) == ("cannot tell", BASELINE, INT8)
    assert found.pick.images_needed == 1600


def test_doubtful_times_are_no_doubt_about_accuracies() -> None:
    right = {BASELINE: 342, INT8: 340}
    rows = [row(name, count / 400, size=2 if name == BASELINE else 8) for name, count in right.items()]
    rows[0] = replace(rows[0], doubts=(Doubt("unsteady", 0.3, batch_size=1),))
    found = choose(summary(*rows), replace(FASTEST, objective="top1"), lambda name: answered(right[name]))
    assert found.winner and (found.outcome, found.winner.name) == ("selected", BASELINE)


def test_equal_accuracies_and_a_smaller_one_that_is_the_best_are_a_choice() -> None:
    for right in ({BASELINE: 340, INT8: 340}, {BASELINE: 340, INT8: 342}):
        found = accurate(right, {BASELINE: 8, INT8: 2})
        assert found.winner and (found.outcome, found.winner.name, found.rivals) == ("selected", INT8, (BASELINE,))


def test_equal_sizes_go_to_the_leaner() -> None:
    rows = (row(BASELINE, memory=300_000_000, latencies=latencies(1, 8)), row(INT8, memory=100_000_000))
    found = chosen(replace(FASTEST, objective="size"), *rows)
    assert found.winner and (found.winner.name, found.rivals) == (INT8, (BASELINE,))


def test_a_variant_that_would_lose_the_tie_leaves_the_choice_certain() -> None:
    """The fastest may be over the budget, but it would not be chosen anyway."""
    fast = row(FP32, latencies={1: latency(2.0, (1.5, 2.5))}, size=8_000_000, change=change(0, 0, 20))
    small = row(BASELINE, latencies={1: latency(2.1, (1.5, 2.5))}, size=2_000_000)
    found = chosen(DROP, fast, small)
    assert (found.outcome, found.doubtful, found.winner and found.winner.name) == ("selected", None, BASELINE)
    found = chosen(
        DROP, replace(fast, conversion=small.conversion and replace(small.conversion, files={"a": 1})), small
    )
    assert (found.outcome, found.doubtful and found.doubtful.measured.name) == ("cannot tell", FP32)


# Rivals.


def test_rivals_are_those_whose_interval_overlaps_the_winners() -> None:
    rows = (
        row(BASELINE, latencies={1: latency(4.0, (3.0, 5.0))}),
        row(FP32, latencies={1: latency(3.0, (2.4, 3.6))}),
        row(INT8, latencies={1: latency(2.0, (1.5, 2.5))}),
    )
    assert chosen(FASTEST, *rows).rivals == (FP32,)
    assert chosen(replace(FASTEST, objective="top1"), *rows).rivals == (FP32, BASELINE)
    assert chosen(replace(FASTEST, objective="throughput"), *rows).rivals == ()


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


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({"at_chance": AtChance(2, 20, 0.5)}, "no better than chance"),
        ({"permuted": Permuted(9, 11, 99, 18, 99)}, "classes as other ones"),
        ({}, None),
    ],
)
def test_a_baseline_that_guesses_makes_every_comparison_void(found: dict[str, object], told: str | None) -> None:
    baseline = row(BASELINE)
    assert baseline.accuracy
    changed = replace(baseline, accuracy=replace(baseline.accuracy, **found))  # type: ignore[arg-type]
    void = chosen(FASTEST, changed, row(INT8)).void
    assert void is None if told is None else void and BASELINE in void and told in void
    assert chosen(FASTEST, row(INT8)).void is None


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
