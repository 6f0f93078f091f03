"""Time all variants in one run, interleaved, each in a process of its own: latencies compare only within one run."""

import math
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import Any

from tqdm import tqdm

from stages.contracts import paths
from stages.contracts.preprocessing import Preprocessing
from stages.core import files
from stages.core.errors import PipelineError
from stages.core.gpu import Gpu, State, first_gpu
from stages.core.isolate import Worker
from stages.params.document import BenchmarkParams
from stages.runtimes import Manifest, timer
from stages.runtimes.contract import PARTS
from stages.runtimes.timer import TERMS
from stages.statistics.latency import Latency

# Every latency is made of at least this many blocks, spread over the whole run, so that drift hits all variants alike.
BLOCKS = 10
# One call that is faster than in the warm-up would otherwise cost all variants another round.
MARGIN = 1.05


class Repeat:
    """One timing of all variants; a variant that fails is dropped with its reason, and the others go on."""

    def __init__(self, workers: dict[str, Worker], setting: BenchmarkParams, gpu: Gpu | None, seed: int = 0) -> None:
        """Start with every variant in the race; `gpu` is watched between the calls, never during one."""
        self._workers = workers
        self._setting = setting
        self._gpu = gpu
        self._other_processes = gpu.processes() if gpu else None  # no worker has touched the GPU yet
        self._random = random.Random(seed)
        self.failed: dict[str, str] = {}
        self.loaded: dict[str, dict[str, Any]] = {}
        self.warm: dict[tuple[str, int], dict[str, Any]] = {}
        self.blocks: dict[tuple[str, int, str], list[list[float]]] = defaultdict(list)
        self.gpu_bytes: dict[str, int] = {}
        self.gpu_states: dict[str, list[State]] = defaultdict(list)

    def run(self) -> None:
        """Load one after the other, time one batch size after the other, and read memory last."""
        self._each(self._load)
        for batch_size in self._setting.batch_sizes:
            self._each(partial(self._warm_up, batch_size))
            self._interleave(batch_size)
            self._each(partial(self._verify, batch_size))
        self._each(self._read_memory)
        self._other_processes = self._others()

    def _others(self) -> int | None:
        """Processes on the GPU that are not ours; None where NVML does not even see ours, and so may miss others."""
        own = sum(bool(self.loaded[name]["on_gpu"]) for name in self._racing())
        seen = self._gpu.processes() if self._gpu else None
        if seen is None or seen < own:
            return self._other_processes or None
        return max(self._other_processes or 0, seen - own)

    def _load(self, name: str) -> None:
        self.loaded[name] = {"load_ms": self._ask(name, "load")}

    def _warm_up(self, batch_size: int, name: str) -> None:
        self.warm[name, batch_size] = self._ask(name, "warm_up", batch_size)

    def _verify(self, batch_size: int, name: str) -> None:
        self._ask(name, "verify", batch_size)

    def _read_memory(self, name: str) -> None:
        self.loaded[name] |= self._ask(name, "memory")

    def _interleave(self, batch_size: int) -> None:
        """Rounds in which every variant has one block, in random order, until each has enough calls and seconds."""
        rounds = 0
        while rounds < BLOCKS or not all(self._enough(name, batch_size) for name in self._racing()):
            names = self._racing()
            self._random.shuffle(names)
            for name in tqdm(names, f"batch {batch_size}, round {rounds + 1}", unit="block", leave=False, disable=None):
                self._try(name, partial(self._measure, batch_size))
            rounds += 1

    def _measure(self, batch_size: int, name: str) -> None:
        calls = {term: self._calls(ms) for term, ms in self.warm[name, batch_size]["call_ms"].items()}
        for term, times in self._ask(name, "block", batch_size, calls).items():
            self.blocks[name, batch_size, term].append(times)
        if self._gpu:
            self.gpu_states[name].append(self._gpu.state())

    def _calls(self, call_ms: float) -> int:
        """How many calls a block needs, if a call takes as long as in the warm-up or is a little faster."""
        return math.ceil(max(self._setting.min_samples, MARGIN * self._setting.min_seconds * 1000 / call_ms) / BLOCKS)

    def _enough(self, name: str, batch_size: int) -> bool:
        spans = [self.times(name, batch_size, term) for term in TERMS]
        return all(
            len(times) >= self._setting.min_samples and sum(times) >= self._setting.min_seconds * 1000
            for times in spans
        )

    def times(self, name: str, batch_size: int, term: str) -> list[float]:
        """All calls of one variant, in the order they were made."""
        return [ms for block in self.blocks[name, batch_size, term] for ms in block]

    def _racing(self) -> list[str]:
        return [name for name in self._workers if name not in self.failed]

    def _ask(self, name: str, *request: Any) -> Any:
        """The worker's answer. Only one works at a time, so what GPU memory grows meanwhile is its own."""
        before = self._gpu.used_bytes() if self._gpu else None
        answer = self._workers[name].ask(request)
        after = self._gpu.used_bytes() if self._gpu else None
        if before is not None and after is not None:
            self.gpu_bytes[name] = self.gpu_bytes.get(name, 0) + after - before
        return answer

    def _each(self, action: Callable[[str], None]) -> None:
        for name in self._racing():
            self._try(name, action)

    def _try(self, name: str, action: Callable[[str], None]) -> None:
        try:
            action(name)
        except PipelineError as error:
            self.failed[name] = str(error)
            self._workers[name].close()  # else it would hold its GPU memory, and count as somebody else's process

    def gpu_record(self, name: str) -> dict[str, Any] | None:
        """Memory of the process by NVML, and the state of the GPU after each block; null for a variant on the CPU."""
        if self._gpu is None or not self.loaded[name]["on_gpu"]:
            return None
        return {
            "process_memory_bytes": self.gpu_bytes.get(name),
            "other_processes": self._other_processes,
            "states": [asdict(state) for state in self.gpu_states[name]],
        }


