"""Times one loaded model inside its own process, as the benchmark asks; knows nothing of other variants or reports."""

import math
import re
import resource
import statistics
import time
from functools import cache
from pathlib import Path

from ..contracts.messages import Block
from ..contracts.preprocessing import Floats, Preprocessing
from ..contracts.timing import PARTS, TERMS, Memory, WarmUp
from .contract import Session, infer

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


class Timer:
    """One loaded model: warm-up, blocks of timed calls, the proof of what was timed, and memory."""

    def __init__(self, session: Session, preprocessing: Preprocessing) -> None:
        """`preprocessing` tells the shape of the model's input."""
        self._session = session
        self._preprocessing = preprocessing

    def warm_up(self, batch_size: int) -> WarmUp:
        """First call at this batch size, then windows of calls until the median of each term is stable."""
        images = images_of(batch_size, self._preprocessing)
        start = time.perf_counter()
        infer(self._session, images)
        first_ms, stable = _ms_since(start), False
        times: dict[str, list[float]] = {term: [] for term in TERMS}
        medians = dict.fromkeys(TERMS, math.inf)
        start = time.perf_counter()  # the first call may have compiled kernels
        while not stable and (len(times["latency"]) < 2 * WINDOW_CALLS or _ms_since(start) < MAX_WARMUP_MS):
            for term, more in self._times(images, dict.fromkeys(TERMS, WINDOW_CALLS)).items():
                times[term] += more
            before, medians = medians, {term: statistics.median(values) for term, values in times.items()}
            stable = all(abs(medians[term] - before[term]) <= STABLE * medians[term] for term in TERMS)
        return WarmUp(first_ms, calls=1 + len(times["latency_host"]), stable=stable, call_ms=medians)

    def block(self, batch_size: int, calls: dict[str, int]) -> Block:
        """So many calls by term, after one that warms the caches which the last variant left cold."""
        images = images_of(batch_size, self._preprocessing)
        self._call(images)
        return Block(self._times(images, calls) | self._parts(max(calls.values()) // CALLS_PER_SPLIT + 1))

    def prove(self, batch_size: int) -> None:
        """PipelineError unless the converted model is what was timed."""
        infer(self._session, images_of(batch_size, self._preprocessing))
        self._session.prove()

    def memory(self) -> Memory:
        """Which device computes, most memory this process ever had resident, and most GPU memory its runtime held."""
        return Memory(self._session.on_gpu, peak_resident_bytes(), self._session.gpu_peak_bytes())

    def _parts(self, count: int) -> dict[str, list[float]]:
        """What the GPU says of so many inferences, apart from the timed calls: its clock is not free to ask."""
        measured = [parts for _ in range(count) if (parts := self._session.parts_ms())]
        return {part: [getattr(parts, part) for parts in measured] for part in PARTS} if measured else {}

    def _times(self, images: Floats, calls: dict[str, int]) -> dict[str, list[float]]:
        """Both terms from the same calls, unless `put` is asynchronous: the end of its copy would count as latency."""
        if self._session.asynchronous:
            host = [self._call(images)[1] for _ in range(calls["latency_host"])]
            return {"latency": [self._run() for _ in range(calls["latency"])], "latency_host": host}
        both = [self._call(images) for _ in range(max(calls.values()))]
        return {"latency": [run for run, _ in both], "latency_host": [whole for _, whole in both]}

    def _run(self) -> float:
        start = time.perf_counter()
        self._session.run()
        return _ms_since(start)

    def _call(self, images: Floats) -> tuple[float, float]:
        """Milliseconds of `run` within a call, and of the whole call from NumPy array to NumPy array."""
        session = self._session
        start = time.perf_counter()
        session.put(images)
        placed = time.perf_counter()
        output = session.run()
        done = time.perf_counter()
        session.probabilities(output)
        end = time.perf_counter()
        return (done - placed) * 1000, (end - start) * 1000


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1000


def peak_resident_bytes() -> int:
    """VmHWM of this process: ru_maxrss would start at what its parent had when it forked."""
    status = Path("/proc/self/status")
    peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(peak[1]) * 1024 if peak else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
