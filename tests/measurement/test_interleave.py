from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages import benchmark
from stages.cluster import adopt, kept
from stages.contracts import codec
from stages.contracts.conversion import MANIFEST, Manifest, folder
from stages.contracts.cpu import CpuUse
from stages.contracts.messages import Block, Loaded, LoadOrder
from stages.contracts.model import MODEL
from stages.contracts.status import OK, Status
from stages.contracts.timing import (
    SAMPLES,
    TERMS,
    TIMING,
    GpuState,
    GpuWatch,
    Memory,
    RepeatTiming,
    Timing,
    VariantTiming,
    WarmUp,
)  # fmt: skip
from stages.contracts.variant import Variant
from stages.core.errors import PipelineError
from stages.core.gpu import State
from stages.measurement import interleave
from stages.measurement.interleave import BLOCKS, Repeat
from stages.measurement.quiet import Meter, Reading
from stages.params.measurement import BenchmarkParams, variants
from tests.fixtures.cpu import BUSY, QUIET, FakeMeter
from tests.fixtures.errors import refused
from tests.fixtures.records import PREPARED, TINY

KILLED = "its process was ended by SIGKILL, probably for lack of memory"


class FakeClient:
    """Answers as the worker of one variant does; its calls take `ms`, and it fails at request number `fails_at`."""

    def __init__(self, name: str, log: list[tuple[str, Any]], ms: float = 1.0, fails_at: int | None = None) -> None:
        self.name, self.log, self.ms, self.fails_at, self.warm_ms = name, log, ms, fails_at, ms
        self.requests = 0
        self.gpu_peak: int | None = None
        self.closed = False

    def close(self) -> None:
        self.closed = True

    def ask(self, verb: str, arguments: Any, kind: type) -> Any:
        self.log.append((self.name, (verb, arguments)))
        self.requests += 1
        if self.requests == self.fails_at:
            raise PipelineError(KILLED, code="worker-ended")
        return getattr(self, verb)(arguments)

    def load(self, order: LoadOrder) -> Loaded:
        return Loaded(5.0)

    def warm_up(self, order: Any) -> WarmUp:
        return WarmUp(9.0, 11, True, {"latency": self.warm_ms, "latency_host": self.warm_ms + 0.5})

    def block(self, order: Any) -> Block:
        host = [self.ms + 0.5] * order.calls["latency_host"]
        return Block({"latency": [self.ms] * order.calls["latency"], "latency_host": host})

    def prove(self, order: Any) -> None: ...

    def memory(self, order: None) -> Memory:
        return Memory(self.gpu_peak is not None, 100, self.gpu_peak)


def setting(samples: int = 20, seconds: float = 0, sizes: tuple[int, ...] = (1,), retries: int = 1) -> BenchmarkParams:
    return BenchmarkParams(
        batch_sizes=sizes, min_samples=samples, min_seconds=seconds, repeats=1, threads=2, retries=retries
    )


def timed(chosen: BenchmarkParams, gpu: Any = None, meter: Meter | None = None, **clients: FakeClient) -> Repeat:
    repeat = Repeat(clients, chosen, PREPARED, gpu, meter=meter)  # type: ignore[arg-type]
    repeat.run()
    return repeat


def watch(repeat: Repeat, name: str) -> GpuWatch:
    gpu = repeat.timing(name).gpu
    assert gpu
    return gpu


def on_gpu(name: str = "there", **more: Any) -> FakeClient:
    found = FakeClient(name, [], **more)
    found.gpu_peak = 77
    return found


@pytest.mark.parametrize(("samples", "calls"), [(20, 20), (95, 100), (2, BLOCKS)])
def test_the_minimum_number_of_calls_is_reached_in_whole_blocks(samples: int, calls: int) -> None:
    repeat = timed(setting(samples), a=FakeClient("a", []))
    assert len(repeat.blocks["a", 1, "latency"]) == BLOCKS
    assert len(repeat.times("a", 1, "latency")) == calls


def test_the_minimum_of_seconds_is_reached_too() -> None:
    repeat = timed(setting(20, 0.5), a=FakeClient("a", [], ms=1.0), b=FakeClient("b", [], ms=100.0))
    for name in ("a", "b"):
        for term in TERMS:
            times = repeat.times(name, 1, term)
            assert len(times) >= 20
            assert sum(times) >= 500
    assert len(repeat.times("a", 1, "latency")) == 530  # ten blocks of a twentieth more than a tenth


