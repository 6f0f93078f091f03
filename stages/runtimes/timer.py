"""Times one loaded model inside its own process, as the benchmark asks; knows nothing of other variants or reports."""

import gc
import math
import re
import resource
import statistics
import time
from collections.abc import Callable
from functools import cache, partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..contracts.preprocessing import Floats, Preprocessing
from ..core import isolate
from . import Manifest
from .contract import PARTS, Session, infer

# What is timed: `run` alone on a settled input tensor, and the whole way from NumPy array to NumPy array.
TERMS = ("latency", "latency_host")
# One inference in so many is split into copies and compute.
CALLS_PER_SPLIT = 20
# Warm-up: windows of calls until one more moves the median of all by less than 2 %, or time is up.
WINDOW_CALLS = 5
STABLE = 0.02
MAX_WARMUP_MS = 2000


@cache
def images_of(batch_size: int, preprocessing: Preprocessing) -> Floats:
    """The same pixels for every variant; what they show does not matter to the time."""
    return preprocessing.noise(batch_size)


class Stopwatch:
    """Lives in the worker process: one loaded model, asked for load, warm-up, blocks and memory."""

    def __init__(self, load: Callable[[], Session], preprocessing: Preprocessing) -> None:
        """Load the model; `load_ms` covers the import of its library too, as a fresh process pays for both."""
        gc.disable()
        self._preprocessing = preprocessing
        start = time.perf_counter()
        self.session = load()
        self.load_ms = _ms_since(start)

    def warm_up(self, batch_size: int) -> dict[str, Any]:
        """First call at this batch size, then windows of calls until the median of each term is stable."""
        images = images_of(batch_size, self._preprocessing)
        start = time.perf_counter()
        infer(self.session, images)
        first_ms, stable = _ms_since(start), False
        times: dict[str, list[float]] = {term: [] for term in TERMS}
        medians = dict.fromkeys(TERMS, math.inf)
        start = time.perf_counter()  # the first call may have compiled kernels
        while not stable and (len(times["latency"]) < 2 * WINDOW_CALLS or _ms_since(start) < MAX_WARMUP_MS):
            for term, more in self._times(images, dict.fromkeys(TERMS, WINDOW_CALLS)).items():
                times[term] += more
            before, medians = medians, {term: statistics.median(found) for term, found in times.items()}
            stable = all(abs(medians[term] - before[term]) <= STABLE * medians[term] for term in TERMS)
        return {
            "first_inference_ms": first_ms,
            "warmup_calls": 1 + len(times["latency_host"]),
            "warmup_stable": stable,
            "call_ms": medians,
        }

    def block(self, batch_size: int, calls: dict[str, int]) -> dict[str, list[float]]:
        """Milliseconds of so many calls by term, after one that warms the caches which the last variant left cold."""
        images = images_of(batch_size, self._preprocessing)
        self._call(images)
        return self._times(images, calls) | self._parts(max(calls.values()) // CALLS_PER_SPLIT + 1)

    def _parts(self, count: int) -> dict[str, list[float]]:
        """What the GPU says of so many inferences, apart from the timed calls: its clock is not free to ask."""
        found = [parts for _ in range(count) if (parts := self.session.parts_ms())]
        return {part: [one[part] for one in found] for part in PARTS} if found else {}

    def _times(self, images: Floats, calls: dict[str, int]) -> dict[str, list[float]]:
        """Both terms from the same calls, unless `put` is asynchronous: the end of its copy would count as latency."""
        if self.session.asynchronous:
            host = [self._call(images)[1] for _ in range(calls["latency_host"])]
            return {"latency": [self._run() for _ in range(calls["latency"])], "latency_host": host}
        both = [self._call(images) for _ in range(max(calls.values()))]
        return {"latency": [run for run, _ in both], "latency_host": [whole for _, whole in both]}

    def verify(self, batch_size: int) -> None:
        """Check that what was timed was the converted model."""
        infer(self.session, images_of(batch_size, self._preprocessing))
        self.session.verify()

    def _run(self) -> float:
        start = time.perf_counter()
        self.session.run()
        return _ms_since(start)

    def _call(self, images: Floats) -> tuple[float, float]:
        """Milliseconds of `run` within a call, and of the whole call from NumPy array to NumPy array."""
        session = self.session
        start = time.perf_counter()
        session.put(images)
        placed = time.perf_counter()
        output = session.run()
        done = time.perf_counter()
        session.probabilities(output)
        end = time.perf_counter()
        return (done - placed) * 1000, (end - start) * 1000

    def memory(self) -> dict[str, Any]:
        """Which device computes, most memory this process ever had resident, and most GPU memory its runtime held."""
        return {
            "on_gpu": self.session.on_gpu,
            "peak_memory_bytes": peak_resident_bytes(),
            "gpu_peak_memory_bytes": self.session.gpu_peak_bytes(),
        }


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1000


def peak_resident_bytes() -> int:
    """VmHWM of this process: ru_maxrss would start at what its parent had when it forked."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) * 1024 if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def serve(connection: Connection, variant: str, threads: int | None, preprocessing: Preprocessing) -> None:
    """The worker: the first request loads the model, each later one names a method of Stopwatch and its arguments."""
    watch: Stopwatch | None = None

    def load() -> float:
        nonlocal watch
        watch = Stopwatch(lambda: Manifest.read(variant).load(threads), preprocessing)
        return watch.load_ms

    while True:
        try:
            method, *arguments = connection.recv()
        except EOFError:
            return
        isolate.answer(connection, load if watch is None else partial(getattr(watch, method), *arguments))
