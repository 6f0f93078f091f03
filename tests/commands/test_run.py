"""What `make repro` does around the pipeline."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages import select
from stages.cluster import adopt
from stages.commands import cache, kept, outcome
from stages.commands import results as results_of
from stages.commands import run as command
from stages.commands.lock import exclusive
from stages.contracts import codec
from stages.contracts.conversion import folder
from stages.contracts.row import SUMMARY
from stages.contracts.selection import SELECTION
from stages.contracts.status import Status
from stages.contracts.timing import Timing, VariantTiming
from stages.contracts.variant import BASELINE
from stages.core import errors, files
from stages.core.errors import PipelineError
from stages.params import document
from stages.params.load import PARAMS
from stages.reporting.report_data import PAGE
from stages.reporting.table import SUMMARY_TABLE
from stages.statistics import summary
from tests.fixtures.errors import refused
from tests.fixtures.records import Results

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("engine", ["ray", "local"])
def test_the_engine_is_set_in_its_one_line(checkout: Path, capsys: pytest.CaptureFixture[str], engine: str) -> None:
    before = PARAMS.read_text()
    command.set_engine(engine)
    assert document.check().execution.engine == engine
    assert PARAMS.read_text() == before.replace("\n  engine: local\n", f"\n  engine: {engine}\n")
    assert bool(capsys.readouterr().out) == (engine == "ray")


@pytest.mark.parametrize(
    ("line", "after"),
    [('engine: "local"', "engine: ray"), ("engine:", "engine: ray"), ("engine: local  # a", "engine: ray  # a")],
)
def test_an_engine_is_set_however_it_was_written(checkout: Path, line: str, after: str) -> None:
    before = PARAMS.read_text()
    PARAMS.write_text(before.replace("\n  engine: local\n", f"\n  {line}\n"))
    command.set_engine("ray")
    assert PARAMS.read_text() == before.replace("\n  engine: local\n", f"\n  {after}\n")


def test_an_engine_that_cannot_be_set_is_told(checkout: Path) -> None:
    PARAMS.write_text("execution: {engine: local}\n")
    with pytest.raises(PipelineError) as caught:
        command.set_engine("ray")
    assert (caught.value.code, caught.value.values["key"]) == ("no-engine-line", "execution.engine")


def test_a_second_pipeline_in_a_checkout_is_refused(checkout: Path) -> None:
    with exclusive(), pytest.raises(PipelineError) as caught, exclusive():
        pass
    assert caught.value.code == "checkout-busy"


def test_a_lock_ends_with_the_process_that_held_it(checkout: Path) -> None:
    code = "import os; from stages.commands.lock import exclusive; exclusive().__enter__(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], check=False, env=os.environ | {"PYTHONPATH": str(ROOT)})
    with exclusive():
        pass


@pytest.mark.parametrize("repository", [False, True])
def test_a_folder_without_git_is_told_what_dvc_needs(checkout: Path, repository: bool) -> None:
    if repository:
        subprocess.run(["git", "init", "-q"], check=True)
    with pytest.raises(PipelineError) as caught:
        command.run([sys.executable, "-c", "raise SystemExit(3)"])
    assert ("git init" in str(caught.value)) != repository
    assert ("exit status 3" in str(caught.value)) == repository


ENTRY = "schema: '2.0'\nstages:\n  environment: {cmd: python -m stages.environment}\n"


@pytest.mark.parametrize("text", ["half", "", "stages: [", "<<<<<<< HEAD\n=======\n", ENTRY + "  save: 5\n", "\0"])
def test_a_damaged_record_of_dvc_is_named_with_what_mends_it(checkout: Path, text: str) -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")
    kept.LOCK.write_text(text)
    error = str(refused(command.run, [sys.executable, "-c", "raise SystemExit(255)"]))
    assert error.startswith("dvc.lock cannot be read (") and "`git checkout dvc.lock`, or delete it" in error
    kept.LOCK.write_text(ENTRY)
    assert "exit status 255" in str(refused(command.run, [sys.executable, "-c", "raise SystemExit(255)"]))


@pytest.mark.parametrize("text", ["stages: [", "half", "stages: 5\n", "stages: {save: {cmd: a, outs: 5}}\n", "\0"])
def test_a_damaged_pipeline_is_named_with_what_mends_it(complete: dict[Path, bytes], text: str) -> None:
    kept.PIPELINE.write_text(text)
    error = refused(command.run, breaking("images"))
    assert (error.code, error.values["file"]) == ("dvc-file-damaged", "dvc.yaml")
    assert str(error).startswith("dvc.yaml cannot be read (") and str(error).endswith("`git checkout dvc.yaml`")
    assert as_before(complete)


@pytest.fixture
def complete(results: Results, edit: Callable[..., None]) -> dict[Path, bytes]:
    """A checkout in which a run was complete; the files that show it."""
    subprocess.run(["git", "init", "-q"], check=True)
    shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")
    edit(("variants", [BASELINE.name]))
    results.ok(BASELINE.name, [0, 0, 0, 1], 40.0)
    codec.write(summary.build([BASELINE.name]), SUMMARY)
    select.main()
    shown = [*outcome.SHARED.values(), SUMMARY_TABLE, folder(BASELINE.name) / "model", Path("dvc.lock")]
    for path in shown:
        if not path.exists():
            files.write_text(path, f"the first {path.name}")
    return {path: path.read_bytes() for path in shown}


def breaking(stage: str, status: int = 0) -> list[str]:
    """A command that leaves what DVC does if that stage fails: its record and all that follow are gone."""
    gone = [str(path) for path in list(outcome.SHARED.values())[list(outcome.SHARED).index(stage) :]]
    code = f"""
