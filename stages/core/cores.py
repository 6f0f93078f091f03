"""How many cores there are to work with."""

import os


def cores() -> int:
    """Those that this process may use, which on Linux can be fewer than the machine has (taskset, a container)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
