"""A newer library beside an older one in one run: what is worse, what cannot be told, and what is fine."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from stages.contracts.predictions import Prediction
from stages.contracts.row import Doubt, Footprint, Latency, Row
from stages.contracts.status import Status
from stages.selection import upgrade
from stages.selection.regression import Verdict
from stages.selection.upgrade import Upgrade
from tests.fixtures.summaries import latency, row, stopped, summary

OLD, NEW = "onnxruntime_1_23", "onnxruntime"
BASE = row("savedmodel-fp32", 0.86)


def timed(edition: str, p50: float = 4.0, precision: str = "int8", spread: float = 0.02) -> Row:
    return row(f"{edition}-{precision}", 0.86, {1: latency(p50, (p50 * (1 - spread), p50 * (1 + spread)))})


def predicted(right: int, images: int = 400) -> list[Prediction]:
    """Of so many images right answers."""
    return [Prediction.plain(f"{place}", 1, [1 if place < right else 0], [1.0]) for place in range(images)]


def compare(*rows: Row, right: dict[str, int] | None = None) -> Verdict:
    def predictions(name: str) -> Sequence[Prediction]:
        return predicted((right or {}).get(name, 340))

    return upgrade.compare(summary(BASE, *rows), Upgrade(OLD, NEW), predictions)


def test_a_newer_one_that_is_as_good_is_fine() -> None:
    found = compare(timed(OLD), timed(NEW), timed(OLD, precision="fp32"), timed(NEW, 3.0, "fp32"))
    assert found.regressions == found.unknown == ()
    assert [note.partition(":")[0] for note in found.notes] == [
        "onnxruntime-int8", "onnxruntime-fp32", "onnxruntime-int8", "onnxruntime-fp32"
    ]  # fmt: skip
    assert "changed by -25.0%" in found.notes[-1]
    assert found.notes[0] == "onnxruntime-int8: top-1 changed by +0.00 points (p = 1)"


def test_a_slower_one_is_worse_by_more_than_both_intervals() -> None:
    (sentence,) = compare(timed(OLD, 4.0), timed(NEW, 4.4)).regressions
    assert sentence == "onnxruntime-int8: p50 at batch 1 changed by +10.0% (noise: 5.3%)"
    assert compare(timed(OLD, 4.0), timed(NEW, 4.2)).regressions == ()
    assert compare(timed(OLD, 4.0, spread=0.1), timed(NEW, 4.4, spread=0.1)).regressions == ()


def test_one_that_classifies_worse_is_told_by_the_same_images() -> None:
    rows = timed(OLD), timed(NEW)
    (sentence,) = compare(*rows, right={"onnxruntime-int8": 330}).regressions
    assert sentence == "onnxruntime-int8: top-1 changed by -2.50 points (p = 0.002)"
    assert compare(*rows, right={"onnxruntime-int8": 337}).regressions == ()
    assert compare(*rows, right={"onnxruntime-int8": 360}).regressions == ()


def test_several_precisions_raise_the_bar() -> None:
    """Holm: 6 flips of 6 have p = 0.031 alone, and 0.063 beside another precision."""
    right = {"onnxruntime-int8": 334}
    assert compare(timed(OLD), timed(NEW), right=right).regressions
    both = [timed(edition, precision=precision) for edition in (OLD, NEW) for precision in ("fp32", "int8")]
    assert not compare(*both, right=right).regressions


@pytest.mark.parametrize("edition", [OLD, NEW])
def test_times_of_a_busy_machine_cannot_be_compared(edition: str) -> None:
    rows = [timed(OLD, 4.0), timed(NEW, 8.0)]
    doubtful = [
        replace(one, doubts=(Doubt("busy CPU", 0.4),)) if one.variant.edition == edition else one for one in rows
    ]
    found = compare(*doubtful)
    assert found.regressions == ()
    assert found.unknown == (f"the times of {edition}-int8 are doubtful (busy CPU (40 % taken by others))",)


def test_times_on_different_devices_cannot_be_compared() -> None:
    new = replace(timed(NEW), footprint=Footprint(True, 1, None, None))
    (sentence,) = compare(timed(OLD), new).unknown
    assert "one of onnxruntime_1_23-int8 and onnxruntime-int8 ran on a GPU" in sentence


def test_too_few_calls_and_other_batch_sizes_cannot_be_compared() -> None:
    few: Latency = latency(9.0, (8.0, None))
    (sentence,) = compare(timed(OLD), row("onnxruntime-int8", 0.86, {1: few})).unknown
    assert sentence == "onnxruntime-int8: so few calls do not bound p50 at batch 1"
    (sentence,) = compare(timed(OLD), row("onnxruntime-int8", 0.86, {1: latency(4.0), 8: latency(9.0)})).unknown
    assert sentence == "onnxruntime_1_23-int8 was not timed at batch 8"
    (sentence,) = compare(*(replace(one, speeds=()) for one in (timed(OLD), timed(NEW)))).unknown
    assert sentence == "onnxruntime_1_23-int8 and onnxruntime-int8 were not timed"


def test_a_row_that_is_missing_is_named() -> None:
    assert compare(timed(OLD), timed(NEW), timed(NEW, precision="fp32")).unknown == (
        "list onnxruntime_1_23-fp32 in `variants`, and run `make repro`",
    )
    assert compare().unknown == ("list onnxruntime_1_23-fp32 and onnxruntime-fp32 in `variants`, and run `make repro`",)


def test_what_fails_is_worse_and_what_is_skipped_is_unknown() -> None:
    failed, skipped = Status("failed", "no memory"), Status("skipped", "no such Python")
    assert compare(timed(OLD), stopped("onnxruntime-int8", failed)).regressions == (
        "onnxruntime-int8 was failed (no memory)",
    )
    assert compare(timed(OLD), stopped("onnxruntime-int8", skipped)).unknown == (
        "onnxruntime-int8 was skipped (no such Python)",
    )
    found = compare(stopped("onnxruntime_1_23-int8", failed), timed(NEW))
    assert (found.regressions, len(found.unknown)) == ((), 1)


def test_predictions_of_other_images_cannot_be_compared() -> None:
    def predictions(name: str) -> Sequence[Prediction]:
        return predicted(300) if name.startswith(OLD) else predicted(300, 401)

    found = upgrade.compare(summary(timed(OLD), timed(NEW)), Upgrade(OLD, NEW), predictions)
    assert found.unknown == ("the predictions of onnxruntime-int8 are of other images",)


def test_a_larger_model_is_told_of() -> None:
    found = compare(timed(OLD), replace(timed(NEW), conversion=row("onnxruntime-int8", size=3_000_000).conversion))
    assert found.notes[-1] == "onnxruntime-int8: size on disk grew by 50.0%"