def test_each_term_has_its_own_number_of_calls() -> None:
    """On a GPU the copy to it may take many times as long as the model; no other variant waits for that."""
    repeat = timed(setting(20, 0.5), a=FakeClient("a", [], ms=0.5), b=FakeClient("b", []))
    assert len(repeat.blocks["b", 1, "latency"]) == BLOCKS
    assert (len(repeat.times("a", 1, "latency")), len(repeat.times("a", 1, "latency_host"))) == (1050, 530)


@pytest.mark.parametrize(("warm_ms", "ms"), [(10.0, 1.0), (1.0, 0.3)])
def test_calls_that_turn_out_faster_than_in_the_warm_up_get_more_rounds(warm_ms: float, ms: float) -> None:
    worker = FakeClient("a", [], ms)
    worker.warm_ms = warm_ms
    repeat = timed(setting(20, 0.2), a=worker)
    assert sum(repeat.times("a", 1, "latency")) >= 200
    assert len(repeat.blocks["a", 1, "latency"]) > BLOCKS


def test_every_round_has_one_block_of_each_variant_in_changing_order() -> None:
    log: list[tuple[str, Any]] = []
    timed(setting(), **{name: FakeClient(name, log) for name in "abcd"})
    order = [name for name, request in log if request[0] == "block"]
    rounds = [order[start : start + 4] for start in range(0, len(order), 4)]
    assert len(rounds) == BLOCKS
    assert all(sorted(names) == list("abcd") for names in rounds)
    assert len({tuple(names) for names in rounds}) > 3


def test_a_slow_variant_makes_all_variants_run_to_its_last_round() -> None:
    log: list[tuple[str, Any]] = []
    slow = FakeClient("slow", log, ms=0.5)
    slow.warm_ms = 1.0
    repeat = timed(setting(20, 0.1), fast=FakeClient("fast", log, ms=5.0), slow=slow)
    assert len(repeat.blocks["fast", 1, "latency"]) == len(repeat.blocks["slow", 1, "latency"]) > BLOCKS


def test_everything_is_asked_in_order() -> None:
    log: list[tuple[str, Any]] = []
    timed(setting(sizes=(1, 8)), a=FakeClient("a", log), b=FakeClient("b", log))
    steps = [(name, verb, getattr(arguments, "batch_size", None)) for name, (verb, arguments) in log if verb != "block"]
    assert steps == [
        ("a", "load", None), ("b", "load", None),
        ("a", "warm_up", 1), ("b", "warm_up", 1), ("a", "prove", 1), ("b", "prove", 1),
        ("a", "warm_up", 8), ("b", "warm_up", 8), ("a", "prove", 8), ("b", "prove", 8),
        ("a", "memory", None), ("b", "memory", None),
    ]  # fmt: skip
    sizes = [arguments.batch_size for _, (verb, arguments) in log if verb == "block"]
    assert sizes == [1] * 2 * BLOCKS + [8] * 2 * BLOCKS
    assert log[0] == ("a", ("load", LoadOrder("models/a", 2, PREPARED)))


def test_a_record_has_all_that_was_seen_and_no_statistics() -> None:
    repeat = timed(setting(sizes=(1, 8)), a=FakeClient("a", [], ms=2.0))
    warm = WarmUp(9.0, 11, True, {"latency": 2.0, "latency_host": 2.5})
    seen = RepeatTiming(5.0, Memory(False, 100, None), {"1": warm, "8": warm}, None)
    assert repeat.timing("a") == seen
    assert interleave.of_variant("a", [repeat, repeat]) == VariantTiming(OK, (seen, seen))


STEPS = {"load": 1, "warm-up": 2, "third block": 5, "last block": 12, "prove": 13, "memory": 14}


@pytest.mark.parametrize("fails_at", STEPS.values(), ids=STEPS)
def test_a_variant_that_fails_is_dropped_with_its_reason_and_the_others_finish(fails_at: int) -> None:
    log: list[tuple[str, Any]] = []
    bad = FakeClient("bad", log, fails_at=fails_at)
    repeat = timed(setting(), good=FakeClient("good", log), bad=bad, fine=FakeClient("fine", log))
    assert repeat.failed == {"bad": KILLED}
    assert interleave.of_variant("bad", [repeat]) == VariantTiming(Status("failed", KILLED))
    assert bad.requests == fails_at and bad.closed
    for name in ("good", "fine"):
        assert interleave.of_variant(name, [repeat]).status.ok
        assert len(repeat.times(name, 1, "latency")) == 20


