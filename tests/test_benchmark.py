import gc
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from stages import benchmark
from stages.benchmark import BLOCKS, Benchmark, Stopwatch
from stages.common import files, isolate, paths
from stages.common.errors import PipelineError
from stages.common.images import Floats, Preprocessing
from stages.common.nvml import State
from stages.common.params import BenchmarkParams
from stages.runtimes import Manifest


class FakeWorker:
    """Answers as the process of one variant does; its calls take `ms`, and it fails at request number `fails_at`."""

    def __init__(self, name: str, log: list[tuple[str, Any]], ms: float = 1.0, fails_at: int | None = None) -> None:
        self.name, self.log, self.ms, self.fails_at, self.warm_ms = name, log, ms, fails_at, ms
        self.requests = 0
        self.gpu_peak: int | None = None

    def ask(self, request: Any) -> Any:
        self.log.append((self.name, request))
        self.requests += 1
        if self.requests == self.fails_at:
            raise PipelineError("its process was ended by SIGKILL, probably for lack of memory")
        method, *arguments = request
        if method == "load":
            return 5.0
        if method == "warm_up":
            return {"first_inference_ms": 9.0, "warmup_calls": 11, "warmup_stable": True, "call_ms": self.warm_ms}
        if method == "memory":
            return {"peak_memory_bytes": 100, "gpu_peak_memory_bytes": self.gpu_peak}
        if method == "verify":
            return None
        assert method == "block"
        return {"latency": [self.ms] * arguments[1], "latency_host": [self.ms + 0.5] * arguments[1]}


def setting(samples: int = 20, seconds: float = 0, sizes: tuple[int, ...] = (1,)) -> BenchmarkParams:
    return BenchmarkParams(batch_sizes=sizes, min_samples=samples, min_seconds=seconds, threads=None)


def raced(chosen: BenchmarkParams, gpu: Any = None, **workers: FakeWorker) -> Benchmark:
    found = Benchmark(workers, chosen, gpu)  # type: ignore[arg-type]
    found.run()
    return found


@pytest.mark.parametrize(("samples", "calls"), [(20, 20), (95, 100), (2, BLOCKS)])
def test_the_minimum_number_of_calls_is_reached_in_whole_blocks(samples: int, calls: int) -> None:
    found = raced(setting(samples), a=FakeWorker("a", []))
    assert len(found.blocks["a", 1, "latency"]) == BLOCKS
    assert found.result("a")["batches"]["1"]["latency"]["samples"] == calls


def test_the_minimum_of_seconds_is_reached_too() -> None:
    found = raced(setting(20, 0.5), a=FakeWorker("a", [], ms=1.0), b=FakeWorker("b", [], ms=100.0))
    for name in ("a", "b"):
        for term in benchmark.TERMS:
            times = found.times(name, 1, term)
            assert len(times) >= 20
            assert sum(times) >= 500
    assert len(found.times("a", 1, "latency")) == 500


@pytest.mark.parametrize(("warm_ms", "ms"), [(10.0, 1.0), (1.0, 0.3)])
def test_calls_that_turn_out_faster_than_in_the_warm_up_get_more_rounds(warm_ms: float, ms: float) -> None:
    worker = FakeWorker("a", [], ms)
    worker.warm_ms = warm_ms
    found = raced(setting(20, 0.2), a=worker)
    assert sum(found.times("a", 1, "latency")) >= 200
    assert len(found.blocks["a", 1, "latency"]) > BLOCKS


def test_every_round_has_one_block_of_each_variant_in_changing_order() -> None:
    log: list[tuple[str, Any]] = []
    raced(setting(), **{name: FakeWorker(name, log) for name in "abcd"})
    order = [name for name, request in log if request[0] == "block"]
    rounds = [order[start : start + 4] for start in range(0, len(order), 4)]
    assert len(rounds) == BLOCKS
    assert all(sorted(names) == list("abcd") for names in rounds)
    assert len({tuple(names) for names in rounds}) > 3


