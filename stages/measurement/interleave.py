"""Time all variants in one run, interleaved, each in a process of its own: latencies compare only within one run."""

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import TypeVar

from tqdm import tqdm

from stages.contracts import codec, timing
from stages.contracts.conversion import MANIFEST, Manifest
from stages.contracts.conversion import folder as model_folder
from stages.contracts.messages import BatchOrder, Block, BlockOrder, Loaded, LoadOrder
from stages.contracts.model import MODEL, ModelRecord
from stages.contracts.preprocessing import Preprocessing
from stages.contracts.status import OK, Status
from stages.contracts.timing import TERMS, GpuState, GpuWatch, Memory, RepeatTiming, Timing, VariantTiming, WarmUp
from stages.contracts.variant import Variant
from stages.core.errors import PipelineError
from stages.core.gpu import Gpu, first_gpu
from stages.measurement import quiet
from stages.measurement.quiet import Meter, Seen, Watch
from stages.params.measurement import BenchmarkParams
from stages.runtimes.client import Client

# Every latency is made of at least this many blocks, spread over the whole run, so that drift hits all variants alike.
BLOCKS = 10
# One call that is faster than in the warm-up would otherwise cost all variants another round.
MARGIN = 1.05

Result = TypeVar("Result")


class Repeat:
    """One timing of all variants; a variant that fails is dropped with its reason, and the others go on."""

    def __init__(
        self,
        clients: Mapping[str, Client],
        setting: BenchmarkParams,
        preprocessing: Preprocessing,
        gpu: Gpu | None,
        seed: int = 0,
        meter: Meter | None = None,
    ) -> None:
        """All variants take part at first; `gpu` and `meter` are read between the calls, never during one."""
        self._clients = clients
        self._setting = setting
        self._preprocessing = preprocessing
        self._gpu = gpu
        self._other_processes = gpu.processes() if gpu else None  # no worker has touched the GPU yet
        self._random = random.Random(seed)
        self._load_ms: dict[str, float] = {}
        self._memory: dict[str, Memory] = {}
        self._warm: dict[tuple[str, int], WarmUp] = {}
        self._gpu_bytes: dict[str, int] = {}
        self._gpu_states: dict[str, list[GpuState]] = defaultdict(list)
        self._watch = Watch(meter, setting.max_foreign_cpu)
        self.failed: dict[str, str] = {}
        self.blocks: dict[tuple[str, int, str], list[list[float]]] = defaultdict(list)

    def run(self) -> None:
        """Load one after the other, time one batch size after the other, and read memory last."""
        self._each(self._load)
        for batch_size in self._setting.batch_sizes:
            self._each(partial(self._warm_up, batch_size))
            self._interleave(batch_size)
            for _ in range(self._setting.retries):
                self._retime(batch_size)
                self._interleave(batch_size)  # a quiet block is shorter, so that calls may be missing
            self._each(partial(self._prove, batch_size))
        self._each(self._read_memory)
        self._other_processes = self._others()

    def timing(self, name: str) -> RepeatTiming:
        """What was seen of a variant that did not fail, but for its calls."""
        sizes = self._setting.batch_sizes
        return RepeatTiming(
            self._load_ms[name],
            self._memory[name],
            {str(size): self._warm[name, size] for size in sizes},
            self._gpu_watch(name),
            self._watch.seen(name, sizes),
            self._watch.windows(self._going(), sizes),
            self._watch.retimed(name, sizes),
        )

    def times(self, name: str, batch_size: int, term: str) -> list[float]:
        """All calls of one variant, in the order they were made."""
        return [ms for block in self.blocks[name, batch_size, term] for ms in block]

    def _gpu_watch(self, name: str) -> GpuWatch | None:
        """None for a variant on the CPU, and where no GPU tells."""
        if self._gpu is None or not self._memory[name].on_gpu:
            return None
        grown = self._gpu_bytes.get(name)
        own = None if grown is not None and grown < 0 else grown  # another process has freed more
        return GpuWatch(own, self._other_processes, tuple(self._gpu_states[name]))

    def _others(self) -> int | None:
        """Processes on the GPU that are not ours; None where NVML does not even see ours, and so may miss others."""
        own = sum(self._memory[name].on_gpu for name in self._going())
        seen = self._gpu.processes() if self._gpu else None
        if seen is None or seen < own:
            return self._other_processes or None
        return max(self._other_processes or 0, seen - own)

    def _load(self, name: str) -> None:
        order = LoadOrder(str(model_folder(name)), self._setting.threads, self._preprocessing)
        self._load_ms[name] = self._ask(name, "load", order, Loaded).load_ms

    def _warm_up(self, batch_size: int, name: str) -> None:
        self._warm[name, batch_size] = self._ask(name, "warm_up", BatchOrder(batch_size), WarmUp)

    def _prove(self, batch_size: int, name: str) -> None:
        self._ask(name, "prove", BatchOrder(batch_size), type(None))

    def _read_memory(self, name: str) -> None:
        self._memory[name] = self._ask(name, "memory", None, Memory)

    def _interleave(self, batch_size: int) -> None:
        """Rounds in which every variant has one block, in random order, until each has enough calls and seconds."""
        self._watch.settle()
        rounds = 0
        while not all(self._enough(name, batch_size) for name in self._going()):
            rounds += 1
            blocks = [(name, partial(self._measure, batch_size)) for name in self._going()]
            self._in_random_order(blocks, f"batch {batch_size}, round {rounds}")

    def _in_random_order(self, blocks: Sequence[tuple[str, Callable[[str], None]]], title: str) -> None:
        """All blocks of these variants, but of those that fail meanwhile."""
        order = self._random.sample(blocks, len(blocks))
        for name, measure in tqdm(order, title, unit="block", leave=False, disable=None):
            if name not in self.failed:
                self._try(name, measure)

    def _measure(self, batch_size: int, name: str) -> None:
        ms, seen = self._block(batch_size, name)
        for term, times in ms.items():
            self.blocks[name, batch_size, term].append(times)
        self._watch.add((name, batch_size), seen)

    def _retime(self, batch_size: int) -> None:
        """Once more each block in which others took too much of the CPUs."""
        blocks = [
            (name, partial(self._again, batch_size, index))
            for name in self._going()
            for index in self._watch.disturbed((name, batch_size))
        ]
        self._in_random_order(blocks, f"batch {batch_size}, again")

    def _again(self, batch_size: int, index: int, name: str) -> None:
        """The quieter one stays, however long its calls took."""
        ms, seen = self._block(batch_size, name)
        if self._watch.replace((name, batch_size), index, seen):
            for term, times in ms.items():
                self.blocks[name, batch_size, term][index] = times

    def _block(self, batch_size: int, name: str) -> tuple[dict[str, list[float]], Seen | None]:
        """Milliseconds by term, and who used the CPUs meanwhile."""
        calls = {term: self._calls(ms) for term, ms in self._warm[name, batch_size].call_ms.items()}
        block, seen = self._watch.around(partial(self._ask, name, "block", BlockOrder(batch_size, calls), Block))
        if self._gpu:
            self._gpu_states[name].append(GpuState(**asdict(self._gpu.state())))
        return block.ms, seen

    def _calls(self, call_ms: float) -> int:
        """How many calls a block needs, if a call takes as long as in the warm-up or is a little faster."""
        return math.ceil(max(self._setting.min_samples, MARGIN * self._setting.min_seconds * 1000 / call_ms) / BLOCKS)

    def _enough(self, name: str, batch_size: int) -> bool:
        if len(self.blocks[name, batch_size, TERMS[0]]) < BLOCKS:
            return False
        spans = [self.times(name, batch_size, term) for term in TERMS]
        return all(
            len(times) >= self._setting.min_samples and sum(times) >= self._setting.min_seconds * 1000
            for times in spans
        )

    def _going(self) -> list[str]:
        return [name for name in self._clients if name not in self.failed]

    def _ask(self, name: str, verb: str, arguments: object, kind: type[Result]) -> Result:
        """The worker's answer. Only one works at a time, so what GPU memory grows meanwhile is its own."""
        before = self._gpu.used_bytes() if self._gpu else None
        answer = self._clients[name].ask(verb, arguments, kind)
        after = self._gpu.used_bytes() if self._gpu else None
        if before is not None and after is not None:
            self._gpu_bytes[name] = self._gpu_bytes.get(name, 0) + after - before
        return answer

    def _each(self, action: Callable[[str], None]) -> None:
        for name in self._going():
            self._try(name, action)

    def _try(self, name: str, action: Callable[[str], None]) -> None:
        try:
            action(name)
        except PipelineError as error:
            self.failed[name] = str(error)
            self._clients[name].close()  # else it would hold its GPU memory, and count as somebody else's process


