import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages import __main__ as command
from stages import select, summarize
from stages.contracts import paths
from stages.core import files
from stages.core.errors import PipelineError
from stages.params import document
from tests.fixtures.models import refusal

NAMES = ("savedmodel-fp32", "tflite-int8")
Finish = Callable[..., None]


@pytest.fixture
def finish(results: Any, edit: Callable[..., None]) -> Finish:
    """Write the summary and the choice of two variants, as the pipeline would: finish(p50 of INT8, *changes)."""
    edit(("variants", list(NAMES)))

    def write(p50: float, *changes: tuple[str, Any]) -> None:
        edit(*changes)
        results.ok(NAMES[0], [0, 0, 0, 1], 40.0)
        results.ok(NAMES[1], [0, 0, 0, 1], p50)
        summary = summarize.summarise(NAMES)
        files.write_json(paths.SUMMARY, summary)
        files.write_json(paths.SELECTION, select.select(summary, document.load()))

    return write


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def committed(finish: Finish) -> None:
    """A git repository whose only commit, tagged v1, holds results with 20 ms for INT8."""
    finish(20.0)
    git("init")
    git("add", str(paths.SUMMARY), str(paths.SELECTION))
    git("commit", "-m", "results")
    git("tag", "v1")


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


def test_a_budget_that_changed_since_is_an_error(finish: Finish, edit: Callable[..., None]) -> None:
    finish(20.0)
    edit(("budget.max_size_bytes", 1))
    with pytest.raises(PipelineError, match=r"params.yaml has changed since reports/selection.json was made"):
        command.check(None)


def test_variants_that_changed_since_are_an_error(finish: Finish, edit: Callable[..., None]) -> None:
    finish(20.0)
    edit(("variants", [*NAMES, "tflite-fp16"]))
    with pytest.raises(PipelineError, match=r"params.yaml has changed"):
        command.check(None)


def test_no_results_are_an_error(checkout: Any) -> None:
    with pytest.raises(PipelineError, match=r"there are no results to check yet: run `make repro` first"):
        command.check(None)


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
    with pytest.raises(
        PipelineError, match=r"git knows no revision 'v2': name a commit, tag or branch that holds results"
    ):
        command.check("v2")


@pytest.mark.parametrize("revision", ["", "--output=x", "v1:reports"])
def test_what_is_no_revision_is_an_error(committed: None, revision: str) -> None:
    with pytest.raises(PipelineError, match="git knows no revision"):
        command.check(revision)


def test_a_commit_without_results_and_one_with_damaged_ones_are_errors(committed: None) -> None:
    git("rm", "--cached", str(paths.SUMMARY))
    git("commit", "-m", "no results")
    with pytest.raises(PipelineError, match=r"git knows no reports/summary\.json at HEAD"):
        command.check("HEAD")
    good = paths.SUMMARY.read_text()
    paths.SUMMARY.write_text("<<<<<<< HEAD\n")
    git("add", str(paths.SUMMARY), str(paths.SELECTION))
    git("commit", "-m", "conflict")
    paths.SUMMARY.write_text(good)
    with pytest.raises(PipelineError, match=r"reports/summary\.json at HEAD is damaged .*: name another commit"):
        command.check("HEAD")


@pytest.mark.parametrize("change", [("model.name", "mobilenet_v2"), ("benchmark.min_samples", 7)])
def test_any_parameter_that_changed_since_is_an_error(
    finish: Finish, edit: Callable[..., None], change: tuple[str, Any]
) -> None:
    finish(20.0)
    edit(change)
    with pytest.raises(PipelineError, match=r"params\.yaml has changed since"):
        command.check(None)


def test_another_place_to_log_to_changes_no_choice(finish: Finish, edit: Callable[..., None]) -> None:
    finish(20.0)
    edit(("tracking.experiment", "another"))
    assert command.check(None) == 0


def test_a_choice_that_is_no_record_is_an_error(finish: Finish) -> None:
    finish(20.0)
    files.write_json(paths.SELECTION, [])
    with pytest.raises(PipelineError, match="run `make repro` first"):
        command.check(None)


def test_results_of_another_version_are_an_error(committed: None) -> None:
    summary = files.read_json(paths.SUMMARY)
    for row in summary["rows"]:
        row["latency"] = {size: {"p50_ms": 1.0} for size in row["latency"]}
    files.write_json(paths.SUMMARY, summary)
    git("commit", "-am", "older")
    with pytest.raises(PipelineError, match=r"at HEAD cannot be read \(KeyError: 'p50_ci95_ms'\), as another version"):
        command.check("HEAD")


@pytest.mark.parametrize("engine", ["ray", "local"])
def test_the_engine_is_set_in_its_one_line(checkout: Path, capsys: pytest.CaptureFixture[str], engine: str) -> None:
    before = paths.PARAMS.read_text()
    command.set_engine(engine)
    assert document.load().execution.engine == engine
    assert paths.PARAMS.read_text() == before.replace("\n  engine: local\n", f"\n  engine: {engine}\n")
    assert bool(capsys.readouterr().out) == (engine == "ray")


@pytest.mark.parametrize(
    ("line", "after"),
    [('engine: "local"', "engine: ray"), ("engine:", "engine: ray"), ("engine: local  # a", "engine: ray  # a")],
)
def test_an_engine_is_set_however_it_was_written(checkout: Path, line: str, after: str) -> None:
    before = paths.PARAMS.read_text()
    paths.PARAMS.write_text(before.replace("\n  engine: local\n", f"\n  {line}\n"))
    command.set_engine("ray")
    assert paths.PARAMS.read_text() == before.replace("\n  engine: local\n", f"\n  {after}\n")


def test_an_engine_that_cannot_be_set_is_told(checkout: Path) -> None:
    paths.PARAMS.write_text("execution: {engine: local}\n")
    assert refusal(command.set_engine, "ray") == (
        "params.yaml has no line for execution.engine: write `engine: ray` there by hand"
    )
