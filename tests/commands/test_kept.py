"""The last results survive a run that fails, and one that is killed between any two changes of files."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stages.commands import kept
from stages.contracts.row import SUMMARY
from stages.contracts.selection import SELECTION
from stages.reporting.report_data import PAGE

PIPELINE = """
stages:
  environment:
    always_changed: true
    outs: [reports/environment.json: {cache: false}]
  train:
    outs: [data/train]
  sweep:
    outs: [models/sweep: {persist: true}]
  convert:
    matrix: {variant: [tflite-fp32]}
    outs: ["models/${item.variant}", "reports/variants/${item.variant}/convert.json"]
  summarize:
    outs: [reports/summary.json: {cache: false}, reports/selection.json: {cache: false}, reports/report.html]
  track:
    outs: [reports/track.json: {cache: false, persist: true}]
"""
MODEL = "models/tflite-fp32/model"
MADE = (
    "dvc.lock", "data/train/a.png", MODEL, "reports/environment.json", "reports/variants/tflite-fp32/convert.json",
    "reports/report.html", "reports/selection.json", "reports/summary.json",
)  # fmt: skip
CHANGES = {"os.mkdir", "os.link", "os.remove", "os.rename", "os.rmdir"}


class Stopper:
    """Lets only so many changes of files happen, as if the process were killed then; None: any number."""

    left: int | None = None


class Killed(BaseException):
    """The process is gone."""


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if Stopper.left is not None and (event in CHANGES or writes):
        Stopper.left -= 1
        if Stopper.left < 0:
            raise Killed


sys.addaudithook(_watch)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "first").mkdir()
    monkeypatch.chdir(tmp_path / "first")
    yield tmp_path
    Stopper.left = None


def write(path: Path, text: str) -> None:
    """As stages do: never into a file that is there; and as DVC does, into its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path != kept.LOCK:
        path.unlink(missing_ok=True)
    path.write_text(f"{text} of {path.name}")


def begin_anew(text: str) -> None:
    """A checkout with the files of a whole run, each of its own text, and with files of the user's."""
    os.chdir(tempfile.mkdtemp(dir=".."))
    Path("dvc.yaml").write_text(PIPELINE)
    for name in MADE:
        write(Path(name), text)
    write(Path("models/sweep/finished"), text)
    write(Path("data/mine/a.png"), "the user's")


def broken_off() -> None:
    """What a run has done when it fails: some files are gone, some are others, and one is new."""
    shutil.rmtree("models/tflite-fp32")
    for name in ("reports/summary.json", "reports/selection.json", "reports/report.html"):
        Path(name).unlink()
    for name in ("dvc.lock", "reports/environment.json", "models/savedmodel-fp32/model", "models/sweep/finished"):
        write(Path(name), "second")


def whole(text: str) -> bool:
    """Whether the files here are those of that run and no other."""
    others = [path for path in kept.outputs() if path.exists() and not any(_below(path, name) for name in MADE)]
    same = all(Path(name).exists() and Path(name).read_text() == f"{text} of {Path(name).name}" for name in MADE)
    return same and not others


def _below(path: Path, name: str) -> bool:
    return path == Path(name) or path in Path(name).parents


def killed_everywhere(before: Callable[[], None], work: Callable[[], None], after: Callable[[int], None]) -> int:
    """Do the work again and again, killed one change of a file later each time; how many there are."""
    for number in range(1000):
        before()
        Stopper.left = number
        try:
            work()
        except Killed:
            Stopper.left = None
            after(number)
        else:
            Stopper.left = None
            return number
    raise AssertionError("it never ends")


def test_a_failed_run_leaves_the_results_before_it_and_its_own_records_apart(project: Path) -> None:
    begin_anew("first")
    changed = Path(MODEL).stat().st_mtime_ns
    kept.begin()
    broken_off()
    assert not whole("first")
    kept.settle("benchmark failed")
    assert whole("first")
    assert Path(MODEL).stat().st_mtime_ns == changed  # DVC reads nothing again
    failed = kept.read(kept.FAILED / "run.json")
    assert failed and failed.reason == "benchmark failed"
    assert (kept.FAILED / "reports/environment.json").read_text() == "second of environment.json"
    assert (kept.FAILED / "dvc.lock").exists()
    assert not kept.RESULTS.exists() and not kept.MARK.exists()
    kept.settle()
    assert whole("first")


def test_what_was_half_written_goes(project: Path) -> None:
    begin_anew("first")
    kept.begin()
    for name in ("models/.tflite-fp32.4711.tmp/new/model", "reports/.summary.json.4711.tmp", "data/.mine.4711.tmp"):
        write(Path(name), "half")
    kept.settle()
    assert [path.name for path in Path().rglob("*.tmp")] == [".mine.4711.tmp"]


def test_what_is_the_users_or_kept_for_the_next_run_stays(project: Path) -> None:
    begin_anew("first")
    kept.begin()
    broken_off()
    kept.settle()
    assert Path("models/sweep/finished").read_text() == "second of finished"
    assert Path("data/mine/a.png").exists()


def test_a_complete_run_keeps_nothing_apart(project: Path) -> None:
    begin_anew("first")
    kept.begin()
    assert not kept.anything_new()
    for name in MADE:
        write(Path(name), "second")
    assert kept.anything_new()
    kept.complete()
    assert whole("second") and not kept.FOLDER.exists()


def test_the_first_run_that_fails_leaves_what_it_has_and_is_not_taken_for_results(project: Path) -> None:
    begin_anew("first")
    PAGE.unlink()
    SUMMARY.unlink()
    kept.begin()
    write(SUMMARY, "first")
    kept.settle("report failed")
    assert SUMMARY.exists() and SELECTION.exists()
    kept.begin()
    assert not kept.RESULTS.exists()
    kept.complete()


def test_keeping_takes_no_space(project: Path) -> None:
    begin_anew("first")
    kept.begin()
    assert (kept.RESULTS / MODEL).samefile(MODEL)


def test_a_disk_without_links_gets_copies(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **more: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    begin_anew("first")
    kept.begin()
    broken_off()
    kept.settle()
    assert whole("first")


def test_a_run_killed_while_it_begins_loses_nothing(project: Path) -> None:
    def after(number: int) -> None:
        kept.settle()
        assert whole("first"), number
        kept.begin()
        broken_off()
        kept.settle()
        assert whole("first"), number

    assert killed_everywhere(lambda: begin_anew("first"), kept.begin, after) > 15


def test_a_run_killed_while_results_come_back_loses_nothing(project: Path) -> None:
    def before() -> None:
        begin_anew("first")
        kept.begin()
        broken_off()

    def after(number: int) -> None:
        kept.settle()
        assert whole("first"), number
        assert kept.read(kept.FAILED / "run.json")
        assert (kept.FAILED / "reports/environment.json").read_text() == "second of environment.json"

    assert killed_everywhere(before, kept.settle, after) > 15


def test_a_run_killed_when_it_is_complete_leaves_its_own_results_or_those_before(project: Path) -> None:
    def before() -> None:
        begin_anew("first")
        kept.begin()
        for name in MADE:
            write(Path(name), "second")

    def after(number: int) -> None:
        kept.settle()
        assert whole("first" if number == 0 else "second"), number
        kept.begin()
        broken_off()
        kept.settle()
        assert whole("first" if number == 0 else "second"), number

    assert killed_everywhere(before, kept.complete, after) > 15
