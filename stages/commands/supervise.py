"""Runs a command of which nothing is left afterwards, however it ends: by itself, by Ctrl-C, or by a signal."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

import psutil

from stages.core import process
from stages.core.process import GRACE_S, SUPERVISOR

# What `timeout`, systemd and CI send, and what a terminal sends that is closed. Ctrl-C is an exception by itself.
STOPS = (signal.SIGTERM, signal.SIGHUP)
Handler = Callable[[int, FrameType | None], None] | signal.Handlers


@contextmanager
def started(command: Sequence[str], environment: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """The running command; when the block ends, so have all processes that it started.

    A signal that asks to stop is KeyboardInterrupt in the block, as Ctrl-C is.
    """
    if "MAKELEVEL" in os.environ:
        process.stop_with_parent()  # of make alone: a shell may well be left before the command ends
    told = {**environment, SUPERVISOR: str(os.getpid())}
    with process.orphans_adopted(), _signals(STOPS, _interrupt):
        others = set(psutil.Process().children(recursive=True))
        work = None
        try:
            work = running = subprocess.Popen(command, env=told, preexec_fn=_begin)
            with _signals([signal.SIGTSTP], lambda *_: _pause(running.pid)):
                yield running
        finally:
            # A second Ctrl-C changes nothing: it takes seconds.
            with _signals([*STOPS, signal.SIGINT], signal.SIG_IGN):
                _end(work, others)


def _begin() -> None:
    """In the new process: a group of its own, which a terminal's Ctrl-C does not reach. It hears of that from us."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background job would ignore it, and so would all stages
    process.end_with_parent()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _pause(group: int) -> None:
    """Ctrl-Z: the whole run rests until this process goes on."""
    os.killpg(group, signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGSTOP)
    os.killpg(group, signal.SIGCONT)


@contextmanager
def _signals(numbers: Sequence[signal.Signals], handler: Handler) -> Iterator[None]:
    """For so long these signals do that, but those that are ignored, as `nohup` has it."""
    before = {number: signal.getsignal(number) for number in numbers}
    heeded = {number: old for number, old in before.items() if old is not signal.SIG_IGN}
    for number in heeded:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in heeded.items():
            signal.signal(number, old)


def _end(work: "subprocess.Popen[bytes] | None", others: set[psutil.Process]) -> None:
    """End what is left: each as by Ctrl-C first, which lets a stage clear up, then by force."""
    left = _left(others)
    if work and work.returncode is None:
        if len(left) > 1:
            work.kill()  # DVC ignores Ctrl-C while it waits for a stage, and would go on with the next one
        with suppress(ProcessLookupError):
            os.killpg(work.pid, signal.SIGINT)
        psutil.wait_procs(left, timeout=GRACE_S)
    for one in (left := _left(others)):
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(left, timeout=GRACE_S)


def _left(others: set[psutil.Process]) -> list[psutil.Process]:
    """Our descendants, but for those that were there before."""
    return [one for one in psutil.Process().children(recursive=True) if one not in others]