import json, os, pathlib, shutil
for path in {gone}:
    pathlib.Path(path).unlink(missing_ok=True)
shutil.rmtree("models/{BASELINE.name}")
pathlib.Path("dvc.lock").write_text('{{"schema": "2.0", "stages": {{}}}}')  # in its place, as DVC does
with open(os.environ["{errors.COLLECT}"], "a") as collected:
    collected.write(json.dumps("no image is left") + chr(10))
raise SystemExit({status})
"""
    return [sys.executable, "-c", code]


def as_before(complete: dict[Path, bytes]) -> bool:
    return {path: path.read_bytes() for path in complete if path.exists()} == complete


@pytest.mark.parametrize("stage", outcome.SHARED)
def test_whichever_shared_stage_fails_the_results_before_it_stay(
    complete: dict[Path, bytes], stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(command.run, breaking(stage))
    assert error.code == "run-failed" and f"the stage `{stage}` failed" in str(error)
    assert as_before(complete)
    failed = kept.read(kept.FAILED / "run.json")
    assert failed and failed.reason == f"the stage `{stage}` failed, so there is no table: no image is left"
    assert f"the results {results_of.made()}, are as they were" in capsys.readouterr().err


def test_a_first_run_that_fails_leaves_what_the_clone_brought(
    complete: dict[Path, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    PAGE.unlink()
    refused(command.run, breaking("images"))
    left = "the results that came with the checkout, of a run elsewhere, are as they were; what this one left is in "
    assert left in capsys.readouterr().err


@pytest.mark.parametrize("stage", ["sweep", "benchmark"])
def test_a_stage_that_all_need_and_that_was_ended_leaves_the_results_before_it(
    complete: dict[Path, bytes], stage: str
) -> None:
    """Its record says why, and every row of the table beside it would have that reason."""
    lost = {
        "sweep": adopt.lost((BASELINE.name,)),
        "benchmark": Timing(10, {BASELINE.name: VariantTiming(Status("failed", "the stage ended"))}),
    }
    path = outcome.SHARED[stage]
    codec.write(lost[stage], Path("lost.json"))
    code = f"import os, pathlib; pathlib.Path({str(path)!r}).unlink(); os.replace('lost.json', {str(path)!r})"
    assert f"the stage `{stage}` failed" in str(refused(command.run, [sys.executable, "-c", code]))
    assert as_before(complete)


def test_a_pipeline_that_ends_early_leaves_the_results_before_it(complete: dict[Path, bytes]) -> None:
    assert "exit status 3" in str(refused(command.run, breaking("benchmark", 3)))
    assert as_before(complete)


def test_ctrl_c_leaves_the_results_before_it(complete: dict[Path, bytes], heeded: None) -> None:
    interrupt = "import os, signal, time; os.kill(os.getppid(), signal.SIGINT); time.sleep(60)"
    *_, code = breaking("benchmark")
    ends = "raise SystemExit(0)"
    with pytest.raises(KeyboardInterrupt):
        command.run([sys.executable, "-c", code.replace(ends, interrupt)])
    assert as_before(complete)


def test_a_table_of_failures_alone_replaces_no_results(complete: dict[Path, bytes], results: Results) -> None:
    results.stopped(BASELINE.name, Status("failed", "convert", "no memory"))
    codec.write(summary.build([BASELINE.name]), SUMMARY)
    select.main()
    second = {str(path): path.read_text() for path in (SUMMARY, SELECTION)}
    for path, content in complete.items():
        path.unlink()
        path.write_bytes(content)
    code = f"""
import pathlib
for name, text in {second}.items():
    path = pathlib.Path(name)
    path.unlink()
    path.write_text(text)
"""
    assert f"{BASELINE.name} failed, as the table says" in str(refused(command.run, [sys.executable, "-c", code]))
    assert as_before(complete)
    PAGE.unlink()  # as in a clone, which has the summaries of a commit
    refused(command.run, [sys.executable, "-c", code + f"pathlib.Path('{PAGE}').write_text('second')"])
    assert SUMMARY.read_text() == second[str(SUMMARY)]


@pytest.mark.parametrize("text", ["model: [", "- a list", "nonsense: 1", "\0", None])
def test_params_that_are_wrong_touch_nothing(complete: dict[Path, bytes], text: str | None) -> None:
    PARAMS.unlink()
    if text is not None:
        PARAMS.write_text(text)
    refused(command.run, breaking("environment"))
    assert as_before(complete)
    assert not kept.FOLDER.exists()


@pytest.mark.parametrize("lost", [{}, {"environment": ["always changed"]}, {"benchmark": [{"changed outs": {}}]}])
def test_results_that_dvc_did_not_keep_fail_the_run(
    complete: dict[Path, bytes], monkeypatch: pytest.MonkeyPatch, lost: dict[str, Any]
) -> None:
    """DVC's own words, from a stand-in: it says that its cache is full, and ends well."""
    told = f"print({json.dumps(json.dumps(lost))})"
    monkeypatch.setattr(cache, "STATUS", (sys.executable, "-c", told))
    monkeypatch.setattr(outcome, "problems", lambda setting: [])
    rewrite = (
        "import pathlib; path = pathlib.Path('reports/benchmark.json'); text = path.read_text(); path.unlink(); "
        "path.write_text(text + chr(10))"
    )
    if "benchmark" in lost:
        error = refused(command.run, [sys.executable, "-c", rewrite])
        assert (error.code, "DVC could not keep the results of benchmark" in str(error)) == ("run-failed", True)
    else:
        command.run([sys.executable, "-c", rewrite])
    assert not kept.FOLDER.exists()
