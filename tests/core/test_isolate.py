import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from stages.core import isolate, process
from stages.core.errors import PipelineError
from tests.fixtures.errors import refused


def double(value: int) -> int:
    return 2 * value


def where() -> int:
    return os.getpid()


def give_up() -> None:
    raise PipelineError("TensorRT built no engine", code="no-engine", batch_size=8)


def divide() -> float:
    return 1 / 0


def end_by(number: int) -> None:
    os.kill(os.getpid(), number)


def leave() -> None:
    sys.exit(3)


def reason(function: Any, *arguments: Any) -> str:
    return str(refused(isolate.call, function, *arguments))


def test_a_result_comes_back_from_another_process() -> None:
    assert isolate.call(double, 21) == isolate.call(double, value=21) == 42


def test_the_process_is_not_this_one_and_is_gone_afterwards() -> None:
    pid = isolate.call(where)
    assert pid != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def nested() -> int:
    return isolate.call(double, 21)


def test_it_may_start_processes_of_its_own_behind_a_wall_too(tmp_path: Path) -> None:
    assert isolate.call(nested) == isolate.walled([tmp_path], nested) == 42


def temporary() -> tuple[str, str | None]:
    return tempfile.mkdtemp(), os.environ.get("TMPDIR")


def test_temporary_files_behind_a_wall_go_with_the_process(tmp_path: Path) -> None:
    made, variable = isolate.walled([tmp_path], temporary)
    assert variable == str(Path(made).parent) and not Path(variable).exists()


def test_our_own_error_comes_back_as_it_is() -> None:
    error = refused(isolate.call, give_up)
    assert (str(error), error.code, error.values) == ("TensorRT built no engine", "no-engine", {"batch_size": 8})


def test_another_error_comes_back_with_its_type_and_its_traceback_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    error = refused(isolate.call, divide)
    assert (error.code, str(error)) == ("unexpected", "ZeroDivisionError: division by zero")
    assert "return 1 / 0" in capfd.readouterr().err


def test_a_killed_process_is_a_sentence_with_a_guess_and_a_crash_is_one_without() -> None:
    assert reason(end_by, signal.SIGKILL) == process.ending(-signal.SIGKILL)
    assert reason(end_by, signal.SIGSEGV) == process.ending(-signal.SIGSEGV)
    assert "memory" in process.ending(-signal.SIGKILL)
    assert "memory" not in process.ending(-signal.SIGSEGV)


def test_an_exit_status_is_told() -> None:
    assert refused(isolate.call, leave).code == "process-ended"
    assert reason(leave) == process.ending(3)


def test_a_process_that_hangs_in_a_driver_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE_S", 7)
    waits: list[float] = []
    kills: list[None] = []
    assert process.end(waits.append, lambda: kills.append(None), grace_s=2) is None
    assert waits == [2, 7]
    assert kills
    assert "hangs" in process.ending(None)


def test_ctrl_c_is_left_to_the_parent_from_the_first_process_on() -> None:
    """In a fresh process: with its first child starts Python's resource tracker, which unblocks Ctrl-C."""
    code = """
import signal
from stages.core import isolate
if __name__ == "__main__":
    print([signal.SIGINT in isolate.call(signal.pthread_sigmask, signal.SIG_BLOCK, ()) for _ in range(2)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[True, True]\n"
