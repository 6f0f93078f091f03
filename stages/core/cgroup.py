"""What a container or a service may use of the CPUs, and how long its quota held it back, by Linux's control groups."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .files import text_of

ROOT = Path("/")
# Where version 2 is mounted, beside version 1 too, and where version 1 has what it counts of the CPUs.
UNIFIED = ("sys/fs/cgroup", "sys/fs/cgroup/unified")
CPU = ("sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct")


def quota_cpus(root: Path = ROOT) -> float | None:
    """CPU seconds for each second, by the smallest quota that holds here; None where there is none."""
    return min((quota for folder in _folders(root) if (quota := _quota(folder))), default=None)


def throttled_s(root: Path = ROOT) -> float | None:
    """Seconds for which quotas held CPUs back so far; None where there is no quota.

    A group counts what its own quota held back, and not what that of a group around it did.
    """
    found = [seconds for folder in _folders(root) if _quota(folder) and (seconds := _throttled(folder)) is not None]
    return sum(found) if found else None


def _folders(root: Path) -> Iterator[Path]:
    """The group of this process and all around it, as far as they are seen from here."""
    for names, path in _groups(root):
        for mount in (root / place for place in (UNIFIED if names == [""] else CPU)):
            inside = mount / path.lstrip("/")
            yield from (folder for folder in (inside, *inside.parents) if folder.is_relative_to(mount))


def _groups(root: Path) -> Iterator[tuple[list[str], str]]:
    """By its controllers where this process is: those of version 2 have no name."""
    for line in (text_of(root / "proc/self/cgroup") or "").splitlines():
        _, names, path = line.split(":", 2)
        if names == "" or "cpu" in names.split(","):
            yield names.split(","), path


def _quota(folder: Path) -> float | None:
    """Of this group alone."""
    text = (
        text_of(folder / "cpu.max") or f"{text_of(folder / 'cpu.cfs_quota_us')} {text_of(folder / 'cpu.cfs_period_us')}"
    )
    with suppress(
        ValueError, ZeroDivisionError
    ):  # `max` where there is none, and no two numbers where there is no file
        quota, period = map(int, text.split())
        return quota / period if quota > 0 else None
    return None


def _throttled(folder: Path) -> float | None:
    """Microseconds in version 2, nanoseconds in version 1."""
    lines = (line.split() for line in (text_of(folder / "cpu.stat") or "").splitlines())
    counts = {line[0]: int(line[1]) for line in lines if len(line) == 2}
    scales = {"throttled_usec": 1e-6, "throttled_time": 1e-9}
    return next((counts[name] * scale for name, scale in scales.items() if name in counts), None)
