"""Who reads results after a run that failed gets the last complete ones, and is told of which run they are."""

import os
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from stages import select
from stages.commands import check, export, kept, outcome, store
from stages.commands import results as command
from stages.commands.lock import exclusive
from stages.contracts import codec
from stages.contracts.row import SUMMARY
from stages.contracts.selection import SELECTION
from stages.core.errors import PipelineError
from stages.params.load import PARAMS
from stages.reporting.report_data import PAGE
from stages.statistics import summary
from stages.tracking import receipts
from tests.fixtures.errors import refused
from tests.fixtures.records import Results

ROOT = Path(__file__).parents[2]
NAMES = ("savedmodel-fp32", "tflite-int8")
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def made(results: Results, edit: Callable[..., None]) -> Path:
    """A checkout with the results of a run whose params.yaml has been changed since, to what fails."""
    Path("dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    edit(("variants", list(NAMES)))
    for name, p50 in zip(NAMES, (40.0, 20.0), strict=True):
        results.ok(name, [0, 0, 0, 1], p50)
    codec.write(summary.build(NAMES), SUMMARY)
    select.main()
    edit(("evaluation.source", "/nowhere"))
    return Path.cwd()


def broken_off() -> None:
    for path in (SUMMARY, SELECTION):
        path.unlink()


def test_results_of_other_params_are_refused_until_a_run_with_these_was_tried(made: Path, capsys: Captured) -> None:
    assert refused(check.check, None).code == "params-changed"
    kept.begin()
    broken_off()
    kept.settle("the stage `images` failed")
    assert check.check(None) == 0
    said = capsys.readouterr()
    assert "Ship tflite-int8" in said.out
    assert "the stage `images` failed" in said.err and f"the results {command.made()}" in said.err


def test_a_run_that_was_killed_is_mended_by_who_reads(made: Path, capsys: Captured) -> None:
    kept.begin()
    broken_off()
    assert check.check(None) == 0
    assert kept.KILLED in capsys.readouterr().err
    assert SUMMARY.exists() and not kept.MARK.exists()


def test_while_a_run_is_at_work_the_results_before_it_are_read(made: Path, capsys: Captured) -> None:
    with exclusive():
        kept.begin()
        broken_off()
        assert check.check(None) == 0
        assert Path.cwd() == made and not SUMMARY.exists()
    assert "a run has been at work since" in capsys.readouterr().err


def test_a_run_at_work_without_results_before_it_has_none(made: Path, capsys: Captured) -> None:
    broken_off()
    with exclusive():
        kept.begin()
        assert refused(check.check, None).code == "no-results"
        assert refused(export.export, Path("export")).code == "checkout-busy"
    assert "none was before it" in capsys.readouterr().err


def test_only_results_that_were_made_here_have_a_time(made: Path, capsys: Captured) -> None:
    """Git brings the summaries of a commit alone, and dates them by the clone."""
    os.utime(SELECTION, (datetime(2026, 3, 1, 8, 12).timestamp(),) * 2)
    kept.begin()
    kept.settle("it failed")
    told = {}
    for page in (False, True):
        if page:
            PAGE.write_text("")
        assert check.check(None) == 0
        told[page] = capsys.readouterr().err.strip().rpartition(": ")[2]
    assert told == {
        False: "these are the results that came with the checkout, of a run elsewhere",
        True: "these are the results of the run before, of 2026-03-01 08:12",
    }


@pytest.mark.parametrize("wrong", ["model: [", "nonsense: 1\n"])
def test_wrong_params_hide_no_results(made: Path, capsys: Captured, wrong: str) -> None:
    PARAMS.write_text(wrong)
    assert check.check(None) == 0
    said = capsys.readouterr()
    assert "Ship tflite-int8" in said.out and "params.yaml" in said.err and f"the results {command.made()}" in said.err


def test_the_store_is_told_whatever_params_say(made: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    PARAMS.write_text("model: [")
    with pytest.raises(PipelineError):
        store.show()
    codec.write(receipts.TrackReceipt("key", "sqlite:///a.db", "run", None), receipts.TRACK)
    store.show()
    assert capsys.readouterr().out == "sqlite:///a.db\n"


def test_a_revision_is_compared_while_a_run_is_at_work(made: Path) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for arguments in (["init", "-q"], ["add", str(SUMMARY), str(SELECTION)], ["commit", "-qm", "results"]):
        subprocess.run(["git", *identity, *arguments], check=True)
    with exclusive():
        kept.begin()
        broken_off()
        assert check.check("HEAD") == 0


def test_figures_that_changed_are_refused_always(made: Path) -> None:
    kept.begin()
    kept.settle()
    SUMMARY.write_text(SUMMARY.read_text() + " ")
    assert refused(outcome.current_choice, True).code == "figures-changed"
