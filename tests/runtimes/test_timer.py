import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from stages.contracts.preprocessing import Floats, Preprocessing
from stages.contracts.timing import PARTS, Parts
from stages.core import isolate
from stages.runtimes import timer
from stages.runtimes.contract import Session
from stages.runtimes.timer import Timer

PREPROCESSING = Preprocessing(4, 6, "crop", 1.0, (1.0,) * 3, (0.0,) * 3, "rgb")
PUT_MS, RUN_MS, AFTER_MS = 4, 8, 2


class FakeSession(Session):
    """Sleeps in each step, and notes the steps; `parts` is what its GPU tells of an inference."""

    def __init__(self, asynchronous: bool) -> None:
        self.asynchronous = self.on_gpu = asynchronous
        self.parts: Parts | None = None
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

    def prove(self) -> None:
        self.steps.append("prove")

    def gpu_peak_bytes(self) -> int | None:
        return 123 if self.asynchronous else None

    def parts_ms(self) -> Parts | None:
        return self.parts


def started(asynchronous: bool) -> tuple[Timer, FakeSession]:
    session = FakeSession(asynchronous)
    return Timer(session, PREPROCESSING), session


CALL = ["put", "run", "probabilities"]


def test_images_are_the_same_in_every_process_and_fill_the_batch() -> None:
    found = timer.images_of(3, PREPROCESSING)
    assert found.shape == (3, 4, 6, 3)
    np.testing.assert_array_equal(found, isolate.call(timer.images_of, 3, PREPROCESSING))


def test_a_synchronous_block_times_run_within_each_call() -> None:
    timed, session = started(False)
    ms = timed.block(2, {"latency": 3, "latency_host": 5}).ms
    assert session.steps == CALL * 6
    assert set(session.shapes) == {(2, 4, 6, 3)}
    assert len(ms["latency"]) == len(ms["latency_host"]) == 5
    assert min(ms["latency"]) >= RUN_MS
    assert min(ms["latency_host"]) >= PUT_MS + RUN_MS + AFTER_MS
    assert min(ms["latency"]) < PUT_MS + RUN_MS + AFTER_MS


def test_an_asynchronous_block_times_run_on_a_settled_tensor() -> None:
    timed, session = started(True)
    ms = timed.block(2, {"latency": 3, "latency_host": 5}).ms
    assert session.steps == CALL * 6 + ["run"] * 3
    assert (len(ms["latency"]), len(ms["latency_host"])) == (3, 5)
    assert min(ms["latency"]) >= RUN_MS
    assert min(ms["latency_host"]) >= PUT_MS + RUN_MS + AFTER_MS


def test_a_block_splits_one_inference_in_so_many_where_the_gpu_tells() -> None:
    timed, session = started(True)
    assert set(timed.block(2, {"latency": 3, "latency_host": 5}).ms) == {"latency", "latency_host"}
    session.parts = Parts(1.0, 2.0, 0.5)
    ms = timed.block(2, {"latency": 3, "latency_host": timer.CALLS_PER_SPLIT}).ms
    assert {part: ms[part] for part in PARTS} == {
        "input_copy": [1.0] * 2, "compute": [2.0] * 2, "output_copy": [0.5] * 2,
    }  # fmt: skip


@pytest.mark.parametrize("asynchronous", [False, True])
def test_warm_up_makes_at_least_two_windows_of_calls(monkeypatch: pytest.MonkeyPatch, asynchronous: bool) -> None:
    monkeypatch.setattr(timer, "STABLE", 1e9)
    timed, session = started(asynchronous)
    found = timed.warm_up(2)
    assert found.stable is True
    # The first call, and two windows: one median cannot have moved.
    assert found.calls == 1 + 2 * timer.WINDOW_CALLS
    window = CALL * timer.WINDOW_CALLS + ["run"] * timer.WINDOW_CALLS * asynchronous
    assert session.steps == CALL + 2 * window
    assert found.first_inference_ms >= PUT_MS + RUN_MS + AFTER_MS
    assert RUN_MS <= found.call_ms["latency"] < PUT_MS + RUN_MS + AFTER_MS <= found.call_ms["latency_host"] < 140


def test_warm_up_gives_up_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timer, "STABLE", -1)
    monkeypatch.setattr(timer, "MAX_WARMUP_MS", 300)
    timed, _ = started(False)
    start = time.monotonic()
    found = timed.warm_up(1)
    assert found.stable is False
    assert found.calls > 1 + 2 * timer.WINDOW_CALLS
    assert 0.3 <= time.monotonic() - start < 3


@pytest.mark.parametrize(("asynchronous", "gpu"), [(False, None), (True, 123)])
def test_memory_is_this_process_and_the_runtimes_own(asynchronous: bool, gpu: int | None) -> None:
    timed, _ = started(asynchronous)
    found = timed.memory()
    assert (found.on_gpu, found.gpu_peak_memory_bytes) == (asynchronous, gpu)
    assert 10e6 < found.peak_memory_bytes < 100e9


def test_a_slow_first_call_leaves_the_warm_up_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    timed, session = started(False)
    monkeypatch.setattr(timer, "MAX_WARMUP_MS", 200)
    calm, first = session.put, iter([0.4])
    monkeypatch.setattr(session, "put", lambda images: (time.sleep(next(first, 0)), calm(images)))
    monkeypatch.setattr(timer, "STABLE", -1)  # never
    found = timed.warm_up(1)
    assert found.first_inference_ms > 400
    assert found.calls > 2 * timer.WINDOW_CALLS


def test_the_proof_asks_the_session_about_a_batch_of_that_size() -> None:
    timed, session = started(False)
    timed.prove(3)
    assert session.steps == [*CALL, "prove"]
    assert session.shapes == [(3, 4, 6, 3)]
