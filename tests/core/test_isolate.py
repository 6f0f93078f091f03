import itertools
import os
import signal
import struct
import subprocess
import sys
import time
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import pytest

from stages.core import isolate
from stages.core.errors import PipelineError
from stages.core.isolate import Worker


def double(value: int) -> int:
    return 2 * value


def where() -> int:
    return os.getpid()


def give_up() -> None:
    raise PipelineError("TensorRT built no engine")


def divide() -> float:
    return 1 / 0


def end_by(number: int) -> None:
    os.kill(os.getpid(), number)


def leave() -> None:
    sys.exit(3)


def count(connection: Connection, start: int) -> None:
    """Answers that grow with each request, and an error for a request that is no number."""
    requests = itertools.count(start)
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        isolate.answer(connection, partial(add, next(requests), request))


def add(total: int, request: Any) -> int:
    return total + int(request)


def die_within_an_answer(connection: Connection) -> None:
    connection.recv()
    os.write(connection.fileno(), struct.pack("!i", 1000) + b"half")
    os.kill(os.getpid(), signal.SIGKILL)


def reason(function: Any, *arguments: Any) -> str:
    with pytest.raises(PipelineError) as caught:
        isolate.call(function, *arguments)
    return str(caught.value)


def test_a_result_comes_back_from_another_process() -> None:
    assert isolate.call(double, 21) == 42


def test_the_process_is_not_this_one_and_is_gone_afterwards() -> None:
    pid = isolate.call(where)
    assert pid != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_our_own_error_comes_back_as_it_is() -> None:
    assert reason(give_up) == "TensorRT built no engine"


def test_another_error_comes_back_with_its_type_and_its_traceback_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    assert reason(divide) == "ZeroDivisionError: division by zero"
    assert "return 1 / 0" in capfd.readouterr().err


def test_a_killed_process_is_a_sentence() -> None:
    assert reason(end_by, signal.SIGKILL) == "its process was ended by SIGKILL, probably for lack of memory"


def test_a_crash_is_named_without_a_guess() -> None:
    assert reason(end_by, signal.SIGSEGV) == "its process was ended by SIGSEGV"


def test_an_exit_status_is_told() -> None:
    assert reason(leave) == "its process ended early with exit status 3"


def test_a_worker_answers_again_and_again_also_after_an_error() -> None:
    with Worker(count, 10) as worker:
        assert worker.ask(1) == 11
        with pytest.raises(PipelineError, match="ValueError: invalid literal for int"):
            worker.ask("x")
        assert worker.ask(1) == 13


def test_a_worker_that_died_says_so_at_every_request() -> None:
    with Worker(isolate._serve_once, leave, ()) as worker:
        for _ in range(2):
            with pytest.raises(PipelineError, match="exit status 3"):
                worker.ask()


def test_a_worker_killed_in_the_middle_of_its_answer_is_a_sentence() -> None:
    with Worker(die_within_an_answer) as worker, pytest.raises(PipelineError, match="ended by SIGKILL"):
        worker.ask()


def test_a_closed_worker_is_gone_at_once_and_may_be_closed_again() -> None:
    with Worker(count, 0) as worker:
        pid = worker._process.pid
        assert pid
        worker.ask(0)
        worker.close()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_worker_ends_with_its_block() -> None:
    start = time.monotonic()
    with Worker(count, 0) as worker:
        worker.ask(0)
    assert worker._process.exitcode == 0
    assert time.monotonic() - start < 9


def test_ctrl_c_is_left_to_the_parent_from_the_first_worker_on() -> None:
    """In a fresh process: with its first worker starts Python's resource tracker, which unblocks Ctrl-C."""
    code = """
import signal
from stages.core import isolate
if __name__ == "__main__":
    print([signal.SIGINT in isolate.call(signal.pthread_sigmask, signal.SIG_BLOCK, ()) for _ in range(2)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[True, True]\n"
