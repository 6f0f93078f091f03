"""A wall around this process and what it starts: it writes in given folders alone, and reaches no network.

Linux keeps it: Landlock for files and signals, seccomp for sockets. That needs no rights of an administrator, and
nothing takes it down again.
"""

import ctypes
import errno
import os
import platform
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .errors import PipelineError

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_FILTER = 38, 22, 2
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
PATH_BENEATH, ASK_VERSION = 1, 1
# Of linux/landlock.h: write, remove a folder, remove a file, make one of each kind, and make a link.
WRITES = 1 << 1 | sum(1 << bit for bit in range(4, 13))
# Since which version of Landlock: move between folders, cut off, and let no signal out of the wall.
REFER, TRUNCATE, SCOPES = (2, 1 << 13), (3, 1 << 14), (6, 1 << 0 | 1 << 1)
# Of a file, rather than a folder, only these can be allowed.
OF_FILES = 1 << 1 | TRUNCATE[1]
# Where a process names its threads, which CUDA does first of all.
THREADS = Path("/proc/self/task")
# Devices that a computation needs: without them no GPU, no shared memory and no `/dev/null`.
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "shm", "dri", "dxg", "kfd", "nvidia*")


class Calls(NamedTuple):
    """Numbers of system calls of a kind of processor, and its own number, by linux/audit.h."""

    audit: int
    socket: int
    connect: int
    io_uring_setup: int = 425


MACHINES = {"x86_64": Calls(0xC000003E, 41, 42), "aarch64": Calls(0xC00000B7, 198, 203)}
# Of linux/filter.h and seccomp.h: load a word, keep some bits, jump if equal or not less, return; allow, or answer
# EACCES.
LOAD, AND, EQUAL, AT_LEAST, RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EACCES
# x86-64 has calls with 32-bit pointers under these numbers too.
X32 = 0x40000000


def missing() -> tuple[str, ...]:
    """What this system cannot keep a process from."""
    version = _version()
    files = "writing files" if version < 1 else "cutting files short" if version < TRUNCATE[0] else ""
    return tuple(filter(None, (files, "" if _filters() else "the network")))


def stand(folders: Sequence[Path]) -> None:
    """Stand the wall, as far as this system can: called first, since a thread that runs already stays outside."""
    if sys.platform != "linux":
        return
    _libc().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if _version() >= 1:
        _restrict_files(folders)
    if _filters():
        _refuse_sockets(MACHINES[platform.machine()])


def _version() -> int:
    """Of Landlock; 0 or less where the kernel has none, or was started without."""
    if sys.platform != "linux":
        return 0
    return int(_libc().syscall(LANDLOCK_CREATE, None, 0, ASK_VERSION))


def _filters() -> bool:
    """Whether the kernel filters system calls: it then takes no filter at all for a bad address."""
    if sys.platform != "linux" or platform.machine() not in MACHINES:
        return False
    refused = int(_libc().prctl(PR_SET_SECCOMP, SECCOMP_FILTER, None, 0, 0)) < 0
    return refused and ctypes.get_errno() == errno.EFAULT


def _restrict_files(folders: Sequence[Path]) -> None:
    version = _version()
    rights = WRITES | sum(bit for since, bit in (REFER, TRUNCATE) if version >= since)
    scopes = SCOPES[1] if version >= SCOPES[0] else 0
    # An older kernel takes a longer structure than it knows if the rest is zero.
    rules = _done(_libc().syscall(LANDLOCK_CREATE, struct.pack("=QQQ", rights, 0, scopes), 24, 0))
    devices = [found for name in DEVICES for found in Path("/dev").glob(name)]
    for place in (*folders, THREADS, *devices):
        _allow(rules, place, rights)
    _done(_libc().syscall(LANDLOCK_RESTRICT, rules, 0))
    os.close(rules)


def _allow(rules: int, place: Path, rights: int) -> None:
    descriptor = os.open(place, os.O_PATH | os.O_CLOEXEC)
    granted = rights if place.is_dir() else rights & OF_FILES
    rule = struct.pack("=Qi", granted, descriptor)
    _done(_libc().syscall(LANDLOCK_ADD, rules, PATH_BENEATH, rule, 0))
    os.close(descriptor)


def _refuse_sockets(calls: Calls) -> None:
    """No socket but a local one for streams, which CUDA makes and leaves alone; and none is connected to anything."""
    program = [
        (LOAD, 0, 0, 4),
        (EQUAL, 0, 11, calls.audit),
        (LOAD, 0, 0, 0),
        (AT_LEAST, 9, 0, X32),
        (EQUAL, 8, 0, calls.connect),
        (EQUAL, 7, 0, calls.io_uring_setup),
        (EQUAL, 0, 5, calls.socket),
        (LOAD, 0, 0, 16),
        (EQUAL, 0, 4, socket.AF_UNIX),
        (LOAD, 0, 0, 24),
        (AND, 0, 0, 0xF),
        (EQUAL, 1, 0, socket.SOCK_DGRAM),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, REFUSE),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    header = struct.pack("@HP", len(program), ctypes.addressof(code))
    _done(_libc().prctl(PR_SET_SECCOMP, SECCOMP_FILTER, header, 0, 0))


def _done(result: int) -> int:
    if result < 0:
        reason = os.strerror(ctypes.get_errno())
        raise PipelineError(
            f"the process that opens the model cannot be walled in ({reason}): report it, with what `uname -a` prints",
            code="wall",
            reason=reason,
        )
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
