"""`trt-pipeline env`: what is there, and what becomes of it."""

import shutil
from pathlib import Path

import pytest

from stages.commands import environments as command
from stages.runtimes import environments
from stages.runtimes.environments import Lock
from tests.fixtures.errors import named, refused
from tests.fixtures.locks import tiny_lock as tiny_lock


@pytest.fixture
def only(tiny_lock: Lock, monkeypatch: pytest.MonkeyPatch) -> Lock:
    """The lock of the only runtime that has one."""
    monkeypatch.setattr(environments, "locks", lambda: [("tiny-runtime", tiny_lock)])
    return tiny_lock


def planted(name: str) -> Path:
    """An environment that was made of another lock."""
    folder = environments.place() / name
    folder.mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text("")
    return folder


@pytest.mark.parametrize("name", ["", "documents", "keep", "keep-1", "../outside", "link-0123456789ab"])
def test_remove_takes_nothing_that_is_no_environment(only: Lock, name: str) -> None:
    """Where the variable names a folder that has other things too."""
    place = environments.place()
    for other in ("documents", "keep-1", "../outside"):
        (place / other).mkdir(parents=True)
    (place / "link-0123456789ab").symlink_to(planted("real-0123456789ab"))
    before = sorted(place.parent.rglob("*"))
    assert refused(command.answer, "remove", name).code == "unknown-environment"
    assert sorted(place.parent.rglob("*")) == before


def test_list_shows_state_python_version_and_size(only: Lock, capsys: pytest.CaptureFixture[str]) -> None:
    command.answer("list", "")
    assert capsys.readouterr().out == f"tiny: not made ({only.folder})\n"
    command.answer("make", "tiny")
    made = only.made
    assert made
    capsys.readouterr()
    planted("old-0123456789ab")
    command.answer("list", "")
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"tiny: Python {made.python}, ") and "tiny-runtime 1.0" in first and " MB" in first
    assert second.startswith("old-0123456789ab: of another version of this project")


def test_remove_takes_all_of_a_name(only: Lock, capsys: pytest.CaptureFixture[str]) -> None:
    command.answer("make", "tiny")
    planted("tiny-0123456789ab")
    planted("other-0123456789ab")
    command.answer("remove", "tiny")
    assert [path.name for path in environments.place().iterdir() if path.is_dir()] == ["other-0123456789ab"]
    assert only.made is None
    assert named(refused(command.answer, "remove", "tiny"), "name") == ("unknown-environment", "tiny")
    assert named(refused(command.answer, "make", "other"), "name") == ("unknown-environment", "other")


def test_check_finds_what_somebody_installed(only: Lock, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.answer("check", "") == 0
    command.answer("make", "tiny")
    assert command.answer("check", "") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "tiny: as its lock says"
    (info,) = only.folder.glob("lib/*/site-packages/tiny_runtime-1.0.dist-info")
    metadata = info / "METADATA"
    metadata.write_text(metadata.read_text().replace("Version: 1.0", "Version: 2.0"))
    assert command.answer("check", "") == 1
    assert "it has tiny-runtime 2.0, which its lock does not pin" in capsys.readouterr().out
    shutil.rmtree(info)
    assert command.answer("check", "") == 1
    assert "it lacks tiny-runtime" in capsys.readouterr().out
    only.interpreter.unlink()
    only.interpreter.write_text("no program")
    only.interpreter.chmod(0o755)
    assert command.answer("check", "") == 1
    assert "its Python does not run" in capsys.readouterr().out