def test_a_slow_variant_makes_all_variants_run_to_its_last_round() -> None:
    log: list[tuple[str, Any]] = []
    slow = FakeWorker("slow", log, ms=0.5)
    slow.warm_ms = 1.0
    found = raced(setting(20, 0.1), fast=FakeWorker("fast", log, ms=5.0), slow=slow)
    assert len(found.blocks["fast", 1, "latency"]) == len(found.blocks["slow", 1, "latency"]) > BLOCKS


def test_everything_is_asked_in_order() -> None:
    log: list[tuple[str, Any]] = []
    raced(setting(sizes=(1, 8)), a=FakeWorker("a", log), b=FakeWorker("b", log))
    steps = [(name, *request[:2]) for name, request in log if request[0] != "block"]
    assert steps == [
        ("a", "load"), ("b", "load"),
        ("a", "warm_up", 1), ("b", "warm_up", 1), ("a", "verify", 1), ("b", "verify", 1),
        ("a", "warm_up", 8), ("b", "warm_up", 8), ("a", "verify", 8), ("b", "verify", 8),
        ("a", "memory"), ("b", "memory"),
    ]  # fmt: skip
    sizes = [request[1] for _, request in log if request[0] == "block"]
    assert sizes == [1] * 2 * BLOCKS + [8] * 2 * BLOCKS


def test_a_result_has_all_that_was_measured() -> None:
    found = raced(setting(sizes=(1, 8)), a=FakeWorker("a", [], ms=2.0)).result("a")
    assert (found["status"], found["reason"], found["load_ms"], found["peak_memory_bytes"]) == ("ok", None, 5.0, 100)
    batch = found["batches"]["8"]
    assert (batch["first_inference_ms"], batch["warmup_calls"]) == (9.0, 11)
    assert (batch["latency"]["p50_ms"], batch["latency"]["throughput_ips"]) == (2.0, 4000.0)
    assert batch["latency_host"]["p50_ms"] == 2.5


STEPS = {"load": 1, "warm-up": 2, "third block": 5, "last block": 12, "verify": 13, "memory": 14}


@pytest.mark.parametrize("fails_at", STEPS.values(), ids=STEPS)
def test_a_variant_that_fails_is_dropped_with_its_reason_and_the_others_finish(fails_at: int) -> None:
    log: list[tuple[str, Any]] = []
    bad = FakeWorker("bad", log, fails_at=fails_at)
    found = raced(setting(), good=FakeWorker("good", log), bad=bad, fine=FakeWorker("fine", log))
    reason = "its process was ended by SIGKILL, probably for lack of memory"
    assert found.failed == {"bad": reason}
    assert found.result("bad") == {"status": "failed", "reason": reason}
    assert bad.requests == fails_at
    for name in ("good", "fine"):
        assert found.result(name)["status"] == "ok"
        assert len(found.times(name, 1, "latency")) == 20


