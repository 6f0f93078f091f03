from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest

from stages import benchmark
from stages.contracts import paths
from stages.contracts.variant import Variant
from stages.core import files
from stages.core.errors import PipelineError
from stages.core.gpu import State
from stages.measurement import interleave
from stages.measurement.interleave import BLOCKS, Repeat
from stages.params.document import BenchmarkParams
from stages.runtimes import Manifest
from stages.runtimes.timer import TERMS


class FakeWorker:
    """Answers as the process of one variant does; its calls take `ms`, and it fails at request number `fails_at`."""

    def __init__(self, name: str, log: list[tuple[str, Any]], ms: float = 1.0, fails_at: int | None = None) -> None:
        self.name, self.log, self.ms, self.fails_at, self.warm_ms = name, log, ms, fails_at, ms
        self.requests = 0
        self.gpu_peak: int | None = None
        self.closed = False

    def close(self) -> None:
        self.closed = True

    def ask(self, request: Any) -> Any:
        self.log.append((self.name, request))
        self.requests += 1
        if self.requests == self.fails_at:
            raise PipelineError("its process was ended by SIGKILL, probably for lack of memory")
        method, *arguments = request
        if method == "load":
            return 5.0
        if method == "warm_up":
            return {
                "first_inference_ms": 9.0,
                "warmup_calls": 11,
                "warmup_stable": True,
                "call_ms": {"latency": self.warm_ms, "latency_host": self.warm_ms + 0.5},
            }
        if method == "memory":
            memory = {"peak_memory_bytes": 100, "gpu_peak_memory_bytes": self.gpu_peak}
            return memory | {"on_gpu": self.gpu_peak is not None}
        if method == "verify":
            return None
        assert method == "block"
        calls = arguments[1]
        return {"latency": [self.ms] * calls["latency"], "latency_host": [self.ms + 0.5] * calls["latency_host"]}


def test_parts_are_medians_over_all_rounds_and_repeats() -> None:
    class Gpu(FakeWorker):
        def ask(self, request: Any) -> Any:
            answer = super().ask(request)
            split = {"input_copy": [0.1], "compute": [self.ms], "output_copy": [0.2]}
            return answer | split if request[0] == "block" else answer

    repeats = [raced(setting(), a=Gpu("a", [], ms), b=FakeWorker("b", [])) for ms in (1.0, 1.0, 3.0)]
    found = interleave.record("a", repeats, (1,))["batches"]["1"]
    assert found["parts_ms"] == {"input_copy": 0.1, "compute": 1.0, "output_copy": 0.2}
    assert interleave.record("b", repeats, (1,))["batches"]["1"]["parts_ms"] is None


def setting(samples: int = 20, seconds: float = 0, sizes: tuple[int, ...] = (1,)) -> BenchmarkParams:
    return BenchmarkParams(batch_sizes=sizes, min_samples=samples, min_seconds=seconds, repeats=1, threads=None)


def raced(chosen: BenchmarkParams, gpu: Any = None, **workers: FakeWorker) -> Repeat:
    found = Repeat(workers, chosen, gpu)  # type: ignore[arg-type]
    found.run()
    return found


def record(repeat: Repeat, name: str, batch_sizes: tuple[int, ...] = (1,)) -> dict[str, Any]:
    return interleave.record(name, [repeat], batch_sizes)


@pytest.mark.parametrize(("samples", "calls"), [(20, 20), (95, 100), (2, BLOCKS)])
def test_the_minimum_number_of_calls_is_reached_in_whole_blocks(samples: int, calls: int) -> None:
    found = raced(setting(samples), a=FakeWorker("a", []))
    assert len(found.blocks["a", 1, "latency"]) == BLOCKS
    assert record(found, "a")["batches"]["1"]["latency"]["samples"] == calls


def test_the_minimum_of_seconds_is_reached_too() -> None:
    found = raced(setting(20, 0.5), a=FakeWorker("a", [], ms=1.0), b=FakeWorker("b", [], ms=100.0))
    for name in ("a", "b"):
        for term in TERMS:
            times = found.times(name, 1, term)
            assert len(times) >= 20
            assert sum(times) >= 500
    assert len(found.times("a", 1, "latency")) == 530  # ten blocks of a twentieth more than a tenth