def measure(names: Sequence[str], setting: BenchmarkParams, preprocessing: Preprocessing, seed: int) -> Repeat:
    """Time these variants once, each in a fresh process."""
    with ExitStack() as stack:
        gpu = stack.enter_context(first_gpu())
        clients = {name: stack.enter_context(Client(Variant.parse(name).edition)) for name in names}
        for client in clients.values():
            client.wait()  # one that still starts would slow down the loading of another
        repeat = Repeat(clients, setting, preprocessing, gpu, seed, quiet.meter())
        repeat.run()
    return repeat


def ready(names: Sequence[str]) -> list[str]:
    """Those of the variants that have a model; one whose conversion was ended has not even a manifest."""
    manifests = {name: model_folder(name) / MANIFEST for name in names}
    return [name for name, path in manifests.items() if path.exists() and codec.read(Manifest, path).status.ok]


def run(names: Sequence[str], setting: BenchmarkParams) -> Timing:
    """Time these variants, and write benchmark.json and samples.csv."""
    preprocessing = codec.read(ModelRecord, MODEL).preprocessing
    repeats: list[Repeat] = []
    for seed in range(setting.repeats):
        failed = {name for repeat in repeats for name in repeat.failed}
        going = [name for name in names if name not in failed]
        repeats.append(measure(going, setting, preprocessing, seed))
    return _write(repeats, {name: of_variant(name, repeats) for name in names}, setting.max_foreign_cpu)


