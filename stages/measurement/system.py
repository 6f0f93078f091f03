"""Watches what the machine does while a stage works, once a second: never while calls are timed."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from stages.contracts import system
from stages.contracts.system import Sample
from stages.core.gpu import Gpu, first_gpu

PERIOD_S = 1.0


@contextmanager
def watched(path: Path) -> Iterator[None]:
    """Sample until the block ends, in a thread, and write the samples to `path` however it ends."""
    samples: list[Sample] = []
    done = threading.Event()

    def sample() -> None:
        # Ctrl-C is for the main thread, also while that one blocks it to start a process.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        with first_gpu() as gpu:
            psutil.cpu_percent()  # it tells the share since the last call
            while not done.wait(PERIOD_S):
                samples.append(_now(gpu))
            samples.append(_now(gpu))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        system.write(samples, path)


def _now(gpu: Gpu | None) -> Sample:
    used = gpu.used_bytes() if gpu else None
    return Sample(
        time_ms=int(time.time() * 1000),
        cpu_utilization_percentage=psutil.cpu_percent(),
        system_memory_usage_megabytes=psutil.virtual_memory().used / 1e6,
        gpu_0_utilization_percentage=gpu.utilization_percentage() if gpu else None,
        gpu_0_memory_usage_megabytes=None if used is None else used / 1e6,
        gpu_0_power_usage_watts=gpu.state().power_w if gpu else None,
    )
