from dataclasses import replace
from pathlib import Path

import pytest

from stages.contracts import codec
from stages.contracts.conversion import Conversion, conversion_path
from stages.contracts.row import SUMMARY, AtChance, Doubt, Permuted, Row
from stages.contracts.selection import Limits, Selection
from stages.contracts.status import OK, Status
from stages.contracts.variant import Variant
from stages.core import files
from stages.selection.certainty import hesitation, unmeasured
from tests.fixtures.summaries import row, stopped, summary

BASELINE, FP32, INT8 = "savedmodel-fp32", "tflite-fp32", "tflite-int8"
LIMITS = Limits(None, None, 1, None, None)
CHOSEN = Selection("p", "latency", 1, LIMITS, "selected", "Ship it.", INT8, (), None, (), {})
BUSY = (Doubt("unsteady", 0.2, batch_size=1), Doubt("unsteady", 0.3, batch_size=8))
NO_GPU, NO_MEMORY = Status("skipped", "no NVIDIA GPU"), Status("failed", "no memory", "convert")


@pytest.fixture(autouse=True)
def converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record of the winner's conversion, as it was measured."""
    monkeypatch.chdir(tmp_path)
    record("f" * 64)


def record(sha256: str) -> None:
    codec.write(Conversion(Variant.parse(INT8), OK, 1.5, {"model": 1}, sha256), conversion_path(INT8))


def reason(*rows: Row, chosen: Selection = CHOSEN) -> str:
    return hesitation(chosen, summary(*rows)) or ""


def test_a_run_in_which_all_is_well_may_move_the_champion() -> None:
    assert reason(row(BASELINE), row(INT8), stopped("tftrt-fp32", NO_GPU)) == ""
    assert reason(row(BASELINE), row(FP32, doubts=BUSY), row(INT8)) == ""


def test_a_failed_variant_keeps_the_champion_whichever_it_is() -> None:
    assert reason(row(BASELINE), stopped(FP32, NO_MEMORY), row(INT8)) == f"{FP32} failed"


def test_a_choice_that_is_none_is_told_first() -> None:
    assert reason(stopped(FP32, NO_MEMORY), chosen=replace(CHOSEN, outcome="cannot tell")) == "cannot tell"


def test_a_doubtful_winner_keeps_it() -> None:
    assert reason(row(INT8, doubts=BUSY)) == f"the measurement of {INT8} is doubtful (unsteady)"


@pytest.mark.parametrize("found", [{"at_chance": AtChance(2, 20, 0.5)}, {"permuted": Permuted(9, 11, 99, 18, 99)}])
def test_an_accuracy_that_means_nothing_keeps_it(found: dict[str, object]) -> None:
    baseline = row(BASELINE)
    assert baseline.accuracy
    worthless = replace(baseline, accuracy=replace(baseline.accuracy, **found))  # type: ignore[arg-type]
    assert BASELINE in reason(worthless, row(INT8))


def test_what_an_interrupted_run_left_keeps_it() -> None:
    files.write_text(SUMMARY, "{}")
    chosen = replace(CHOSEN, figures=files.sha256(SUMMARY))
    assert reason(row(INT8), chosen=chosen) == ""
    files.write_text(SUMMARY, "{ }")
    assert str(SUMMARY) in reason(row(INT8), chosen=chosen)
    record("0" * 64)
    assert "converted again" in reason(row(INT8))


@pytest.mark.parametrize(
    ("champion", "told"),
    [
        (FP32, ""),
        ("tflite-fp16", "tflite-fp16, is not among `variants`"),
        (None, "no variant"),
        (INT8, "failed (convert: no memory)"),
        ("tftrt-fp32", "skipped (no NVIDIA GPU)"),
        (BASELINE, f"{BASELINE} is doubtful"),
    ],
)
def test_a_champion_is_beaten_by_what_was_measured_beside_it_alone(champion: str | None, told: str) -> None:
    rows = (row(FP32), row(BASELINE, doubts=BUSY), stopped(INT8, NO_MEMORY), stopped("tftrt-fp32", NO_GPU))
    found = unmeasured(champion, rows)
    assert found is None if not told else found is not None and told in found
