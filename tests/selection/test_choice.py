import json
from collections.abc import Callable
from typing import Any

import pytest

from stages import select, summarize
from stages.contracts import paths, predictions
from stages.contracts.predictions import Prediction
from stages.core import files
from stages.core.errors import PipelineError
from stages.params import document
from stages.statistics.paired import score_ci95

NAMES = ("savedmodel-fp32", "tflite-fp32", "tflite-int8")
Edit = Callable[..., None]


def change(lost: int, gained: int, images: int) -> dict[str, Any]:
    return {
        "images": images, "changed": lost + gained, "lost": lost, "gained": gained,
        "drop": (lost - gained) / images, "drop_ci95": score_ci95(lost, gained, images),
    }  # fmt: skip


@pytest.fixture
def choose(results: Any, edit: Edit) -> Callable[..., dict[str, Any]]:
    """What is chosen of three variants: choose(("budget.max_top1_drop", 0.01), int8=change(...))."""
    for name, p50, bytes_ in zip(NAMES, (4.0, 3.0, 2.0), (8_000_000, 4_000_000, 2_000_000), strict=True):
        results.ok(name, [0, 0, 0, 1], p50)
        results.converted(name, size_bytes=bytes_)
    edit(("variants", list(NAMES)))

    def run(*changes: tuple[str, Any], rows: dict[str, dict[str, Any]] | None = None) -> dict[str, Any]:
        edit(*changes)
        setting = document.load()
        summary = summarize.summarise(setting.variants)
        for row in summary["rows"]:
            row |= (rows or {}).get(row["variant"], {})
        return json.loads(json.dumps(select.select(summary, setting)))

    return run


Choose = Callable[..., dict[str, Any]]
LIMIT = ("budget.max_top1_drop", 0.01)


def test_without_a_budget_the_fastest_wins_and_the_others_say_by_how_much(choose: Choose) -> None:
    found = choose()
    assert (found["outcome"], found["winner"], found["nearest_miss"]) == ("selected", "tflite-int8", None)
    assert found["sentence"].startswith(
        "Ship tflite-int8 (p50 of 2 ms at batch 1), the best of 3 measured, as no budget is set."
    )
    assert found["variants"]["tflite-int8"] == {
        "eligible": True, "verdict": None, "images_needed": None, "reason": None
    }  # fmt: skip
    reason = found["variants"]["savedmodel-fp32"]["reason"]
    assert reason == "p50 of 4 ms at batch 1 against the p50 of 2 ms at batch 1 of tflite-int8"


def test_intervals_that_overlap_are_told(choose: Choose) -> None:
    found = choose()["variants"]["tflite-fp32"]
    assert found["reason"].endswith("of tflite-int8, though the measurements cannot tell them apart")


@pytest.mark.parametrize(
    ("objective", "winner"),
    [("latency", "tflite-int8"), ("size", "tflite-int8"), ("top1", "tflite-int8"), ("throughput", "tflite-fp32")],
)
def test_the_objective_says_what_is_best(choose: Choose, objective: str, winner: str) -> None:
    batch = {"repeat_cv": None, "p50_ms": 3.0, "p50_ci95_ms": [2.9, 3.1], "throughput_ips": 500.0}
    found = choose(("select.objective", objective), rows={"tflite-fp32": {"latency": {"1": batch, "8": batch}}})
    assert found["winner"] == winner


def test_rivals_are_those_whose_interval_overlaps_the_winners(choose: Choose) -> None:
    found = choose()
    assert found["rivals"] == ["tflite-fp32"]
    assert found["sentence"].endswith("The measurements cannot tell tflite-int8 from tflite-fp32 in p50.")
    assert choose(("select.objective", "top1"))["rivals"] == ["tflite-fp32", "savedmodel-fp32"]
    assert choose(("select.objective", "size"))["rivals"] == []


def test_top1_is_compared_on_the_same_images(choose: Choose) -> None:
    """14 of 400 lost and none gained: Wilson's intervals of the two shares overlap, the paired one excludes 0."""
    choose(("select.objective", "top1"))

    def answers(right: int) -> list[Prediction]:
        return [Prediction(f"{i}", 1, [1 if i < right else 0], [1.0]) for i in range(400)]

    for name, right in (("savedmodel-fp32", 340), ("tflite-fp32", 340), ("tflite-int8", 326)):
        predictions.write(answers(right), paths.record(name, "predictions.csv"))
    low, high = select._paired_drop({"variant": "savedmodel-fp32"}, {"variant": "tflite-int8"})
    assert 0.02 < low < 0.035 < high < 0.06
    assert not select.overlap({"variant": "tflite-int8"}, {"variant": "savedmodel-fp32"}, "top1", "1")
    assert select.overlap({"variant": "tflite-fp32"}, {"variant": "savedmodel-fp32"}, "top1", "1")
    predictions.write(answers(326)[:10], paths.record("tflite-int8", "predictions.csv"))
    with pytest.raises(PipelineError, match="tflite-int8 and savedmodel-fp32 are not of the same images"):
        select.overlap({"variant": "tflite-int8"}, {"variant": "savedmodel-fp32"}, "top1", "1")


