"""However a command ends, nothing that it started is left: plain processes stand for DVC, its shell and a stage."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from stages.commands import supervise

ROOT = Path(__file__).parents[2]
# As DVC: a shell that stays, of which a stage is a child; the stage clears up after Ctrl-C.
STAGE = """
import os, time
from pathlib import Path
from stages.core import errors
def main():
    Path("stage").write_text(str(os.getpid()))
    try:
        time.sleep(100)
    except KeyboardInterrupt:
        Path("cleared").touch()
        raise
errors.run(main)
"""
DVC = f"""
import signal, subprocess
shell = subprocess.Popen(["sh", "-c", "{sys.executable} stage.py; true"])
signal.signal(signal.SIGINT, signal.SIG_IGN)
shell.wait()
"""
RUNNER = f"""
import os, sys
from stages.commands import supervise
with supervise.started([sys.executable, "-c", {DVC!r}], os.environ) as process:
    process.wait()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heeded: None) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "stage.py").write_text(STAGE)
    return tmp_path


def begun(place: Path, *before: str) -> tuple["subprocess.Popen[bytes]", list[psutil.Process]]:
    """A runner at whose stage work is going on, and all processes that it started."""
    runner = subprocess.Popen([*before, sys.executable, "-c", RUNNER], stderr=subprocess.DEVNULL)
    wait_for(lambda: (place / "stage").exists() and bool((place / "stage").read_text()))
    return runner, psutil.Process(runner.pid).children(recursive=True)


def assert_gone(family: list[psutil.Process]) -> None:
    assert len(family) >= 3
    left = psutil.wait_procs(family, timeout=30)[1]
    for one in left:
        one.kill()
    assert left == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_of_it_and_lets_a_stage_clear_up(place: Path, number: signal.Signals) -> None:
    runner, family = begun(place)
    runner.send_signal(number)
    assert runner.wait(60) != 0
    assert [one for one in family if one.is_running()] == []
    assert (place / "cleared").exists()


def test_who_is_killed_takes_all_along(place: Path) -> None:
    runner, family = begun(place)
    runner.kill()
    runner.wait()
    assert_gone(family)


def test_a_killed_make_takes_all_along(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKELEVEL", "1")
    make, family = begun(place, sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])")
    make.kill()
    make.wait()
    assert_gone(family)


def test_ctrl_z_rests_all_of_it(place: Path) -> None:
    runner, family = begun(place)
    runner.send_signal(signal.SIGTSTP)
    wait_for(lambda: {one.status() for one in family} == {psutil.STATUS_STOPPED})
    runner.send_signal(signal.SIGCONT)
    wait_for(lambda: psutil.STATUS_STOPPED not in {one.status() for one in family})
    runner.terminate()
    assert runner.wait(60) != 0


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to that")


def test_what_a_command_leaves_running_ends_with_it(place: Path) -> None:
    code = "import subprocess; subprocess.Popen(['sleep', '100'], start_new_session=True)"
    with supervise.started([sys.executable, "-c", code], os.environ) as process:
        assert process.wait() == 0
        (left,) = [one for one in psutil.Process().children(recursive=True) if one.name() == "sleep"]
    assert not left.is_running()


def test_a_signal_that_is_ignored_stays_so(place: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with supervise.started([sys.executable, "-c", ""], os.environ) as process:
            os.kill(os.getpid(), signal.SIGHUP)
            assert process.wait() == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_are_those_before_afterwards(place: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTSTP)]
    with supervise.started([sys.executable, "-c", ""], os.environ) as process:
        process.wait()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTSTP)] == before