def of_variant(name: str, repeats: Sequence[Repeat]) -> VariantTiming:
    """All repeats of a variant, or why one of them failed."""
    reason = next((repeat.failed[name] for repeat in repeats if name in repeat.failed), None)
    if reason:
        return VariantTiming(Status("failed", reason))
    return VariantTiming(OK, tuple(repeat.timing(name) for repeat in repeats))


def samples(repeats: Sequence[Repeat]) -> Iterator[timing.Sample]:
    """Every timed call and part of one: variant, batch size, term, repeat, its block's round, milliseconds."""
    for number, repeat in enumerate(repeats):
        for (name, batch_size, term), blocks in repeat.blocks.items():
            for index, block in enumerate(blocks):
                yield from ((name, batch_size, term, number, index, ms) for ms in block)


def record_failure(names: Sequence[str], reason: str) -> Timing:
    """Write the same where all that is known is why nothing was timed."""
    return _write([], {name: VariantTiming(Status("failed", reason)) for name in names})


def _write(
    repeats: Sequence[Repeat], variants: dict[str, VariantTiming], max_foreign_cpu: float | None = None
) -> Timing:
    record = Timing(BLOCKS, variants, max_foreign_cpu)
    timing.write_samples(samples(repeats))
    codec.write(record, timing.TIMING)
    return record


def failures(record: Timing) -> list[str]:
    """Which variants could not be timed, and why."""
    reasons = {name: timed.status.reason for name, timed in record.variants.items()}
    return [f"{name} could not be timed: {reason}" for name, reason in reasons.items() if reason]
