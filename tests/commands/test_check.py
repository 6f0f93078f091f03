import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from stages import select
from stages.commands import check as command
from stages.contracts import codec
from stages.contracts.row import SUMMARY
from stages.contracts.selection import SELECTION, Selection
from stages.core.errors import PipelineError
from stages.statistics import summary
from tests.fixtures.records import Results

NAMES = ("savedmodel-fp32", "tflite-int8")
Finish = Callable[..., None]


@pytest.fixture
def finish(results: Results, edit: Callable[..., None]) -> Finish:
    """Write the summary and the choice of two variants, as the pipeline would: finish(p50 of INT8, *changes)."""
    edit(("variants", list(NAMES)))

    def write(p50: float, *changes: tuple[str, Any]) -> None:
        edit(*changes)
        results.ok(NAMES[0], [0, 0, 0, 1], 40.0)
        results.ok(NAMES[1], [0, 0, 0, 1], p50)
        codec.write(summary.build(NAMES), SUMMARY)
        select.main()

    return write


def code(against: str | None) -> str:
    """Of the error that the check ends with."""
    with pytest.raises(PipelineError) as caught:
        command.check(against)
    return caught.value.code


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def committed(finish: Finish) -> None:
    """A git repository whose only commit, tagged v1, holds results with 20 ms for INT8."""
    finish(20.0)
    git("init")
    git("add", str(SUMMARY), str(SELECTION))
    git("commit", "-m", "results")
    git("tag", "v1")


def test_without_a_budget_nothing_is_called_within_it(finish: Finish, capsys: pytest.CaptureFixture[str]) -> None:
    finish(20.0)
    codec.write(replace(codec.read(Selection, SELECTION), outcome="cannot tell"), SELECTION)
    assert command.check(None) == command.STATUS["cannot tell"]
    assert f"  {NAMES[1]}: best figure" in capsys.readouterr().out.splitlines()


def test_a_choice_is_status_0_with_a_line_for_each_variant(finish: Finish, capsys: pytest.CaptureFixture[str]) -> None:
    finish(20.0)
    assert command.check(None) == 0
    assert capsys.readouterr().out.splitlines() == [
        "tiny on 4 images (a CPU, 2 threads)",
        "  savedmodel-fp32: p50 of 40 ms at batch 1 against the p50 of 20 ms at batch 1 of tflite-int8",
        "  tflite-int8: chosen",
        "Ship tflite-int8 (p50 of 20 ms at batch 1), the best of 2 measured, as no budget is set.",
    ]


def test_what_cannot_be_told_and_nothing_within_budget_have_statuses_of_their_own(finish: Finish) -> None:
    finish(20.0, ("budget.max_top1_drop", 0.01))
    assert command.check(None) == 3
    finish(20.0, ("budget.max_size_bytes", 1))
    assert command.check(None) == 4


def test_a_choice_by_an_accuracy_of_chance_is_none_for_a_job(
    finish: Finish, results: Results, edit: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    finish(20.0)
    for name, p50 in zip(NAMES, (40.0, 20.0), strict=True):
        results.ok(name, [0, 1] * 30, p50, [0, 0, 1, 1] * 15)
    codec.write(summary.build(NAMES), SUMMARY)
    select.main()
    assert command.check(None) == 3
    assert "No comparison means much yet" in capsys.readouterr().out


def test_a_budget_that_changed_since_is_an_error(finish: Finish, edit: Callable[..., None]) -> None:
    finish(20.0)
    edit(("budget.max_size_bytes", 1))
    assert code(None) == "params-changed"


def test_variants_that_changed_since_are_an_error(finish: Finish, edit: Callable[..., None]) -> None:
    finish(20.0)
    edit(("variants", [*NAMES, "tflite-fp16"]))
    assert code(None) == "params-changed"


def test_no_results_are_an_error(checkout: Any) -> None:
    assert code(None) == "no-results"


def test_results_like_those_of_a_revision_pass(committed: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.check("v1") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Nothing that was compared is worse than v1 beyond noise."


def test_a_regression_has_a_status_of_its_own(
    committed: None, finish: Finish, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(50.0)
    assert command.check("v1") == 5
    *_, unknown, last = capsys.readouterr().out.splitlines()
    assert unknown.startswith(
        "Cannot tell: what ships, tflite-int8 then and savedmodel-fp32 now: p50 at batch 1 rose by"
    )
    assert last.startswith("Worse than v1: tflite-int8: p50 at batch 1 rose by 150.0% against savedmodel-fp32")


def test_what_one_run_cannot_tell_has_the_status_of_that(
    committed: None, finish: Finish, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(30.0)
    assert command.check("v1") == 3
    *_, unknown, last = capsys.readouterr().out.splitlines()
    assert unknown.startswith("Cannot tell: tflite-int8: p50 at batch 1 rose by 50.0% against savedmodel-fp32, but how")
    assert last == "Nothing that was compared is worse than v1 beyond noise."


def test_a_choice_that_is_no_longer_within_budget_keeps_its_status(committed: None, finish: Finish) -> None:
    finish(20.0, ("budget.max_size_bytes", 1))
    assert command.check("v1") == 4


def test_an_unknown_revision_is_an_error(committed: None) -> None:
    assert code("v2") == "no-such-revision"


@pytest.mark.parametrize("revision", ["", "--output=x", "v1:reports"])
def test_what_is_no_revision_is_an_error(committed: None, revision: str) -> None:
    assert code(revision) == "no-such-revision"


def test_a_commit_without_results_and_one_with_damaged_ones_are_errors(committed: None) -> None:
    git("rm", "--cached", str(SUMMARY))
    git("commit", "-m", "no results")
    assert code("HEAD") == "no-such-revision"
    good = SUMMARY.read_text()
    SUMMARY.write_text("<<<<<<< HEAD\n")
    git("add", str(SUMMARY), str(SELECTION))
    git("commit", "-m", "conflict")
    SUMMARY.write_text(good)
    assert code("HEAD") == "revision-unreadable"


@pytest.mark.parametrize("change", [("model.name", "mobilenet_v2"), ("benchmark.min_samples", 7)])
def test_any_parameter_that_changed_since_is_an_error(
    finish: Finish, edit: Callable[..., None], change: tuple[str, Any]
) -> None:
    finish(20.0)
    edit(change)
    assert code(None) == "params-changed"


def test_another_place_to_log_to_changes_no_choice(finish: Finish, edit: Callable[..., None]) -> None:
    finish(20.0)
    edit(("tracking.experiment", "another"))
    assert command.check(None) == 0


def test_a_choice_that_is_no_record_is_an_error(finish: Finish) -> None:
    finish(20.0)
    SELECTION.write_text("[]")
    assert code(None) == "record-field"


def test_results_of_another_version_are_an_error(committed: None) -> None:
    before = SUMMARY.read_text()
    SUMMARY.write_text(before.replace('"schema": 1', '"schema": 0', 1))
    git("commit", "-am", "older")
    SUMMARY.write_text(before)
    assert code("HEAD") == "revision-unreadable"
