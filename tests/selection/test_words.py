"""Each sentence of a choice once: what it must name is asserted, and its figures."""

from dataclasses import replace

import pytest

from stages.contracts.predictions import Prediction, Predictions
from stages.contracts.row import Doubt, Row
from stages.contracts.selection import Limits, Objective
from stages.contracts.status import Status
from stages.selection import words
from stages.selection.choice import Choice, Pick, Question, choose
from tests.fixtures.summaries import UNBOUNDED, change, latency, row, stopped, summary, with_p99

BASELINE, INT8 = "savedmodel-fp32", "tflite-int8"
NONE = Limits(None, None, 1, None, None)
SLOW, FAST = row(BASELINE, latencies={1: latency(4)}), row(INT8, latencies={1: latency(2)})


def choice(*rows: Row, objective: Objective = "latency", **limits: float | int) -> Choice:
    question = Question(objective, 1, replace(NONE, **limits))  # type: ignore[arg-type]
    return choose(summary(*rows), question)


def holds(sentence: str | None, *parts: str) -> bool:
    print(sentence)
    return sentence is not None and all(part in sentence for part in parts)


@pytest.mark.parametrize(
    ("objective", "figure"),
    [
        ("latency", "p50 of 2 ms at batch 1"),
        ("throughput", "500 images/s"),
        ("size", "2.0 MB"),
        ("top1", "top-1 of 75.00 %"),
    ],
)
def test_every_objective_has_its_figure(objective: Objective, figure: str) -> None:
    winner = choice(FAST).winner
    assert winner and words.figure(winner, objective, 1) == figure


def test_the_winner_is_named_with_its_figure_and_how_many_it_beats() -> None:
    assert holds(words.sentence(choice(SLOW, FAST)), f"{INT8} (p50 of 2 ms at batch 1)", "best of 2", "no budget")
    within = choice(SLOW, FAST, max_size_bytes=3_000_000)
    assert holds(words.sentence(within), f"{INT8} (p50 of 2 ms at batch 1)", "best of 2", "within budget")


def test_the_others_are_compared_with_the_winner() -> None:
    found = choice(SLOW, FAST)
    assert holds(words.reason(SLOW, found), "p50 of 4 ms", "p50 of 2 ms", INT8)
    assert words.reason(FAST, found) is None
    stop = stopped("tflite-fp32", Status("failed", "no memory", "convert"))
    assert holds(words.reason(stop, found), "failed", "convert", "no memory")


@pytest.mark.parametrize(("objective", "figures"), [("latency", "p50"), ("top1", "top-1")])
def test_rivals_and_doubts_of_the_winner_are_named(objective: Objective, figures: str) -> None:
    doubts = (Doubt("throttled", 3, "power cap"), Doubt("unsteady", 0.3, batch_size=1), Doubt("unsteady", 0.2, None, 8))
    base = choice(SLOW, replace(FAST, doubts=doubts))
    assert base.winner
    question = replace(base.question, objective=objective)
    found = replace(base, question=question, pick=Pick(base.winner, (BASELINE,)))
    assert holds(words.sentence(found), INT8, BASELINE, f"in {figures}.", f"{INT8} is doubtful: throttled, unsteady.")
    assert holds(words.reason(SLOW, found), "cannot tell them apart")
    assert words.headline(found) == (
        f"Ship {INT8}, a tie with {BASELINE}; its measurement is doubtful: throttled, unsteady"
    )


@pytest.mark.parametrize(
    ("objective", "told"),
    [
        ("latency", "p50 of 2.002 ms at batch 1 against the p50 of 2.001 ms at batch 1 of tflite-int8"),
        ("throughput", "499.5 images/s against the 499.8 images/s of tflite-int8"),
        ("size", "5.235 MB against the 5.234 MB of tflite-int8"),
        ("top1", "top-1 of 75.001 % against the top-1 of 75.004 % of tflite-int8"),
    ],
)
def test_two_figures_have_as_many_digits_as_tell_them_apart(objective: Objective, told: str) -> None:
    narrow = {name: {1: latency(p50, (p50, p50))} for name, p50 in ((BASELINE, 2.002), (INT8, 2.001))}
    slow = row(BASELINE, 0.750_01, narrow[BASELINE], size=5_234_700, images=100_000)
    found = choice(slow, row(INT8, 0.750_04, narrow[INT8], size=5_234_300, images=100_000), objective="latency")
    found = replace(found, question=replace(found.question, objective=objective))
    assert words.reason(slow, found) == told