def test_each_term_has_its_own_number_of_calls() -> None:
    """On a GPU the copy to it may take many times as long as the model; no other variant waits for that."""
    found = raced(setting(20, 0.5), a=FakeWorker("a", [], ms=0.5), b=FakeWorker("b", []))
    assert len(found.blocks["b", 1, "latency"]) == BLOCKS
    assert (len(found.times("a", 1, "latency")), len(found.times("a", 1, "latency_host"))) == (1050, 530)


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
    found = record(raced(setting(sizes=(1, 8)), a=FakeWorker("a", [], ms=2.0)), "a", (1, 8))
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
    assert record(found, "bad") == {"status": "failed", "reason": reason}
    assert bad.requests == fails_at and bad.closed
    for name in ("good", "fine"):
        assert record(found, name)["status"] == "ok"
        assert len(found.times(name, 1, "latency")) == 20


class FakeGpu:
    """Holds 10 bytes more at every second question, so that each request to a worker adds 10."""

    def __init__(self, others: int | None, throttled_by: tuple[str, ...], own: int = 1) -> None:
        self.others, self.throttled_by, self.questions = others, throttled_by, 0
        self.own = own  # what NVML sees of the benchmark itself

    def processes(self) -> int | None:
        return None if self.others is None else self.others + self.own * bool(self.questions)

    def used_bytes(self) -> int:
        self.questions += 1
        return 10 * (self.questions // 2)

    def state(self) -> State:
        return State(1980, 2619, 40 + self.questions % 2, 250.0, self.throttled_by)


def test_a_variant_on_the_gpu_has_the_gpus_record_and_one_on_the_cpu_has_none() -> None:
    there, here = FakeWorker("there", []), FakeWorker("here", [])
    there.gpu_peak = 77
    found = raced(setting(), FakeGpu(2, ("power cap",)), there=there, here=here)
    assert record(found, "here")["gpu"] is None
    gpu = record(found, "there")["gpu"]
    assert gpu["process_memory_bytes"] == 10 * there.requests
    assert gpu["other_processes"] == 2
    assert len(gpu["states"]) == BLOCKS
    assert gpu["states"][0] == {
        "sm_clock_mhz": 1980, "memory_clock_mhz": 2619, "temperature_c": 40, "power_w": 250.0,
        "throttled_by": ("power cap",),
    }  # fmt: skip


def test_a_gpu_that_nvml_does_not_show_is_not_recorded_as_empty() -> None:
    worker = FakeWorker("there", [])
    worker.gpu_peak = 77
    assert record(raced(setting(), None, there=worker), "there")["gpu"] is None


def test_gpu_memory_that_nvml_does_not_tell_is_unknown() -> None:
    class Silent(FakeGpu):
        def used_bytes(self) -> None:  # type: ignore[override]
            return None

    worker = FakeWorker("there", [])
    worker.gpu_peak = 77
    repeats = [raced(setting(), gpu, there=worker) for gpu in (Silent(0, ()), FakeGpu(0, ()))]
    assert record(repeats[0], "there")["gpu"]["process_memory_bytes"] is None
    assert interleave.record("there", repeats, (1,))["gpu"]["process_memory_bytes"] == 10 * worker.requests / 2


def test_a_process_that_joins_the_gpu_later_is_counted() -> None:
    class Joined(FakeGpu):
        def processes(self) -> int:
            return 2 * bool(self.questions)

    worker = FakeWorker("there", [])
    worker.gpu_peak = 77
    # None at the start; at the end two, of which one is the worker itself.
    assert record(raced(setting(), FakeGpu(0, ()), there=worker), "there")["gpu"]["other_processes"] == 0
    assert record(raced(setting(), Joined(0, ()), there=worker), "there")["gpu"]["other_processes"] == 1


@pytest.mark.parametrize(("others", "own", "found"), [(0, 1, 0), (0, 0, None), (None, 1, None), (2, -2, 2)])
def test_whether_a_gpu_is_shared_is_unknown_where_nvml_does_not_see_our_own_processes(
    others: int | None, own: int, found: int | None
) -> None:
    worker = FakeWorker("there", [])
    worker.gpu_peak = 77
    gpu = FakeGpu(others, (), own)
    assert record(raced(setting(), gpu, there=worker), "there")["gpu"]["other_processes"] == found


@pytest.mark.parametrize(
    ("counts", "found"), [((0, 0), 0), ((0, None), None), ((None, None), None), ((None, 2), 2), ((1, 0), 1)]
)
def test_a_repeat_whose_gpu_was_perhaps_shared_makes_all_of_them_doubtful(
    counts: tuple[int | None, ...], found: int | None
) -> None:
    worker = FakeWorker("there", [])
    worker.gpu_peak = 77
    repeats = [raced(setting(), FakeGpu(count, ()), there=worker) for count in counts]
    assert interleave.record("there", repeats, (1,))["gpu"]["other_processes"] == found


def test_a_worker_that_failed_leaves_the_gpu_and_is_no_stranger_on_it() -> None:
    workers = {"fine": FakeWorker("fine", []), "bad": FakeWorker("bad", [], fails_at=2)}
    for worker in workers.values():
        worker.gpu_peak = 77

    class Watched(FakeGpu):
        def processes(self) -> int:
            return sum(worker.requests > 0 and not worker.closed for worker in workers.values())

    found = raced(setting(), Watched(0, ()), **workers)
    assert record(found, "fine")["gpu"]["other_processes"] == 0


def test_all_variants_may_fail() -> None:
    found = raced(setting(), a=FakeWorker("a", [], fails_at=1), b=FakeWorker("b", [], fails_at=3))
    assert set(found.failed) == {"a", "b"}


def test_no_variants_make_no_results() -> None:
    found = raced(setting())
    assert list(interleave.samples([found])) == []


def test_samples_list_every_call_with_its_block() -> None:
    found = raced(setting(sizes=(1, 8)), a=FakeWorker("a", [], ms=1.25))
    rows = list(interleave.samples([found, found]))
    assert len(rows) == 2 * 2 * 2 * 20
    assert rows[0] == ("a", 1, "latency", 0, 0, "1.25")
    assert {repeat for _, _, _, repeat, _, _ in rows} == {0, 1}
    assert {block for _, _, _, _, block, _ in rows} == set(range(BLOCKS))


def test_repeats_are_pooled_and_keep_their_own_medians() -> None:
    repeats = [raced(setting(), a=FakeWorker("a", [], ms)) for ms in (1.0, 2.0, 3.0)]
    found = interleave.record("a", repeats, (1,))["batches"]["1"]["latency"]
    assert (found["samples"], found["p50_ms"], found["repeat_p50_ms"], found["repeat_cv"]) == (60, 2, (1, 2, 3), 0.5)


def test_a_variant_that_fails_in_a_later_repeat_has_failed() -> None:
    repeats = [raced(setting(), a=FakeWorker("a", [])), raced(setting(), a=FakeWorker("a", [], fails_at=3))]
    found = interleave.record("a", repeats, (1,))
    assert (found["status"], found["reason"]) == ("failed", repeats[1].failed["a"])


def test_memory_is_the_largest_and_the_gpus_states_are_those_of_all_repeats() -> None:
    repeats = []
    for peak, others in ((70, 0), (90, 2), (80, 0)):
        worker = FakeWorker("a", [])
        worker.gpu_peak = peak
        repeats.append(raced(setting(), FakeGpu(others, ()), a=worker))
    found = interleave.record("a", repeats, (1,))
    assert (found["gpu_peak_memory_bytes"], found["gpu"]["other_processes"]) == (90, 2)
    assert len(found["gpu"]["states"]) == 3 * BLOCKS


def test_each_repeat_has_another_order() -> None:
    orders = []
    for seed in (0, 1):
        log: list[tuple[str, Any]] = []
        repeat = Repeat({name: FakeWorker(name, log) for name in "abcd"}, setting(), None, seed)  # type: ignore[arg-type]
        repeat.run()
        orders.append([name for name, request in log if request[0] == "block"])
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


# The stage.


def write_manifest(name: str, status: str) -> None:
    manifest = Manifest(name, *astuple(Variant.parse(name)), status, None, {"xnnpack": True, "tf32": True})
    files.write_json(paths.model(name) / paths.MANIFEST, manifest._asdict())


def test_main_without_any_model_writes_empty_results(
    checkout: Path, edit: Callable[..., None], model_record: dict[str, Any]
) -> None:
    edit(("variants", ["tftrt-fp32"]))
    files.write_json(paths.MODEL, model_record)
    write_manifest("tftrt-fp32", "skipped")
    benchmark.main()
    assert files.read_json(paths.BENCHMARK) == {"blocks": BLOCKS, "repeats": 1, "variants": {}}


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
    assert paths.SAMPLES.read_text() == "variant,batch_size,term,repeat,block,ms\n"
