import copy
from typing import Any

import pytest

from stages.contracts.predictions import Prediction
from stages.core.errors import PipelineError
from stages.selection import regression
from stages.selection.regression import Chosen, Verdict

BASE, INT8 = "savedmodel-fp32", "tflite-int8"


def row(name: str, top1: float, p50: float, spread: float = 0.02, size: int = 1_000_000, **more: Any) -> dict[str, Any]:
    latency = {"p50_ms": p50, "p50_ci95_ms": [p50 * (1 - spread), p50 * (1 + spread)], "repeat_p50_ms": [p50] * 3}
    return {
        "variant": name, "status": "ok", "reason": None, "top1": top1, "latency": {"1": latency}, "size_bytes": size
    } | more  # fmt: skip


def summary(*rows: dict[str, Any], images: int = 400) -> dict[str, Any]:
    return {
        "model": {"name": "m"},
        "rows": list(rows),
        "evaluation": {"digest": "a", "images": images},
        "environment": {"cpu": "x"},
    }


def none(variant: str) -> list[Prediction]:
    return []


def compare(old: dict[str, Any], new: dict[str, Any], then: str | None = INT8, now: str | None = INT8) -> Verdict:
    return regression.compare(old, new, Chosen(then, now), none, none)


OLD = summary(row(BASE, 0.86, 4.0), row(INT8, 0.86, 2.0))


def test_the_same_results_are_no_regression() -> None:
    found = compare(OLD, copy.deepcopy(OLD))
    assert found.regressions == found.unknown == []
    compared, baseline, int8 = found.notes
    assert "compared by counts alone" in compared
    assert baseline == "savedmodel-fp32, the measure of the others' latency, changed by +0.0% at batch 1 itself"
    assert int8 == "tflite-int8: p50 at batch 1 changed by +0.0%, and up to 6.5% passes as noise"


def test_a_slower_variant_is_one_and_a_slower_machine_is_not() -> None:
    assert compare(OLD, summary(row(BASE, 0.86, 8.0), row(INT8, 0.86, 4.0))).regressions == []
    (sentence,) = compare(OLD, summary(row(BASE, 0.86, 4.0), row(INT8, 0.86, 2.4))).regressions
    assert sentence == "tflite-int8: p50 at batch 1 rose by 20.0% against savedmodel-fp32 (noise: 6.5%)"


@pytest.mark.parametrize(("spread", "count"), [(0.02, 1), (0.06, 0)])
def test_wide_intervals_allow_more(spread: float, count: int) -> None:
    new = summary(row(BASE, 0.86, 4.0, spread), row(INT8, 0.86, 2.2, spread))
    assert len(compare(OLD, new).regressions) == count


def test_a_faster_variant_is_none() -> None:
    assert compare(OLD, summary(row(BASE, 0.86, 4.0), row(INT8, 0.86, 1.0))).regressions == []


def test_an_unbounded_interval_proves_nothing() -> None:
    new = summary(row(BASE, 0.86, 4.0), row(INT8, 0.86, 9.0))
    new["rows"][1]["latency"]["1"]["p50_ci95_ms"] = [8.0, None]
    found = compare(OLD, new)
    assert found.regressions == []
    assert found.unknown == ["tflite-int8: p50 at batch 1 was not compared: so few calls do not bound it"]


def single_run(p50: float) -> dict[str, Any]:
    found = summary(row(BASE, 0.86, 4.0), row(INT8, 0.86, p50))
    for each in found["rows"]:
        each["latency"]["1"]["repeat_p50_ms"] = [each["latency"]["1"]["p50_ms"]]
    return found


def test_one_run_of_each_cannot_tell_how_far_runs_differ() -> None:
    found = compare(single_run(2.0), single_run(3.0))
    assert found.regressions == []
    (sentence,) = found.unknown
    assert sentence == (
        "tflite-int8: p50 at batch 1 rose by 50.0% against savedmodel-fp32, but how far runs differ is not known from "
        "one of each: set `benchmark.repeats` to 3 on both sides"
    )
    assert compare(single_run(2.0), single_run(2.1)).unknown == []
    assert len(compare(OLD, single_run(3.0)).unknown) == 1


def test_what_more_than_doubles_is_worse_even_in_one_run() -> None:
    (sentence,) = compare(single_run(2.0), single_run(4.2)).regressions
    assert sentence.startswith("tflite-int8: p50 at batch 1 rose by 110.0%")


def test_the_choice_is_compared_where_it_changed() -> None:
    found = compare(OLD, summary(row(BASE, 0.86, 4.0)), INT8, BASE)
    assert found.regressions == [
        "what ships, tflite-int8 then and savedmodel-fp32 now: p50 at batch 1 rose by 100.0% against savedmodel-fp32 "
        "(noise: 6.5%)"
    ]
    assert "tflite-int8 is no longer among the variants" in found.notes
    assert compare(OLD, summary(row(BASE, 0.86, 4.0)), None, BASE).regressions == []
    assert compare(OLD, summary(row(BASE, 0.86, 4.0)), INT8, None).regressions == []