class FakeGpu:
    """Holds 10 bytes more at every second question, so that each request to a worker adds 10."""

    def __init__(self, others: int | None, throttled_by: tuple[str, ...] = (), own: int = 1) -> None:
        self.others, self.throttled_by, self.questions = others, throttled_by, 0
        self.own = own  # what NVML sees of the benchmark itself

    def processes(self) -> int | None:
        return None if self.others is None else self.others + self.own * bool(self.questions)

    def used_bytes(self) -> int:
        self.questions += 1
        return 10 * (self.questions // 2)

    def state(self) -> State:
        return State(1980, 2619, 40, 250.0, self.throttled_by)


def test_a_variant_on_the_gpu_has_the_gpus_record_and_one_on_the_cpu_has_none() -> None:
    there = on_gpu()
    repeat = timed(setting(), FakeGpu(2, ("power cap",)), there=there, here=FakeClient("here", []))
    assert repeat.timing("here").gpu is None
    state = GpuState(1980, 2619, 40, 250.0, ("power cap",))
    assert watch(repeat, "there") == GpuWatch(10 * there.requests, 2, (state,) * BLOCKS)


def test_a_gpu_that_nvml_does_not_show_is_not_recorded_as_empty() -> None:
    assert timed(setting(), None, there=on_gpu()).timing("there").gpu is None


def test_gpu_memory_that_nvml_does_not_tell_is_unknown() -> None:
    class Silent(FakeGpu):
        def used_bytes(self) -> None:  # type: ignore[override]
            return None

    assert watch(timed(setting(), Silent(0), there=on_gpu()), "there").process_memory_bytes is None


def test_gpu_memory_that_another_process_frees_is_not_taken_off() -> None:
    class Freed(FakeGpu):
        def used_bytes(self) -> int:
            self.used = getattr(self, "used", 1_000_000) - 1
            return self.used

    assert watch(timed(setting(), Freed(1), there=on_gpu()), "there").process_memory_bytes is None


def test_a_process_that_joins_the_gpu_later_is_counted() -> None:
    class Joined(FakeGpu):
        def processes(self) -> int:
            return 2 * bool(self.questions)

    # None at the start; at the end two, of which one is the worker itself.
    assert watch(timed(setting(), FakeGpu(0), there=on_gpu()), "there").other_processes == 0
    assert watch(timed(setting(), Joined(0), there=on_gpu()), "there").other_processes == 1


@pytest.mark.parametrize(("others", "own", "count"), [(0, 1, 0), (0, 0, None), (None, 1, None), (2, -2, 2)])
def test_whether_a_gpu_is_shared_is_unknown_where_nvml_does_not_see_our_own_processes(
    others: int | None, own: int, count: int | None
) -> None:
    repeat = timed(setting(), FakeGpu(others, own=own), there=on_gpu())
    assert watch(repeat, "there").other_processes == count


def test_a_worker_that_failed_leaves_the_gpu_and_is_no_stranger_on_it() -> None:
    clients = {"fine": on_gpu("fine"), "bad": on_gpu("bad", fails_at=2)}

    class Watched(FakeGpu):
        def processes(self) -> int:
            return sum(client.requests > 0 and not client.closed for client in clients.values())

    assert watch(timed(setting(), Watched(0), **clients), "fine").other_processes == 0


class Quickening(FakeClient):
    """Its first block takes 8 ms a call, and others a millisecond."""

    def block(self, order: Any) -> Block:
        made = super().block(order)
        self.ms = 1.0
        return made


def test_who_used_the_cpus_is_stored_with_each_block() -> None:
    repeat = timed(setting(sizes=(1, 8)), meter=FakeMeter(), a=FakeClient("a", []))
    seen = repeat.timing("a")
    assert (seen.cpu, seen.retimed) == ({"1": (QUIET,) * BLOCKS, "8": (QUIET,) * BLOCKS}, {})
    # The time of all blocks at a batch size, too, which tells where each is too short.
    assert {size: (use.seconds, use.own_s) for size, use in seen.window.items()} == dict.fromkeys(
        ("1", "8"), (QUIET.seconds * BLOCKS, QUIET.own_s * BLOCKS)
    )
    unknown = timed(setting(), a=FakeClient("a", [])).timing("a")
    assert (unknown.cpu, unknown.window, unknown.retimed) == ({}, {}, {})


def test_a_block_in_which_others_used_the_cpus_is_timed_again() -> None:
    log: list[tuple[str, Any]] = []
    meter = FakeMeter(lambda number: BUSY if number == 0 else QUIET)
    repeat = timed(setting(), meter=meter, a=Quickening("a", log, ms=8.0))
    seen = repeat.timing("a")
    assert (seen.cpu, seen.retimed) == ({"1": (QUIET,) * BLOCKS}, {"1": 1})
    # So what others took of the busy one is no part of the time of all blocks any more.
    assert (seen.window["1"].seconds, seen.window["1"].busy_s) == (QUIET.seconds * BLOCKS, QUIET.busy_s * BLOCKS)
    assert repeat.times("a", 1, "latency") == [1.0] * 20
    assert repeat.times("a", 1, "latency_host") == [1.5] * 20
    assert len([verb for _, (verb, _) in log if verb == "block"]) == BLOCKS + 1


def test_a_block_is_timed_again_as_often_as_the_params_say_and_the_busy_one_stays() -> None:
    busy = FakeMeter(lambda number: BUSY)
    for retries in (0, 1, 3):
        log: list[tuple[str, Any]] = []
        repeat = timed(setting(retries=retries), meter=busy, a=Quickening("a", log, ms=8.0))
        assert len([verb for _, (verb, _) in log if verb == "block"]) == BLOCKS * (1 + retries)
        assert repeat.timing("a").cpu == {"1": (BUSY,) * BLOCKS}
        assert repeat.timing("a").retimed == ({"1": BLOCKS * retries} if retries else {})
        # Nothing is gained by a block that is no quieter, however fast it was.
        assert repeat.times("a", 1, "latency")[0] == 8.0


def test_only_the_disturbed_variant_is_timed_again_and_calls_that_are_then_missing_are_made() -> None:
    """What a busy CPU had slowed down to 8 ms in the warm-up too, gets an eighth of the calls in a quiet block."""
    log: list[tuple[str, Any]] = []
    slowed = Quickening("slowed", log, ms=8.0)
    meter = FakeMeter(lambda number: BUSY if number == 0 else QUIET)
    repeat = timed(setting(20, 0.2), meter=meter, slowed=slowed)
    assert sum(repeat.times("slowed", 1, "latency")) >= 200
    assert len(repeat.timing("slowed").cpu["1"]) == len(repeat.blocks["slowed", 1, "latency"]) > BLOCKS
    both = timed(setting(), meter=meter, a=FakeClient("a", []), b=FakeClient("b", []))
    assert [both.timing(name).retimed for name in "ab"] == [{}, {}]


def test_a_variant_that_fails_when_it_is_timed_again_has_failed() -> None:
    meter = FakeMeter(lambda number: BUSY)
    repeat = timed(setting(), meter=meter, a=FakeClient("a", [], fails_at=2 + BLOCKS + 3), b=FakeClient("b", []))
    assert repeat.failed == {"a": KILLED}
    assert repeat.timing("b").retimed == {"1": BLOCKS}


class Own:
    """Counts a second of the CPUs for each block, of the worker whose block it is."""

    def __init__(self) -> None:
        self.own_s = {"a": 0.0, "b": 0.0}
        self.ended_s = 0.0

    def settle(self) -> None: ...

    def read(self) -> Reading:
        total = sum(self.own_s.values()) + self.ended_s
        return Reading(total, 2, total, 0.0, {ord(name): seconds for name, seconds in self.own_s.items()})


class Working(FakeClient):
    def __init__(self, name: str, meter: Own, fails_at: int | None = None) -> None:
        super().__init__(name, [], fails_at=fails_at)
        self.meter = meter

    def ask(self, verb: str, arguments: Any, kind: type) -> Any:
        self.meter.own_s[self.name] += verb == "block"
        return super().ask(verb, arguments, kind)

    def close(self) -> None:
        self.meter.ended_s += self.meter.own_s.pop(self.name)


def test_a_worker_that_dies_is_nobody_else() -> None:
    """What it used until then, and in the block in which it died, is gone with its process."""
    meter = Own()
    repeat = timed(setting(), meter=meter, a=Working("a", meter, fails_at=2 + 6), b=Working("b", meter))
    assert repeat.failed == {"a": KILLED} and meter.ended_s == 6
    assert repeat.timing("b").window == {"1": CpuUse(BLOCKS, 2, BLOCKS, BLOCKS, 0.0, None)}


def test_all_variants_may_fail() -> None:
    repeat = timed(setting(), a=FakeClient("a", [], fails_at=1), b=FakeClient("b", [], fails_at=3))
    assert set(repeat.failed) == {"a", "b"}


def test_no_variants_make_no_results() -> None:
    assert list(interleave.samples([timed(setting())])) == []


def test_samples_list_every_call_and_part_of_one_with_its_block() -> None:
    class Split(FakeClient):
        def block(self, order: Any) -> Block:
            return Block(super().block(order).ms | {"compute": [0.75]})

    repeat = timed(setting(sizes=(1, 8)), a=Split("a", [], ms=1.25))
    rows = list(interleave.samples([repeat, repeat]))
    assert len(rows) == 2 * 2 * (2 * 20 + BLOCKS)
    assert rows[0] == ("a", 1, "latency", 0, 0, 1.25)
    assert ("a", 8, "compute", 1, 9, 0.75) in rows
    assert {repeat for _, _, _, repeat, _, _ in rows} == {0, 1}
    assert {block for _, _, _, _, block, _ in rows} == set(range(BLOCKS))


def test_a_variant_that_fails_in_a_later_repeat_has_failed() -> None:
    repeats = [timed(setting(), a=FakeClient("a", [])), timed(setting(), a=FakeClient("a", [], fails_at=3))]
    assert interleave.of_variant("a", repeats) == VariantTiming(Status("failed", KILLED))


def test_each_repeat_has_another_order() -> None:
    orders = []
    for seed in (0, 1):
        log: list[tuple[str, Any]] = []
        clients = {name: FakeClient(name, log) for name in "abcd"}
        Repeat(clients, setting(), PREPARED, None, seed).run()  # type: ignore[arg-type]
        orders.append([name for name, (verb, _) in log if verb == "block"])
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


# The stage.

NO_SAMPLES = "variant,batch_size,term,repeat,block,ms\n"


def write_manifest(name: str, status: Status) -> None:
    codec.write(Manifest(Variant.parse(name), status, {}), folder(name) / MANIFEST)


@pytest.fixture
def two(checkout: Path, edit: Callable[..., None]) -> None:
    """Two variants, of which only TFLite's has a model, and that is none."""
    edit(("variants", ["tftrt-fp32", "tflite-fp32"]))
    codec.write(TINY, MODEL)
    write_manifest("tftrt-fp32", Status("skipped", "no NVIDIA GPU"))
    write_manifest("tflite-fp32", OK)
    (folder("tflite-fp32") / "model.tflite").write_bytes(b"no model")


def test_main_without_any_model_writes_empty_results(two: None) -> None:
    write_manifest("tflite-fp32", Status("failed", "no memory"))
    benchmark.main()
    assert codec.read(Timing, TIMING) == Timing(BLOCKS, {}, max_foreign_cpu=0.05)


def test_main_passes_over_a_variant_whose_conversion_was_ended(two: None) -> None:
    (folder("tftrt-fp32") / MANIFEST).unlink()
    refused(benchmark.main)
    assert list(codec.read(Timing, TIMING).variants) == ["tflite-fp32"]


def test_main_leaves_a_record_whatever_ends_it(two: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> None:
        assert of_tflite().reason == benchmark.ENDED
        raise RuntimeError("the driver is gone")

    def of_tflite() -> Status:
        return codec.read(Timing, TIMING).variants["tflite-fp32"].status

    monkeypatch.setattr(interleave, "measure", killed)
    with pytest.raises(RuntimeError):
        benchmark.main()
    assert of_tflite() == Status("failed", "RuntimeError: the driver is gone")
    assert SAMPLES.read_text() == NO_SAMPLES


def test_main_writes_the_reason_of_a_real_worker_that_cannot_load(two: None) -> None:
    error = refused(benchmark.main)
    assert error.code == "not-timed"
    (name,), (timing,) = zip(*codec.read(Timing, TIMING).variants.items(), strict=True)
    assert (name, timing.repeats, timing.status.state) == ("tflite-fp32", (), "failed")
    assert str(timing.status.reason).startswith("ValueError: ")
    assert str(error) == f"tflite-fp32 could not be timed: {timing.status.reason}"
    assert SAMPLES.read_text() == NO_SAMPLES


def test_what_a_cluster_timed_is_adopted_and_what_it_lost_is_a_failure(two: None) -> None:
    record = Timing(BLOCKS, {"tflite-fp32": VariantTiming(OK)})
    adopt.write(adopt.Sweep("ray", "T4", dict.fromkeys(variants()), "digest", {}))
    with kept.Kept("T4").keeping(adopt.BENCHMARK, "key") as place:
        codec.write(record, place / TIMING)
    benchmark.main()
    assert codec.read(Timing, TIMING) == record
    lost = {adopt.BENCHMARK: "its worker was lost"}
    adopt.write(adopt.Sweep("ray", "T4", dict.fromkeys(variants()), "digest", lost))
    assert refused(benchmark.main).code == "not-timed"
    failed = VariantTiming(Status("failed", "its worker was lost"))
    assert codec.read(Timing, TIMING) == Timing(BLOCKS, {"tflite-fp32": failed})
    assert SAMPLES.read_text() == NO_SAMPLES
