"""Each sentence of a choice once: what it must name is asserted, and its figures."""

from dataclasses import replace

import pytest

from stages.contracts.row import Doubt, Row
from stages.contracts.selection import Limits, Objective
from stages.contracts.status import Status
from stages.selection import words
from stages.selection.choice import Choice, Question, choose
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
    question = replace(base.question, objective=objective)
    found = replace(base, question=question, rivals=(BASELINE,))
    assert holds(words.sentence(found), INT8, BASELINE, f"in {figures}.", f"{INT8} is doubtful: throttled, unsteady.")
    assert holds(words.reason(SLOW, found), "cannot tell them apart")


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
    ],
)
def test_every_limit_that_is_missed_is_named_with_its_figures(
    one: Row, limits: dict[str, float], parts: tuple[str, ...]
) -> None:
    assert holds(words.reason(one, choice(one, **limits)), *parts)


def test_nothing_within_budget_names_the_nearest() -> None:
    assert holds(words.sentence(choice(FAST, max_size_bytes=1_900_000)), INT8, "size on disk of 2.0 MB exceeds 1.9")
    assert holds(words.sentence(choice(stopped(INT8, Status("skipped", "no GPU")))), "none could be measured")
