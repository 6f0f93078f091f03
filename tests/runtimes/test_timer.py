import gc
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from stages.contracts.preprocessing import Floats, Preprocessing
from stages.core import isolate
from stages.runtimes import Manifest, timer
from stages.runtimes.contract import PARTS, Session
from stages.runtimes.timer import Stopwatch

PREPROCESSING = Preprocessing(4, 6, "crop", 1.0, (1.0,) * 3, (0.0,) * 3, "rgb")
PUT_MS, RUN_MS, AFTER_MS = 4, 8, 2


class FakeSession(Session):
    """Sleeps in each step, and notes the steps; `parts` is what its GPU tells of an inference."""

    def __init__(self, asynchronous: bool) -> None:
        self.asynchronous = self.on_gpu = asynchronous
        self.parts: dict[str, float] | None = None
        self.steps: list[str] = []
        self.shapes: list[tuple[int, ...]] = []

    def put(self, images: Floats) -> None:
        self.steps.append("put")
        self.shapes.append(images.shape)
        time.sleep(PUT_MS / 1000)

    def run(self) -> npt.NDArray[Any]:
        self.steps.append("run")
        time.sleep(RUN_MS / 1000)
        return np.zeros((1, 10), np.float32)

    def probabilities(self, output: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        self.steps.append("probabilities")
        time.sleep(AFTER_MS / 1000)
        return output

    def verify(self) -> None:
        self.steps.append("verify")

    def gpu_peak_bytes(self) -> int | None:
        return 123 if self.asynchronous else None

    def parts_ms(self) -> dict[str, float] | None:
        return self.parts


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], tuple[Stopwatch, FakeSession]]]:
    """A stopwatch with a fake session."""

    def start(asynchronous: bool) -> tuple[Stopwatch, FakeSession]:
        session = FakeSession(asynchronous)
        manifest = Manifest("tflite-fp32", "tflite", "fp32", False, "ok", None, {})
        monkeypatch.setattr(Manifest, "load", lambda self, threads=None: session)
        monkeypatch.setattr(Manifest, "read", classmethod(lambda cls, variant: manifest))
        return Stopwatch(Manifest.read("tflite-fp32").load, PREPROCESSING), session

    yield start
    gc.enable()


Started = Callable[[bool], tuple[Stopwatch, FakeSession]]
CALL = ["put", "run", "probabilities"]


def test_images_are_the_same_in_every_process_and_fill_the_batch() -> None:
    found = timer.images_of(3, PREPROCESSING)
    assert found.shape == (3, 4, 6, 3)
    np.testing.assert_array_equal(found, isolate.call(timer.images_of, 3, PREPROCESSING))


def test_a_synchronous_block_times_run_within_each_call(started: Started) -> None:
    watch, session = started(False)
    found = watch.block(2, {"latency": 3, "latency_host": 5})
    assert session.steps == CALL * 6
    assert set(session.shapes) == {(2, 4, 6, 3)}
    assert len(found["latency"]) == len(found["latency_host"]) == 5
    assert min(found["latency"]) >= RUN_MS
    assert min(found["latency_host"]) >= PUT_MS + RUN_MS + AFTER_MS
    assert min(found["latency"]) < PUT_MS + RUN_MS + AFTER_MS


def test_an_asynchronous_block_times_run_on_a_settled_tensor(started: Started) -> None:
    watch, session = started(True)
    found = watch.block(2, {"latency": 3, "latency_host": 5})
    assert session.steps == CALL * 6 + ["run"] * 3
    assert (len(found["latency"]), len(found["latency_host"])) == (3, 5)
    assert min(found["latency"]) >= RUN_MS
    assert min(found["latency_host"]) >= PUT_MS + RUN_MS + AFTER_MS


