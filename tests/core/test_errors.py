import errno
import json
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