class FakeGpu:
    """Holds 10 bytes more at every second question, so that each request to a worker adds 10."""

    def __init__(self, others: int, throttled_by: tuple[str, ...]) -> None:
        self.others, self.throttled_by, self.questions = others, throttled_by, 0

    def processes(self) -> int:
        return self.others

    def used_bytes(self) -> int:
        self.questions += 1
        return 10 * (self.questions // 2)

    def state(self) -> State:
        return State(1980, 2619, 40 + self.questions % 2, 250.0, self.throttled_by)


def test_a_variant_on_the_gpu_has_the_gpus_record_and_one_on_the_cpu_has_none() -> None:
    there, here = FakeWorker("there", []), FakeWorker("here", [])
    there.gpu_peak = 77
    found = raced(setting(), FakeGpu(2, ("power cap",)), there=there, here=here)
    assert found.result("here")["gpu"] is None
    gpu = found.result("there")["gpu"]
    assert gpu["process_memory_bytes"] == 10 * there.requests
    assert (gpu["other_processes"], gpu["states"], gpu["throttled_states"]) == (2, BLOCKS, {"power cap": BLOCKS})
    assert (gpu["sm_clock_mhz"], gpu["memory_clock_mhz"], gpu["power_w"]) == ([1980, 1980], [2619, 2619], [250, 250])


def test_a_process_that_joins_the_gpu_later_is_counted() -> None:
    class Joined(FakeGpu):
        def processes(self) -> int:
            self.others += 1
            return self.others

    worker = FakeWorker("there", [])
    worker.gpu_peak = 77
    # None at the start; at the end two, of which one is the worker itself.
    assert raced(setting(), Joined(-1, ()), there=worker).result("there")["gpu"]["other_processes"] == 0
    assert raced(setting(), Joined(0, ()), there=worker).result("there")["gpu"]["other_processes"] == 1


def test_all_variants_may_fail() -> None:
    found = raced(setting(), a=FakeWorker("a", [], fails_at=1), b=FakeWorker("b", [], fails_at=3))
    assert set(found.failed) == {"a", "b"}


def test_no_variants_make_no_results() -> None:
    found = raced(setting())
    assert list(found.samples()) == []


def test_samples_list_every_call_with_its_block() -> None:
    found = raced(setting(sizes=(1, 8)), a=FakeWorker("a", [], ms=1.25))
    rows = list(found.samples())
    assert len(rows) == 2 * 2 * 20
    assert rows[0] == ("a", 1, "latency", 0, "1.25")
    assert {block for _, _, _, block, _ in rows} == set(range(BLOCKS))


# The stopwatch inside a worker.

PREPROCESSING = Preprocessing(4, 6, 1.0, (1.0,) * 3, (0.0,) * 3, "rgb")
PUT_MS, RUN_MS, AFTER_MS = 4, 8, 2


class FakeSession:
    """Sleeps in each step, and notes the steps."""

    def __init__(self, asynchronous: bool) -> None:
        self.asynchronous = asynchronous
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


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], tuple[Stopwatch, FakeSession]]]:
    """A stopwatch with a fake session."""

    def start(asynchronous: bool) -> tuple[Stopwatch, FakeSession]:
        session = FakeSession(asynchronous)
        manifest = Manifest("tflite-fp32", "tflite", "fp32", "ok", None, {})
        monkeypatch.setattr(Manifest, "load", lambda self, threads=None: session)
        monkeypatch.setattr(Manifest, "read", classmethod(lambda cls, variant: manifest))
        return Stopwatch("tflite-fp32", 1, PREPROCESSING), session

    yield start
    gc.enable()


Started = Callable[[bool], tuple[Stopwatch, FakeSession]]
CALL = ["put", "run", "probabilities"]


def test_images_are_the_same_in_every_process_and_fill_the_batch() -> None:
    found = benchmark.images_of(3, PREPROCESSING)
    assert found.shape == (3, 4, 6, 3)
    np.testing.assert_array_equal(found, isolate.call(benchmark.images_of, 3, PREPROCESSING))


def test_a_synchronous_block_times_run_within_each_call(started: Started) -> None:
    watch, session = started(False)
    found = watch.block(2, 5)
    assert session.steps == CALL * 6
    assert set(session.shapes) == {(2, 4, 6, 3)}
    assert len(found["latency"]) == len(found["latency_host"]) == 5
    assert min(found["latency"]) >= RUN_MS
    assert min(found["latency_host"]) >= PUT_MS + RUN_MS + AFTER_MS
    assert min(found["latency"]) < PUT_MS + RUN_MS + AFTER_MS


def test_an_asynchronous_block_times_run_on_a_settled_tensor(started: Started) -> None:
    watch, session = started(True)
    found = watch.block(2, 5)
    assert session.steps == CALL * 6 + ["run"] * 5
    assert len(found["latency"]) == len(found["latency_host"]) == 5
    assert min(found["latency"]) >= RUN_MS
    assert min(found["latency_host"]) >= PUT_MS + RUN_MS + AFTER_MS


