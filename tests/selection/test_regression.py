from collections.abc import Mapping
from dataclasses import replace

import pytest

from stages.contracts.predictions import Prediction
from stages.contracts.row import Latency, Row, Summary
from stages.contracts.status import Status
from stages.core.errors import PipelineError
from stages.selection import regression
from stages.selection.regression import Chosen, Verdict
from tests.fixtures.records import CPU_MACHINE, GPU_MACHINE
from tests.fixtures.summaries import latency, row, stopped, summary

BASE, INT8, FP16 = "savedmodel-fp32", "tflite-int8", "tflite-fp16"


def two(p50: float, base: float = 4.0, spread: float = 0.02, repeats: int = 3, top1: float = 0.86) -> Summary:
    """The baseline and one variant, timed at batch 1."""

    def timed(ms: float) -> dict[int, Latency]:
        return {1: latency(ms, (ms * (1 - spread), ms * (1 + spread)), repeats)}

    return summary(row(BASE, 0.86, timed(base)), row(INT8, top1, timed(p50)))


OLD = two(2.0)


def none(variant: str) -> list[Prediction]:
    return []


def compare(old: Summary, new: Summary, then: str | None = INT8, now: str | None = INT8) -> Verdict:
    return regression.compare(old, new, Chosen(then, now), none, none)


def holds(sentence: str, *parts: str) -> bool:
    print(sentence)
    return all(part in sentence for part in parts)


def test_the_same_results_are_no_regression() -> None:
    found = compare(OLD, OLD)
    assert found.regressions == found.unknown == ()
    compared, baseline, int8 = found.notes
    assert holds(compared, f"{BASE}, {INT8}", "dvc fetch")
    assert holds(baseline, BASE, "+0.0% at batch 1")
    assert holds(int8, INT8, "batch 1", "+0.0%", "6.5%")


def test_a_slower_variant_is_one_and_a_slower_machine_is_not() -> None:
    assert compare(OLD, two(4.0, base=8.0)).regressions == ()
    (sentence,) = compare(OLD, two(2.4)).regressions
    assert holds(sentence, INT8, "batch 1", "20.0%", BASE, "6.5%")


@pytest.mark.parametrize(("spread", "count"), [(0.02, 1), (0.06, 0)])
def test_wide_intervals_allow_more(spread: float, count: int) -> None:
    assert len(compare(OLD, two(2.2, spread=spread)).regressions) == count


def test_a_faster_variant_is_none() -> None:
    assert compare(OLD, two(1.0)).regressions == ()


def test_an_unbounded_interval_proves_nothing() -> None:
    new = summary(OLD.rows[0], row(INT8, 0.86, {1: latency(9.0, (8.0, None))}))
    found = compare(OLD, new)
    assert found.regressions == ()
    (sentence,) = found.unknown
    assert holds(sentence, INT8, "batch 1", "so few calls")


def test_one_run_of_each_cannot_tell_how_far_runs_differ() -> None:
    found = compare(two(2.0, repeats=1), two(3.0, repeats=1))
    assert found.regressions == ()
    (sentence,) = found.unknown
    assert holds(sentence, INT8, "batch 1", "50.0%", "`benchmark.repeats`")
    assert compare(two(2.0, repeats=1), two(2.1, repeats=1)).unknown == ()
    assert len(compare(OLD, two(3.0, repeats=1)).unknown) == 1


def test_what_more_than_doubles_is_worse_even_in_one_run() -> None:
    (sentence,) = compare(two(2.0, repeats=1), two(4.2, repeats=1)).regressions
    assert holds(sentence, INT8, "110.0%")


# What ships.


def test_the_choice_is_compared_where_it_changed() -> None:
    new = summary(OLD.rows[0])
    found = compare(OLD, new, INT8, BASE)
    (sentence,) = found.regressions
    assert holds(sentence, f"{INT8} then and {BASE} now", "100.0%", "6.5%")
    assert any(holds(note, INT8, "no longer") for note in found.notes)
    assert compare(OLD, new, None, BASE).regressions == ()
    assert compare(OLD, new, INT8, None).regressions == ()


def test_a_choice_that_classifies_worse_is_judged_by_its_own_predictions() -> None:
    new = summary(OLD.rows[0], row(FP16, 0.835, {1: latency(2.0)}))

    def now(name: str) -> list[Prediction]:
        return predicted(66 if name == FP16 else 56)

    (sentence,) = regression.compare(OLD, new, Chosen(INT8, FP16), lambda name: predicted(56), now).regressions
    assert holds(sentence, f"{INT8} then and {FP16} now", "2.50 points", "p = 0.0039")


# What cannot be compared.


def test_nothing_in_common_cannot_be_told() -> None:
    found = compare(summary(), OLD, None)
    assert found.regressions == ()
    assert any("no variant" in sentence for sentence in found.unknown)