def test_sizes_that_decide_a_tie_are_told_apart() -> None:
    wide = {1: latency(2.0, (1.0, 5.0))}
    close = choice(row(BASELINE, latencies=wide, size=2_001_000), FAST)
    assert f"{INT8} is smaller (2 against 2.001 MB)" in words.sentence(close)
    lean = choice(row(BASELINE, latencies=wide, memory=300_200_000), FAST)
    assert f"{INT8} needs less memory (300.0 against 300.2 MB)" in words.sentence(lean)


def tie(size: int = 8_000_000, memory: int = 300_000_000, doubts: tuple[Doubt, ...] = ()) -> Choice:
    """With the baseline, of these bytes."""
    wide = {1: latency(2.0, (1.0, 5.0))}
    return choice(row(BASELINE, latencies=wide, size=size, memory=memory, doubts=doubts), FAST)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (tie(), f"in p50, and {INT8} is smaller (2 against 8 MB)."),
        (tie(2_000_000, 400_000_000), f"in p50, and {INT8} needs less memory (300 against 400 MB)."),
        (tie(1_000_000, doubts=(Doubt("unsteady", 0.3),)), f"and only the measurement of {INT8} is beyond doubt."),
    ],
)
def test_what_decided_a_tie_is_told(found: Choice, told: str) -> None:
    assert holds(words.sentence(found), f"Ship {INT8}", f"cannot tell {INT8} from {BASELINE} ", told)
    assert words.headline(found) == f"Ship {INT8}, a tie with {BASELINE}"
    (loser,) = [standing.measured.name for standing in found.standings if standing.measured.name != INT8]
    assert holds(words.reason(row(loser), found), "cannot tell them apart, and")


@pytest.mark.parametrize("objective", ["top1", "size"])
def test_a_doubtful_time_decides_no_tie_of_what_is_no_time(objective: Objective) -> None:
    shaky = row(BASELINE, memory=400_000_000, doubts=(Doubt("unsteady", 0.3),))
    found = words.sentence(choice(shaky, row(INT8), objective=objective))
    assert found.endswith(f"and {INT8} needs less memory (300 against 400 MB).")


def test_what_decided_among_sure_times_alone_is_told_as_that() -> None:
    wide = {1: latency(2.0, (1.0, 5.0))}
    small = row("tflite-fp16", latencies=wide, size=1_000_000, doubts=(Doubt("unsteady", 0.3),))
    found = choice(row(BASELINE, latencies=wide, size=8_000_000), small, FAST)
    assert words.sentence(found).endswith(f", and of those beyond doubt {INT8} is smaller (2 against 8 MB).")


def test_a_tie_with_many_is_counted_in_the_headline() -> None:
    wide = {1: latency(2.0, (1.0, 5.0))}
    others = [row(name, latencies=wide, size=8_000_000) for name in (BASELINE, "tflite-fp32", "tflite-fp16")]
    assert words.headline(choice(*others, FAST)) == f"Ship {INT8}, a tie with 3 others"


def test_what_is_too_close_to_call_names_both_and_what_would_tell() -> None:
    doubtful = row(INT8, latencies={1: latency(2)}, change=change(0, 0, 20))
    both = choice(SLOW, doubtful, max_top1_drop=0.01)
    assert words.headline(both) == f"Too close to call: {INT8} or {BASELINE}; about 780 images would tell"
    alone = choice(doubtful, max_top1_drop=0.01)
    assert words.headline(alone) == (f"Too close to call: {INT8} may be within the budget; about 780 images would tell")
    close = choice(row(INT8, change=change(4, 0, 400)), max_top1_drop=0.01)
    assert "; more than 10,000,000 images would tell" in words.headline(close)
    unbounded = {1: with_p99(2, 19.9, UNBOUNDED)}
    late = choice(
        row(BASELINE, latencies={1: with_p99(4, 5, (4.5, 6.0))}), row(INT8, latencies=unbounded), max_p99_ms=20
    )
    assert words.headline(late) == f"Too close to call: {INT8} or {BASELINE}; more calls would tell"