def test_a_doubtful_measurement_of_the_winner_is_told(choose: Choose) -> None:
    one = {"p50_ms": 1.0, "p50_ci95_ms": [1, 1], "repeat_cv": 0.3}
    found = choose(rows={"tflite-int8": {"latency": {"1": one, "8": one}}})
    assert found["sentence"].endswith("The measurement of tflite-int8 is doubtful: unsteady.")


def test_the_batch_size_of_the_objective_is_respected(choose: Choose) -> None:
    def latency(one: float, eight: float) -> dict[str, Any]:
        return {
            "latency": {
                size: {"p50_ms": ms, "p50_ci95_ms": [ms, ms], "repeat_cv": None}
                for size, ms in (("1", one), ("8", eight))
            }
        }

    rows = {"tflite-fp32": latency(9, 10), "tflite-int8": latency(2, 20), "savedmodel-fp32": latency(5, 30)}
    assert choose(rows=rows)["winner"] == "tflite-int8"
    assert choose(("select.batch_size", 8), rows=rows)["winner"] == "tflite-fp32"


def test_a_drop_that_is_proven_small_is_within_and_one_proven_large_exceeds(choose: Choose) -> None:
    rows = {"tflite-int8": {"change": change(400, 100, 10_000)}, "tflite-fp32": {"change": change(3, 2, 10_000)}}
    found = choose(LIMIT, rows=rows)
    assert (found["outcome"], found["winner"]) == ("selected", "tflite-fp32")
    assert "the best of 2 within budget." in found["sentence"]
    assert [found["variants"][name]["verdict"] for name in NAMES] == ["within", "within", "exceeds"]
    assert found["variants"]["tflite-int8"]["reason"] == "top-1 drop of 3.00 points [2.57, 3.45] exceeds 1"


def test_no_flip_in_twenty_images_proves_nothing(choose: Choose) -> None:
    """The bootstrap's interval would be [0, 0] here, and every variant within any budget."""
    rows = {name: {"change": change(0, 0, 20)} for name in NAMES[1:]}
    found = choose(LIMIT, rows=rows)
    assert (found["outcome"], found["winner"]) == ("cannot tell", "savedmodel-fp32")
    judged = found["variants"]["tflite-int8"]
    assert (judged["eligible"], judged["verdict"], judged["images_needed"]) == (False, "cannot tell", 780)
    assert judged["reason"].startswith(
        "cannot tell with 20 images whether its top-1 drop of 0.00 points [-16.11, 16.11]"
    )
    assert judged["reason"].endswith("exceeds 1: about 780 would be needed")
    assert found["sentence"].startswith(
        "tflite-int8 (p50 of 2 ms at batch 1) may be the better choice, but: cannot tell"
    )
    assert found["sentence"].endswith("Known to be within budget: savedmodel-fp32 (p50 of 4 ms at batch 1).")


def test_a_doubtful_variant_that_would_not_win_anyway_is_no_doubt_about_the_choice(choose: Choose) -> None:
    rows = {"tflite-int8": {"change": change(0, 0, 10_000)}, "tflite-fp32": {"change": change(0, 0, 20)}}
    assert choose(LIMIT, rows=rows)["outcome"] == "selected"


def test_a_drop_that_is_the_limit_is_told_by_no_number_of_images(choose: Choose) -> None:
    found = choose(LIMIT, rows={"tflite-int8": {"change": change(4, 0, 400)}})["variants"]["tflite-int8"]
    assert (found["verdict"], found["images_needed"]) == ("cannot tell", None)
    assert found["reason"].endswith("about 10,000,000 and more would be needed")


def test_nothing_within_budget_has_the_nearest_miss(choose: Choose) -> None:
    found = choose(("budget.max_size_bytes", 1_900_000))
    assert (found["outcome"], found["winner"]) == ("nothing within budget", None)
    assert found["nearest_miss"] == {"variant": "tflite-int8", "reason": "size on disk of 2.0 MB exceeds 1.9"}
    assert found["sentence"].startswith("No variant is within budget; the nearest is tflite-int8: size on disk")


