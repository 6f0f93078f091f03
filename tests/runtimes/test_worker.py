"""A real worker of a toy runtime outside the tree, which misbehaves as its precision says."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from stages.contracts import codec, messages
from stages.contracts.conversion import MANIFEST, ConvertJob, Manifest
from stages.contracts.environment import Discovery, Machine
from stages.contracts.messages import BatchOrder, Block, BlockOrder, Converted, Hello, Loaded, LoadOrder
from stages.contracts.preprocessing import Preprocessing
from stages.contracts.status import OK
from stages.contracts.timing import Memory, WarmUp
from stages.contracts.variant import Variant
from stages.core import process
from stages.runtimes import client, registry, worker
from stages.runtimes.client import Client
from tests.fixtures.errors import refused
from tests.fixtures.tiny import UNASKED

MACHINE = Machine("a CPU", 2, 2, "Linux x86_64", None, (), "no GPU")
PREPROCESSING = Preprocessing(4, 6, "crop", 1.0, (1.0,) * 3, (0.0,) * 3, "rgb")
TOY = {
    "__init__.py": """
from dataclasses import dataclass
from stages.runtimes.description import Description
@dataclass(frozen=True)
class Options:
    depth: int = 3
DESCRIPTION = Description("toy", ("fp32",), "onnx", Options, ())
""",
    "discover.py": """
from stages.contracts.environment import Discovery
def discover(machine):
    print("a library prints")
    return Discovery({"toy": "1.0"}, {"fp32": None})
""",
    "convert.py": """
import os, signal, subprocess, sys, time
from stages.contracts.conversion import Proof
from stages.core.errors import PipelineError
def convert(job, options):
    if job.precision == "refuse":
        raise PipelineError("the toy has no wheels", code="no-wheels")
    if job.precision == "fail":
        return 1 / 0
    if job.precision == "nan":
        return Proof("saved_model", {}, {"loss": float("nan")})
    if job.precision == "leave":
        sys.exit(3)
    if job.precision == "kill":
        # Another process lives on, which does not hold the socket.
        subprocess.Popen(["sleep", "60"], close_fds=False)
        os.kill(os.getpid(), signal.SIGKILL)
    if job.precision == "hang":
        time.sleep(600)
    return Proof("saved_model", {}, {"depth": options.depth, "sigint": signal.SIGINT in signal.pthread_sigmask(0, ())})
""",
    "session.py": """
import numpy as np
from stages.runtimes.contract import Session
class Toy(Session):
    asynchronous = on_gpu = False
    def put(self, images): self.count = len(images)
    def run(self): return np.zeros((self.count, 3), np.float32)
    def probabilities(self, output): return output
def open_session(folder, precision, options, threads):
    assert options.depth == 3 and threads == 2
    return Toy()
""",
}
WORKER = "from stages.runtimes import registry, worker; registry.RUNTIMES['toy'] = 'toy'; worker.main()"


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy's folder, and a worker that knows it."""
    for name, code in TOY.items():
        (tmp_path / "toy").mkdir(exist_ok=True)
        (tmp_path / "toy" / name).write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "toy", raising=False)
    monkeypatch.setitem(registry.RUNTIMES, "toy", "toy")
    monkeypatch.setattr(client, "PROGRAM", ("-c", WORKER))
    return tmp_path


@pytest.fixture
def started(toy: Path) -> Iterator[Client]:
    with Client("toy") as found:
        yield found


def job(precision: str, **options: Any) -> ConvertJob:
    return ConvertJob("", "", "", precision, (1,), "", PREPROCESSING, options, UNASKED)


def test_the_first_line_says_who_answers(started: Client) -> None:
    hello = started.hello
    assert (hello.protocol, hello.runtime) == (messages.PROTOCOL, "toy")
    assert hello.python.split(".")[:2] == [str(part) for part in sys.version_info[:2]]
    assert psutil.Process(hello.pid).parent() == psutil.Process()


def test_what_a_library_prints_does_not_disturb(capfd: pytest.CaptureFixture[str], toy: Path) -> None:
    with Client("toy") as started:
        assert started.ask("discover", MACHINE, Discovery) == Discovery({"toy": "1.0"}, {"fp32": None})
    assert capfd.readouterr().out == "a library prints\n"


def test_options_become_the_runtimes_own_with_its_defaults(started: Client) -> None:
    assert started.ask("convert", job("fp32"), Converted).proof.facts["depth"] == 3
    assert started.ask("convert", job("fp32", depth=5), Converted).proof.facts["depth"] == 5


def test_a_refusal_is_the_runtimes_own_sentence_and_the_worker_goes_on(
    capfd: pytest.CaptureFixture[str], toy: Path
) -> None:
    with Client("toy") as started:
        error = refused(started.ask, "convert", job("refuse"), Converted)
        assert started.ask("convert", job("fp32"), Converted).seconds > 0
    assert (str(error), error.code, error.values) == ("the toy has no wheels", "no-wheels", {"runtime": "toy"})
    assert "Traceback" not in capfd.readouterr().err


def test_an_unexpected_error_has_its_type_and_its_traceback_in_the_log(
    capfd: pytest.CaptureFixture[str], toy: Path
) -> None:
    with Client("toy") as started:
        error = refused(started.ask, "convert", job("fail"), Converted)
        assert started.ask("convert", job("fp32"), Converted)
    assert (str(error), error.code) == ("ZeroDivisionError: division by zero", "worker-unexpected")
    assert "return 1 / 0" in capfd.readouterr().err


