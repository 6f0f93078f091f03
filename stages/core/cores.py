"""How many cores there are to work with."""

import os


def allowed() -> frozenset[int]:
    """Numbers of those that this process may use, which on Linux can be fewer than there are (taskset, a container)."""
    found = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return frozenset(found)


def cores() -> int:
    """How many these are."""
    return len(allowed())