def test_a_choice_that_classifies_worse_is_told_by_its_own_predictions() -> None:
    new = summary(row(BASE, 0.86, 4.0), row("tflite-fp16", 0.835, 2.0))

    def now(name: str) -> list[Prediction]:
        return predicted(66 if name == "tflite-fp16" else 56)

    found = regression.compare(OLD, new, Chosen(INT8, "tflite-fp16"), lambda name: predicted(56), now)
    assert found.regressions == [
        "what ships, tflite-int8 then and tflite-fp16 now: top-1 fell by 2.50 points (p = 0.0039)"
    ]


def test_nothing_in_common_cannot_be_told() -> None:
    found = compare(summary(), OLD, None)
    assert found.regressions == []
    assert "no variant was measured both times" in found.unknown


def test_results_of_another_model_are_refused() -> None:
    with pytest.raises(PipelineError, match="those results are of m and these of n: compare results of one model"):
        compare(OLD, OLD | {"model": {"name": "n"}})


def test_a_batch_size_that_is_no_longer_measured_is_told() -> None:
    old = copy.deepcopy(OLD)
    for row_ in old["rows"]:
        row_["latency"]["8"] = row_["latency"]["1"]
    assert compare(old, OLD).unknown == [f"{name}: batch 8 is no longer measured" for name in (BASE, INT8)]


def test_other_batch_sizes_altogether_cannot_be_told() -> None:
    new = copy.deepcopy(OLD)
    for row_ in new["rows"]:
        row_["latency"] = {"4": row_["latency"]["1"]}
    found = compare(OLD, new)
    assert found.unknown == [f"{name}: batch 1 is no longer measured" for name in (BASE, INT8)]
    assert "no batch size was measured both times" in found.notes


def test_another_machine_is_told_and_its_latency_not_compared() -> None:
    new = summary(row(BASE, 0.86, 4.0), row(INT8, 0.86, 9.0)) | {"environment": {"cpu": "y"}}
    found = compare(OLD, new)
    assert found.regressions == []
    assert found.unknown == ["latency was not compared: the machine or its software is another"]


def test_without_the_baseline_latency_is_not_compared() -> None:
    found = compare(OLD, summary(row(INT8, 0.86, 9.0)))
    assert found.regressions == []
    assert any(told.startswith("latency was not compared: savedmodel-fp32") for told in found.unknown)


def predicted(wrong: int, images: int = 400) -> list[Prediction]:
    return [Prediction(f"{i}", 1, [0 if i < wrong else 1], [1.0]) for i in range(images)]


def test_a_fall_that_pairs_prove_and_counts_do_not() -> None:
    new = summary(row(BASE, 0.86, 4.0), row(INT8, 0.835, 2.0))
    assert compare(OLD, new).regressions == []
    same = Chosen(INT8, INT8)
    now = {BASE: predicted(56), INT8: predicted(66)}
    found = regression.compare(OLD, new, same, lambda name: predicted(56), now.__getitem__)
    assert found.regressions == ["tflite-int8: top-1 fell by 2.50 points (p = 0.0039)"]
    assert not any("counts" in note for note in found.notes)


def test_counts_prove_a_large_fall() -> None:
    (sentence,) = compare(OLD, summary(row(BASE, 0.86, 4.0), row(INT8, 0.7, 2.0))).regressions
    assert sentence.startswith("tflite-int8: top-1 fell by 16.00 points")


def test_a_rise_is_no_regression() -> None:
    assert compare(OLD, summary(row(BASE, 0.86, 4.0), row(INT8, 0.99, 2.0))).regressions == []


def test_other_images_are_told_and_accuracy_not_compared() -> None:
    new = summary(row(BASE, 0.86, 4.0), row(INT8, 0.1, 2.0)) | {"evaluation": {"digest": "b", "images": 400}}
    found = compare(OLD, new)
    assert found.regressions == []
    assert found.unknown == ["accuracy was not compared: the evaluation images are others"]


@pytest.mark.parametrize(("size", "count"), [(1_040_000, 0), (1_060_000, 1)])
def test_growth_on_disk_beyond_what_builds_differ(size: int, count: int) -> None:
    found = compare(OLD, summary(row(BASE, 0.86, 4.0), row(INT8, 0.86, 2.0, size=size)))
    assert len(found.regressions) == count


def test_a_variant_that_no_longer_runs_is_a_regression() -> None:
    stopped = {"variant": INT8, "status": "failed", "reason": "convert: no memory"}
    assert compare(OLD, summary(row(BASE, 0.86, 4.0), stopped)).regressions == [
        "tflite-int8 was ok and is now failed: convert: no memory"
    ]


@pytest.mark.parametrize(("machine", "status", "worse"), [("x", "skipped", 1), ("y", "skipped", 0), ("y", "failed", 1)])
def test_what_another_machine_cannot_run_has_not_become_worse(machine: str, status: str, worse: int) -> None:
    stopped = {"variant": INT8, "status": status, "reason": "no NVIDIA GPU"}
    found = compare(OLD, summary(row(BASE, 0.86, 4.0), stopped) | {"environment": {"cpu": machine}})
    assert len(found.regressions) == worse
    told = "tflite-int8 does not run on this machine: no NVIDIA GPU"
    assert (told in found.unknown) == (worse == 0)


def test_new_and_removed_variants_are_told() -> None:
    found = compare(OLD, summary(row(BASE, 0.86, 4.0), row("tflite-fp16", 0.86, 2.0)))
    assert found.regressions == []
    assert {"tflite-int8 is no longer among the variants", "tflite-fp16 is new"} <= set(found.notes)