def test_what_is_no_number_does_not_become_null(started: Client) -> None:
    error = refused(started.ask, "convert", job("nan"), Converted)
    assert (error.code, "proof.facts.loss" in str(error)) == ("record-not-finite", True)


def test_arguments_of_another_type_and_unknown_verbs_are_answers(started: Client) -> None:
    assert refused(started.ask, "block", {"batch_size": "two"}, Block).code == "worker-unexpected"
    assert refused(started.ask, "answer", None, Block).code == "unknown-verb"
    assert refused(started.ask, "memory", None, Memory).code == "not-loaded"


def test_an_answer_of_another_shape_is_told(started: Client) -> None:
    assert refused(started.ask, "discover", MACHINE, Memory).code == "worker-garbage"


@pytest.mark.parametrize(
    ("how", "ending"), [("kill", process.ending(-signal.SIGKILL)), ("leave", process.ending(3))], ids=["kill", "leave"]
)
def test_a_worker_that_ends_is_a_sentence_at_every_request(started: Client, how: str, ending: str) -> None:
    for _ in range(2):
        error = refused(started.ask, "convert", job(how), Converted)
        assert (error.code, str(error)) == ("worker-ended", ending)


def test_a_model_is_loaded_and_timed(started: Client, tmp_path: Path) -> None:
    codec.write(Manifest(Variant("toy", "fp32"), OK, {}), tmp_path / MANIFEST)
    assert started.ask("load", LoadOrder(str(tmp_path), 2, PREPROCESSING), Loaded).load_ms > 0
    assert started.ask("warm_up", BatchOrder(2), WarmUp).calls >= 11
    block = started.ask("block", BlockOrder(2, {"latency": 3, "latency_host": 4}), Block)
    assert {term: len(ms) for term, ms in block.ms.items()} == {"latency": 4, "latency_host": 4}
    assert started.ask("prove", BatchOrder(2), type(None)) is None
    assert started.ask("memory", None, Memory).peak_memory_bytes > 10e6


def test_a_closed_worker_is_gone_at_once_and_may_be_closed_again(started: Client) -> None:
    pid = started.hello.pid
    started.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    started.close()


def test_a_worker_leaves_by_itself_with_its_block(toy: Path) -> None:
    start = time.monotonic()
    with Client("toy") as found:
        found.wait()
    assert found._process.returncode == 0
    assert time.monotonic() - start < 9


def test_ctrl_c_is_left_to_the_parent(heeded: None, started: Client) -> None:
    assert started.ask("convert", job("fp32"), Converted).proof.facts["sigint"] is True
    os.kill(started.hello.pid, signal.SIGINT)
    assert started.ask("convert", job("fp32"), Converted)


HANGS = """
import sys
from stages.runtimes import client, registry
from tests.runtimes.test_worker import WORKER, job
from stages.contracts.messages import Converted
client.PROGRAM = ("-c", WORKER)
registry.RUNTIMES["toy"] = "toy"
with client.Client("toy") as found:
    print(found.hello.pid, flush=True)
    found.ask("convert", job("hang"), Converted)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_worker_ends_with_its_parent_also_at_work(toy: Path, heeded: None, number: int) -> None:
    environment = os.environ | {"PYTHONPATH": f"{client.CHECKOUT}:{toy}"}
    parent = subprocess.Popen([sys.executable, "-c", HANGS], env=environment, stdout=subprocess.PIPE)
    assert parent.stdout
    pid = int(parent.stdout.readline())
    parent.send_signal(number)
    parent.wait(20)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


# Programs that are no worker of this version, with the socket's descriptor as the last argument.
OLD = msgspec.json.encode(Hello(messages.PROTOCOL + 1, "toy", "3.10", 1)).decode()
FIRST_LINES = {"worker-protocol": OLD, "worker-garbage": "Segmentation fault", "worker-ended": ""}


def says(line: str) -> tuple[str, str]:
    """A program that says one line, and waits unless it is empty."""
    code = f"import os, sys, time; fd = int(sys.argv[-1]); os.write(fd, {line!r}.encode() + b'\\n' * {bool(line)})"
    return "-c", f"{code}; time.sleep(60 * {bool(line)})"


@pytest.mark.parametrize("code", FIRST_LINES)
def test_what_is_no_worker_of_this_version_is_told_again_and_again(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(client, "PROGRAM", says(FIRST_LINES[code]))
    found = Client("tflite")
    found.wait()
    for _ in range(2):
        error = refused(found.ask, "memory", None, Memory)
        assert (error.code, error.values["runtime"]) == (code, "tflite")
    found.close()


def test_half_an_answer_is_the_end_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    hello = json.dumps({"protocol": messages.PROTOCOL, "runtime": "toy", "python": "3.10", "pid": 1})
    code = f"import os, sys; fd = int(sys.argv[-1]); os.write(fd, {hello!r}.encode() + b'\\n'); os.read(fd, 9)"
    monkeypatch.setattr(client, "PROGRAM", ("-c", f"{code}; os.write(fd, b'half'); os.kill(os.getpid(), 9)"))
    with Client("tflite") as found:
        assert str(refused(found.ask, "memory", None, Memory)) == process.ending(-signal.SIGKILL)


def test_every_verb_has_a_method() -> None:
    assert all(callable(getattr(worker.Worker, verb)) for verb in worker.VERBS)