@pytest.mark.parametrize("asynchronous", [False, True])
def test_warm_up_makes_at_least_two_windows_of_calls(
    started: Started, monkeypatch: pytest.MonkeyPatch, asynchronous: bool
) -> None:
    monkeypatch.setattr(benchmark, "STABLE", 1e9)
    watch, session = started(asynchronous)
    found = watch.warm_up(2)
    assert found["warmup_stable"] is True
    # The first call, and two windows: one median cannot have moved.
    assert found["warmup_calls"] == 1 + 2 * benchmark.WINDOW_CALLS
    assert session.steps == CALL * found["warmup_calls"]
    assert found["first_inference_ms"] >= PUT_MS + RUN_MS + AFTER_MS
    assert PUT_MS + RUN_MS + AFTER_MS <= found["call_ms"] < 10 * (PUT_MS + RUN_MS + AFTER_MS)


def test_warm_up_gives_up_when_the_time_is_up(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "STABLE", -1)
    monkeypatch.setattr(benchmark, "MAX_WARMUP_MS", 300)
    watch, _ = started(False)
    start = time.monotonic()
    found = watch.warm_up(1)
    assert found["warmup_stable"] is False
    assert found["warmup_calls"] > 1 + 2 * benchmark.WINDOW_CALLS
    assert 0.3 <= time.monotonic() - start < 3


@pytest.mark.parametrize(("asynchronous", "gpu"), [(False, None), (True, 123)])
def test_memory_is_this_process_and_the_runtimes_own(started: Started, asynchronous: bool, gpu: int | None) -> None:
    watch, _ = started(asynchronous)
    found = watch.memory()
    assert found["gpu_peak_memory_bytes"] == gpu
    assert 10e6 < found["peak_memory_bytes"] < 100e9


def test_a_slow_first_call_leaves_the_warm_up_its_time(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    watch, session = started(False)
    monkeypatch.setattr(benchmark, "MAX_WARMUP_MS", 200)
    calm, first = session.put, iter([0.4])
    monkeypatch.setattr(session, "put", lambda images: (time.sleep(next(first, 0)), calm(images)))
    monkeypatch.setattr(benchmark, "STABLE", -1)  # never
    found = watch.warm_up(1)
    assert found["first_inference_ms"] > 400
    assert found["warmup_calls"] > 2 * benchmark.WINDOW_CALLS


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
    thread = threading.Thread(target=benchmark.serve, args=arguments, daemon=True)
    thread.start()

    def ask(*request: Any) -> Any:
        ours.send(request)
        assert ours.poll(10)
        return ours.recv()

    succeeded, load_ms = ask("load")
    assert succeeded
    assert load_ms >= 0
    assert ask("block", 1, 2)[0] is True
    assert ask("block", 1, "two") == (False, "TypeError: 'str' object cannot be interpreted as an integer")
    assert ask("memory")[0] is True
    ours.close()
    thread.join(10)
    assert not thread.is_alive()


# The stage.


def write_manifest(name: str, status: str) -> None:
    runtime, precision = name.split("-")
    manifest = {"variant": name, "runtime": runtime, "precision": precision, "status": status, "reason": None}
    files.write_json(paths.model(name) / paths.MANIFEST, manifest | {"options": {"xnnpack": True, "tf32": True}})


def test_main_without_any_model_writes_empty_results(
    checkout: Path, edit: Callable[..., None], model_record: dict[str, Any]
) -> None:
    edit(("variants", ["tftrt-fp32"]))
    files.write_json(paths.MODEL, model_record)
    write_manifest("tftrt-fp32", "skipped")
    benchmark.main()
    assert files.read_json(paths.BENCHMARK) == {"blocks": BLOCKS, "variants": {}}


def test_main_writes_the_reason_of_a_real_worker_that_cannot_load(
    checkout: Path, edit: Callable[..., None], model_record: dict[str, Any]
) -> None:
    edit(("variants", ["tflite-fp32"]))
    files.write_json(paths.MODEL, model_record)
    write_manifest("tflite-fp32", "ok")
    (paths.model("tflite-fp32") / "model.tflite").write_bytes(b"no model")
    with pytest.raises(PipelineError, match=r"^tflite-fp32 could not be timed: ValueError: "):
        benchmark.main()
    found = files.read_json(paths.BENCHMARK)["variants"]["tflite-fp32"]
    assert found["status"] == "failed"
    assert found["reason"].startswith("ValueError: ")
    assert paths.SAMPLES.read_text() == "variant,batch_size,term,block,ms\n"