def record(name: str, repeats: Sequence[Repeat], batch_sizes: Sequence[int]) -> dict[str, Any]:
    """The record of one variant: calls of all repeats, the first one's load and first calls, the largest memory."""
    reason = next((repeat.failed[name] for repeat in repeats if name in repeat.failed), None)
    if reason:
        return {"status": "failed", "reason": reason}
    memory = [repeat.loaded[name] for repeat in repeats]
    batches = {
        str(size): repeats[0].warm[name, size]
        | {
            term: asdict(Latency.from_repeats([repeat.blocks[name, size, term] for repeat in repeats], size))
            for term in TERMS
        }
        | {"parts_ms": parts(name, repeats, size)}
        for size in batch_sizes
    }
    return {
        "status": "ok",
        "reason": None,
        "load_ms": memory[0]["load_ms"],
        "on_gpu": memory[0]["on_gpu"],
        "peak_memory_bytes": max(found["peak_memory_bytes"] for found in memory),
        "gpu_peak_memory_bytes": _largest([found["gpu_peak_memory_bytes"] for found in memory]),
        "gpu": _joined([repeat.gpu_record(name) for repeat in repeats]),
        "batches": batches,
    }


def parts(name: str, repeats: Sequence[Repeat], batch_size: int) -> dict[str, float] | None:
    """Median milliseconds of the copies and of the compute inside `latency_host`, where the GPU's clock tells them."""
    found = {part: [ms for repeat in repeats for ms in repeat.times(name, batch_size, part)] for part in PARTS}
    return {part: statistics.median(times) for part, times in found.items()} if all(found.values()) else None


def _joined(gpus: Sequence[dict[str, Any] | None]) -> dict[str, Any] | None:
    """The states of all repeats, and the largest of the other values: unknown, rather than 0, if one count is."""
    found = [gpu for gpu in gpus if gpu]
    if not found:
        return None
    others = [gpu["other_processes"] for gpu in found]
    return {
        "process_memory_bytes": _largest([gpu["process_memory_bytes"] for gpu in found]),
        "other_processes": _largest(others) or (None if None in others else 0),
        "states": [state for gpu in found for state in gpu["states"]],
    }


def _largest(values: Sequence[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def samples(repeats: Sequence[Repeat]) -> Iterator[tuple[str, int, str, int, int, str]]:
    """Every timed call and part of one: variant, batch size, term, repeat, its block's round, milliseconds."""
    for number, repeat in enumerate(repeats):
        for (name, batch_size, term), blocks in repeat.blocks.items():
            for index, block in enumerate(blocks):
                yield from ((name, batch_size, term, number, index, f"{ms:.6g}") for ms in block)


def measure(names: Sequence[str], setting: BenchmarkParams, preprocessing: Preprocessing, seed: int) -> Repeat:
    """Time these variants once, each in a fresh process."""
    with ExitStack() as stack:
        gpu = stack.enter_context(first_gpu())
        workers = {
            name: stack.enter_context(Worker(timer.serve, name, setting.threads, preprocessing)) for name in names
        }
        repeat = Repeat(workers, setting, gpu, seed)
        repeat.run()
    return repeat


def ready(names: Sequence[str]) -> list[str]:
    """Those of the variants that have a model."""
    return [name for name in names if Manifest.read(name).status == "ok"]


def run(names: Sequence[str], setting: BenchmarkParams) -> list[str]:
    """Time these variants, and write benchmark.json and samples.csv; which ones failed, and why."""
    preprocessing = Preprocessing.from_json(files.read_json(paths.MODEL)["preprocessing"])
    repeats: list[Repeat] = []
    for seed in range(setting.repeats):
        going = [name for name in names if not any(name in repeat.failed for repeat in repeats)]
        repeats.append(measure(going, setting, preprocessing, seed))
    return _write(repeats, {name: record(name, repeats, setting.batch_sizes) for name in names})


def lost(names: Sequence[str], reason: str) -> list[str]:
    """Write the same where all that is known is why nothing was timed."""
    return _write([], {name: {"status": "failed", "reason": reason} for name in names})


def _write(repeats: Sequence[Repeat], results: dict[str, dict[str, Any]]) -> list[str]:
    files.write_csv(paths.SAMPLES, ("variant", "batch_size", "term", "repeat", "block", "ms"), samples(repeats))
    files.write_json(paths.BENCHMARK, {"blocks": BLOCKS, "repeats": len(repeats), "variants": results})
    return failures()


def failures() -> list[str]:
    """Which variants benchmark.json says could not be timed, and why."""
    found = files.read_json(paths.BENCHMARK)["variants"]
    return [f"{name} could not be timed: {timed['reason']}" for name, timed in found.items() if timed["reason"]]