def test_every_limit_that_is_missed_is_a_reason(choose: Choose) -> None:
    found = choose(("budget.max_size_bytes", 3_000_000), ("budget.max_peak_memory_bytes", 200_000_000))
    reason = "size on disk of 8.0 MB exceeds 3; peak memory of 300.0 MB exceeds 200"
    assert found["variants"]["savedmodel-fp32"]["reason"] == reason
    assert found["variants"]["tflite-int8"]["reason"] == "peak memory of 300.0 MB exceeds 200"


def test_a_p99_from_too_few_calls_cannot_be_told(choose: Choose) -> None:
    found = choose(("budget.max_p99_ms", 50))
    assert (found["outcome"], found["winner"]) == ("cannot tell", None)
    reason = "p99 at batch 1 cannot be quoted from 100 calls; it takes 662 (benchmark.min_samples)"
    assert found["variants"]["tflite-int8"]["reason"] == reason


def test_a_p99_is_judged_at_its_batch_size(choose: Choose) -> None:
    def latency(p50: float, p99: float) -> dict[str, Any]:
        one = {"p50_ms": p50, "p50_ci95_ms": [p50, p50], "p99_ms": 1.0, "p99_ci95_ms": [1.0, 1.0], "repeat_cv": None}
        return {"latency": {"1": one, "8": one | {"p99_ms": p99, "p99_ci95_ms": [p99 - 1, p99 + 1]}}}

    rows = {"savedmodel-fp32": latency(4, 80), "tflite-fp32": latency(3, 40), "tflite-int8": latency(2, 60)}
    found = choose(("budget.max_p99_ms", 50), ("budget.p99_batch_size", 8), rows=rows)
    assert found["winner"] == "tflite-fp32"
    assert found["variants"]["tflite-int8"]["reason"] == "p99 of 60 ms [59, 61] at batch 8 exceeds 50"


@pytest.mark.parametrize("ends", [[15.0, None], [15.0, 21.0], [None, None]])
def test_a_p99_whose_interval_holds_the_limit_cannot_be_told(choose: Choose, ends: list[float | None]) -> None:
    one = {"p50_ms": 2.0, "p50_ci95_ms": [2, 2], "p99_ms": 19.9, "p99_ci95_ms": ends, "repeat_cv": None, "samples": 700}
    found = choose(("budget.max_p99_ms", 20), rows={name: {"latency": {"1": one, "8": one}} for name in NAMES})
    assert (found["outcome"], found["winner"]) == ("cannot tell", None)
    assert found["variants"]["tflite-int8"]["reason"].startswith(
        "cannot tell with 700 calls whether its p99 of 19.9 ms ["
    )


def test_variants_that_did_not_run_keep_their_reason_and_are_never_chosen(choose: Choose, results: Any) -> None:
    results.stopped("tflite-int8", "failed", "no memory")
    found = choose()
    assert found["winner"] == "tflite-fp32"
    assert found["variants"]["tflite-int8"]["reason"] == "failed: convert: no memory"
    assert found["variants"]["tflite-int8"]["eligible"] is False
    assert "tflite-int8" not in found["pareto"]


def test_without_any_result_nothing_is_chosen(choose: Choose, results: Any) -> None:
    for name in NAMES:
        results.stopped(name, "failed", "no memory")
    found = choose()
    assert (found["outcome"], found["winner"], found["nearest_miss"]) == ("nothing within budget", None, None)
    assert found["sentence"] == "No variant is within budget, for none could be measured."


def test_the_pareto_set_is_what_no_other_beats(choose: Choose) -> None:
    rows = {"savedmodel-fp32": {"top1": 0.9}, "tflite-fp32": {"top1": 0.8}, "tflite-int8": {"top1": 0.8}}
    assert choose(rows=rows)["pareto"] == ["tflite-int8", "savedmodel-fp32"]


def test_equal_variants_are_both_in_the_pareto_set(choose: Choose, results: Any) -> None:
    results.ok("tflite-fp32", [0, 0, 0, 1], 2.0)
    results.converted("tflite-fp32", size_bytes=2_000_000)
    assert set(choose()["pareto"]) == {"tflite-fp32", "tflite-int8"}


def test_main_writes_the_choice(choose: Choose) -> None:
    choose()
    files.write_json(paths.SUMMARY, summarize.summarise(NAMES))
    select.main()
    assert files.read_json(paths.SELECTION)["winner"] == "tflite-int8"