def test_a_block_splits_one_inference_in_so_many_where_the_gpu_tells(started: Started) -> None:
    watch, session = started(True)
    assert set(watch.block(2, {"latency": 3, "latency_host": 5})) == {"latency", "latency_host"}
    session.parts = {"input_copy": 1.0, "compute": 2.0, "output_copy": 0.5}
    found = watch.block(2, {"latency": 3, "latency_host": timer.CALLS_PER_SPLIT})
    assert {part: found[part] for part in PARTS} == {
        "input_copy": [1.0] * 2, "compute": [2.0] * 2, "output_copy": [0.5] * 2,
    }  # fmt: skip


@pytest.mark.parametrize("asynchronous", [False, True])
def test_warm_up_makes_at_least_two_windows_of_calls(
    started: Started, monkeypatch: pytest.MonkeyPatch, asynchronous: bool
) -> None:
    monkeypatch.setattr(timer, "STABLE", 1e9)
    watch, session = started(asynchronous)
    found = watch.warm_up(2)
    assert found["warmup_stable"] is True
    # The first call, and two windows: one median cannot have moved.
    assert found["warmup_calls"] == 1 + 2 * timer.WINDOW_CALLS
    window = CALL * timer.WINDOW_CALLS + ["run"] * timer.WINDOW_CALLS * asynchronous
    assert session.steps == CALL + 2 * window
    assert found["first_inference_ms"] >= PUT_MS + RUN_MS + AFTER_MS
    assert RUN_MS <= found["call_ms"]["latency"] < PUT_MS + RUN_MS + AFTER_MS <= found["call_ms"]["latency_host"] < 140


def test_warm_up_gives_up_when_the_time_is_up(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timer, "STABLE", -1)
    monkeypatch.setattr(timer, "MAX_WARMUP_MS", 300)
    watch, _ = started(False)
    start = time.monotonic()
    found = watch.warm_up(1)
    assert found["warmup_stable"] is False
    assert found["warmup_calls"] > 1 + 2 * timer.WINDOW_CALLS
    assert 0.3 <= time.monotonic() - start < 3


@pytest.mark.parametrize(("asynchronous", "gpu"), [(False, None), (True, 123)])
def test_memory_is_this_process_and_the_runtimes_own(started: Started, asynchronous: bool, gpu: int | None) -> None:
    watch, _ = started(asynchronous)
    found = watch.memory()
    assert (found["on_gpu"], found["gpu_peak_memory_bytes"]) == (asynchronous, gpu)
    assert 10e6 < found["peak_memory_bytes"] < 100e9


def test_a_slow_first_call_leaves_the_warm_up_its_time(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    watch, session = started(False)
    monkeypatch.setattr(timer, "MAX_WARMUP_MS", 200)
    calm, first = session.put, iter([0.4])
    monkeypatch.setattr(session, "put", lambda images: (time.sleep(next(first, 0)), calm(images)))
    monkeypatch.setattr(timer, "STABLE", -1)  # never
    found = watch.warm_up(1)
    assert found["first_inference_ms"] > 400
    assert found["warmup_calls"] > 2 * timer.WINDOW_CALLS


def test_verify_asks_the_session_about_a_batch_of_that_size(started: Started) -> None:
    watch, session = started(False)
    watch.verify(3)
    assert session.steps == [*CALL, "verify"]
    assert session.shapes == [(3, 4, 6, 3)]


def test_the_worker_loads_first_and_then_does_what_it_is_asked(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(False)
    ours, theirs = Pipe()
    arguments = (theirs, "tflite-fp32", 1, PREPROCESSING)
    thread = threading.Thread(target=timer.serve, args=arguments, daemon=True)
    thread.start()

    def ask(*request: Any) -> Any:
        ours.send(request)
        assert ours.poll(10)
        return ours.recv()

    succeeded, load_ms = ask("load")
    assert succeeded
    assert load_ms >= 0
    assert ask("block", 1, {"latency": 2, "latency_host": 2})[0] is True
    assert ask("block", 1, {"latency": "two"}) == (False, "TypeError: 'str' object cannot be interpreted as an integer")
    assert ask("memory")[0] is True
    ours.close()
    thread.join(10)
    assert not thread.is_alive()
