import errno
import io
import json
import os
from functools import partial
from pathlib import Path

import pytest

from stages.core import errors
from stages.core.errors import PipelineError


def leave_with(error: BaseException) -> None:
    def main() -> None:
        raise error

    errors.run(main)


def test_a_main_that_succeeds_returns(capsys: pytest.CaptureFixture[str]) -> None:
    errors.run(lambda: print("done"))
    assert capsys.readouterr() == ("done\n", "")


def test_a_pipeline_error_is_one_line_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        leave_with(PipelineError("there is no folder x: correct the path"))
    assert end.value.code == 1
    assert capsys.readouterr() == ("", "error: there is no folder x: correct the path\n")


def test_several_errors_are_raised_as_one_with_the_values_of_the_first() -> None:
    errors.fail([])
    with pytest.raises(PipelineError) as caught:
        errors.fail([PipelineError("no folder x", code="a", file="x"), PipelineError("no file y", code="b")])
    assert (str(caught.value), caught.value.code) == ("no folder x; no file y", "a")
    assert caught.value.values == {"file": "x"}


@pytest.mark.parametrize(
    ("error", "told", "traces"),
    [
        (PipelineError("no folder x"), "no folder x", False),
        (ValueError("a bug\nof ours"), "ValueError: a bug", True),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "cannot read or write x (Permission denied)", False),
    ],
)
def test_the_reason_of_an_error_that_others_outlive(
    error: Exception, told: str, traces: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert errors.reason(error).startswith(told)
    assert bool(capsys.readouterr().err) == traces


def test_the_label_is_red_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    errors.tell(PipelineError("x"))
    assert capsys.readouterr().err == "\033[31merror:\033[0m x\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_with_what_is_free(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    with pytest.raises(SystemExit) as end:
        leave_with(OSError(number, "No space left on device", str(tmp_path / "not/there/yet")))
    assert end.value.code == 1
    message = capsys.readouterr().err
    assert message.startswith(f"error: no space left on the disk of {tmp_path}/not/there/yet (")
    assert " MB free): free some space there (`dvc gc --workspace` " in message
    assert message.endswith("and run the same command again\n")
    assert message.count("\n") == 1


def test_a_full_disk_without_a_name_is_still_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        leave_with(OSError(errno.ENOSPC, "No space left on device"))
    assert "error: no space left on the disk of " in capsys.readouterr().err


def test_another_librarys_error_on_a_nearly_full_disk_is_a_sentence(
    tiny_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tiny_disk)
    with pytest.raises(SystemExit) as end:
        leave_with(RuntimeError("could not write the graph"))
    assert end.value.code == 1
    message = capsys.readouterr().err
    assert message.startswith(
        f"error: RuntimeError: could not write the graph; no space left on the disk of {tiny_disk} (0 MB free)"
    )


def test_a_sentence_is_collected_for_the_end_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(errors.COLLECT, str(tmp_path / "collected"))
    for sentence in ("bad images:\n  a.jpg", "größer als erlaubt"):
        errors.tell(PipelineError(sentence))
    lines = (tmp_path / "collected").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == ["bad images:\n  a.jpg", "größer als erlaubt"]
    assert capsys.readouterr().err.count("error: ") == 2


def test_a_sentence_that_cannot_be_collected_is_still_told(
    tiny_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(errors.COLLECT, str(tiny_disk / "collected"))
    with pytest.raises(OSError, match="No space left"):
        (tiny_disk / "filler").write_bytes(bytes(200_000))
    errors.tell(PipelineError("the stage failed"))
    assert capsys.readouterr().err == "error: the stage failed\n"


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "Permission denied"), ZeroDivisionError("by zero")])
def test_our_own_mistakes_keep_their_traceback(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        leave_with(error)
    assert end.value.code == 1
    message = capsys.readouterr().err
    assert message.startswith("Traceback (most recent call last):\n")
    assert message.endswith(f"{type(error).__name__}: {error}\n")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PipelineError("a sentence"), "a sentence"),
        (ValueError("first\nsecond"), "ValueError: first"),
        (ValueError("\n  first\nsecond"), "ValueError: first"),
        (ValueError(), "ValueError: no message"),
    ],
)
def test_errors_are_described_in_one_line(error: BaseException, line: str) -> None:
    assert errors.describe(error) == line


NAMES = [b"caf\xe9.png", "x" * 300, "own/\0images", 7, "\udcff", "a" * 5000, ""]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: str(name)[:12])
@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENAMETOOLONG, errno.ENOSPC])
def test_an_error_of_any_name_is_told(name: object, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        leave_with(OSError(number, os.strerror(number), name))
    assert end.value.code == 1
    told = capsys.readouterr().err
    assert os.strerror(number) in told or "no space left" in told
    assert ("Traceback" in told) == (name == "" and number != errno.ENOSPC)


def test_an_error_is_told_from_a_folder_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    errors.tell(OSError(errno.ENOENT, "No such file", "photos/a.png"))
    assert capsys.readouterr().err.startswith("error: cannot read or write photos/a.png (No such file): check ")


def test_without_a_place_for_temporary_files_a_full_disk_is_named(
    tiny_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gettempdir() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(errors.tempfile, "gettempdir", gettempdir)
    monkeypatch.chdir(tiny_disk)
    errors.tell(FileNotFoundError(errno.ENOENT, "No usable temporary directory found"))
    told = capsys.readouterr().err
    assert "Traceback" not in told and f"no space left on the disk of {tiny_disk} (0 MB free)" in told


def test_an_error_that_cannot_say_what_it_is_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    errors.tell(MuteError(3))
    assert "MuteError(3)" in capsys.readouterr().err


def test_a_closed_stderr_is_no_second_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("sys.stderr", Closed())
    with pytest.raises(SystemExit):
        leave_with(PipelineError("a sentence"))


def test_an_input_that_changes_while_it_is_in_use_fails_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    held = {"photos": 1, "labels": 1}

    def main() -> None:
        for name in held:
            errors.remember(name, partial(held.__getitem__, name), held[name])
            errors.remember(name, partial(held.__getitem__, name), 0)  # what it was at first counts
        held["photos"] = 2

    with pytest.raises(SystemExit):
        errors.run(main)
    assert capsys.readouterr().err == (
        "error: photos changed while it was in use: run the same command again, which reads it anew\n"
    )
    errors.run(lambda: None)  # which has read none of them