def test_accuracies_that_images_cannot_tell_apart_are_told_with_how_many_would() -> None:
    right = {BASELINE: 342, INT8: 340}
    answers = {
        name: Predictions(Prediction.plain(f"{i}", 1, [1 if i < count else 0], [1.0]) for i in range(400))
        for name, count in right.items()
    }
    rows = (row(BASELINE, 0.855, size=8_000_000), row(INT8, 0.85))
    found = choose(summary(*rows), Question("top1", 1, NONE), answers.__getitem__)
    assert words.headline(found) == f"Too close to call: {INT8} or {BASELINE}; about 1,600 images would tell"
    assert holds(words.sentence(found), words.headline(found), f"{BASELINE} (top-1 of 85.50 %)", "in top-1.")


def test_nothing_is_to_be_shipped_by_an_accuracy_that_means_nothing() -> None:
    found = replace(choice(SLOW, FAST), void=f"{BASELINE} is no better than chance")
    assert words.headline(found) == "No comparison means much yet"
    assert holds(words.sentence(found), f"since {BASELINE} is no better than chance", f"The first is {INT8}")
    assert "Ship" not in words.sentence(found)


def test_what_may_be_better_is_named_with_the_images_it_takes() -> None:
    doubtful = row(INT8, latencies={1: latency(2)}, change=change(0, 0, 20))
    found = choice(SLOW, doubtful, max_top1_drop=0.01)
    assert holds(words.sentence(found), INT8, "20 images", "780", f"{BASELINE} (p50 of 4 ms at batch 1)")
    assert holds(words.reason(doubtful, found), "0.00 points [-16.11, 16.11]", "exceeds 1:", "780")
    alone = choice(doubtful, max_top1_drop=0.01)
    assert holds(words.sentence(alone), INT8, "no variant")


@pytest.mark.parametrize(
    ("one", "limits", "parts"),
    [
        (
            row(INT8, change=change(400, 100, 10_000)),
            {"max_top1_drop": 0.01},
            ("3.00 points [2.57, 3.45]", "exceeds 1"),
        ),
        (row(INT8, change=change(4, 0, 400)), {"max_top1_drop": 0.01}, ("400 images", "10,000,000 and more")),
        (row(INT8), {"max_top1_drop": 0.01}, ("unknown", BASELINE)),
        (row(INT8), {"max_p99_ms": 50}, ("batch 1", "100 calls", "662", "benchmark.min_samples")),
        (
            row(INT8, latencies={1: with_p99(2, 60, (59.0, 61.0))}),
            {"max_p99_ms": 50},
            ("60 ms [59, 61] at batch 1", "exceeds 50"),
        ),
        (
            row(INT8, latencies={1: with_p99(2, 19.9, UNBOUNDED)}),
            {"max_p99_ms": 20},
            ("cannot tell", "700 calls", "[?, ?]", "exceeds 20"),
        ),
        (
            row(INT8, size=8_000_000),
            {"max_size_bytes": 3_000_000, "max_peak_memory_bytes": 200_000_000},
            ("size on disk of 8.0 MB exceeds 3;", "peak memory of 300.0 MB exceeds 200"),
        ),
        (
            row(INT8, size=5_234_567, memory=5_230_000_002),
            {"max_size_bytes": 5_230_000, "max_peak_memory_bytes": 5_230_000_001},
            ("size on disk of 5.235 MB exceeds 5.23;", "peak memory of 5230.000002 MB exceeds 5230.000001"),
        ),
        (
            row(INT8, latencies={1: with_p99(2, 20.06, (20.04, 21.0))}),
            {"max_p99_ms": 20.03},
            ("p99 of 20.1 ms [20.04, 21] at batch 1 exceeds 20.03",),
        ),
        (
            row(INT8, change=replace(change(400, 100, 10_000), drop_ci95=(0.025_741_2, 0.0345))),
            {"max_top1_drop": 0.025_741},
            ("3.00 points [2.57412, 3.45] exceeds 2.5741",),
        ),
    ],
)
def test_every_limit_that_is_missed_is_named_with_its_figures(
    one: Row, limits: dict[str, float], parts: tuple[str, ...]
) -> None:
    assert holds(words.reason(one, choice(one, **limits)), *parts)


def test_nothing_within_budget_names_the_nearest() -> None:
    assert holds(words.sentence(choice(FAST, max_size_bytes=1_900_000)), INT8, "size on disk of 2.0 MB exceeds 1.9")
    assert words.headline(choice(FAST, max_size_bytes=1_900_000)) == f"None meets the budget; nearest is {INT8}"
    assert words.headline(choice(stopped(INT8, Status("skipped", "no GPU")))) == "No variant could be measured"
    assert words.sentence(choice(stopped(INT8, Status("skipped", "no GPU")))) == "No variant could be measured."