def test_results_of_another_model_are_refused() -> None:
    other = replace(OLD, model=replace(OLD.model, name="other"))
    with pytest.raises(PipelineError) as caught:
        compare(OLD, other)
    assert (caught.value.code, caught.value.values) == ("other-model", {"then": "tiny", "now": "other"})


def at_sizes(*sizes: int) -> Summary:
    return summary(*(row(name, 0.86, dict.fromkeys(sizes, latency(2.0))) for name in (BASE, INT8)))


def test_a_batch_size_that_is_no_longer_measured_is_named() -> None:
    first, second = compare(at_sizes(1, 8), at_sizes(1)).unknown
    assert holds(first, BASE, "batch 8") and holds(second, INT8, "batch 8")


def test_other_batch_sizes_altogether_cannot_be_told() -> None:
    found = compare(at_sizes(1), at_sizes(4))
    assert [holds(sentence, "batch 1") for sentence in found.unknown] == [True, True]
    assert any("no batch size" in note for note in found.notes)


def test_latency_on_another_machine_is_not_compared() -> None:
    found = compare(OLD, summary(*two(9.0).rows, machine=replace(CPU_MACHINE, cpu="another CPU")))
    assert found.regressions == ()
    (sentence,) = found.unknown
    assert holds(sentence, "latency", "machine")


def test_latency_without_the_baseline_is_not_compared() -> None:
    found = compare(OLD, summary(two(9.0).rows[1]))
    assert found.regressions == ()
    assert any(holds(sentence, "latency", BASE) for sentence in found.unknown)


# Accuracy.


def predicted(wrong: int, images: int = 400) -> list[Prediction]:
    return [Prediction.plain(f"{i}", 1, [0 if i < wrong else 1], [1.0]) for i in range(images)]


def test_a_fall_that_pairs_prove_and_counts_do_not() -> None:
    new = two(2.0, top1=0.835)
    assert compare(OLD, new).regressions == ()
    now: Mapping[str, list[Prediction]] = {BASE: predicted(56), INT8: predicted(66)}
    found = regression.compare(OLD, new, Chosen(INT8, INT8), lambda name: predicted(56), now.__getitem__)
    (sentence,) = found.regressions
    assert holds(sentence, INT8, "2.50 points", "p = 0.0039")
    assert not any("counts" in note for note in found.notes)


def test_predictions_of_fewer_images_are_compared_by_counts() -> None:
    found = regression.compare(
        OLD, two(2.0, top1=0.835), Chosen(INT8, INT8), lambda name: predicted(56)[1:], lambda name: predicted(56)
    )
    assert holds(found.notes[0], f"{BASE}, {INT8}", "counts")


def test_counts_prove_a_large_fall() -> None:
    (sentence,) = compare(OLD, two(2.0, top1=0.7)).regressions
    assert holds(sentence, INT8, "16.00 points")


def test_a_rise_is_no_regression() -> None:
    assert compare(OLD, two(2.0, top1=0.99)).regressions == ()


def test_accuracy_on_other_images_is_not_compared() -> None:
    found = compare(OLD, summary(*two(2.0, top1=0.1).rows, digest="f" * 64))
    assert found.regressions == ()
    (sentence,) = found.unknown
    assert holds(sentence, "accuracy", "images")


# Size, and what runs at all.


@pytest.mark.parametrize(("size", "count"), [(2_080_000, 0), (2_120_000, 1)])
def test_growth_on_disk_beyond_what_builds_differ(size: int, count: int) -> None:
    found = compare(OLD, summary(OLD.rows[0], row(INT8, 0.86, {1: latency(2.0)}, size)))
    assert [holds(sentence, INT8, "6.0%", "2.0 to 2.1 MB") for sentence in found.regressions] == [True] * count


def without(status: Status) -> tuple[Row, Row]:
    return OLD.rows[0], stopped(INT8, status)


def test_a_variant_that_no_longer_runs_is_a_regression() -> None:
    (sentence,) = compare(OLD, summary(*without(Status("failed", "no memory", "convert")))).regressions
    assert holds(sentence, INT8, "failed", "convert: no memory")


@pytest.mark.parametrize(
    ("same_machine", "state", "worse"), [(True, "skipped", True), (False, "skipped", False), (False, "failed", True)]
)
def test_what_another_machine_cannot_run_has_not_become_worse(same_machine: bool, state: str, worse: bool) -> None:
    status = Status("skipped" if state == "skipped" else "failed", "no NVIDIA GPU")
    found = compare(OLD, summary(*without(status), machine=CPU_MACHINE if same_machine else GPU_MACHINE))
    assert (len(found.regressions) == 1) == worse
    assert any(holds(sentence, INT8, "no NVIDIA GPU") for sentence in found.unknown) != worse


def test_new_and_removed_variants_are_named() -> None:
    found = compare(OLD, summary(OLD.rows[0], row(FP16, 0.86, {1: latency(2.0)})))
    assert found.regressions == ()
    assert any(holds(note, INT8, "no longer") for note in found.notes)
    assert any(holds(note, FP16, "new") for note in found.notes)
