"""Who used the CPUs, by readings that the tests give, and the meter of this machine where there is one."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stages.contracts.cpu import CpuUse
from stages.core import cgroup
from stages.measurement import quiet
from stages.measurement.quiet import CpuMeter, Reading, Seen, Watch, between, own_seconds
from tests.fixtures.cpu import BUSY, QUIET, FakeMeter

START = Reading(clock_s=10.0, cpus=2, busy_s=100.0, stolen_s=3.0, own_s={1: 5.0, 2: 7.0, 3: 1.0}, throttled_s=0.5)


def test_between_two_readings_is_what_was_added() -> None:
    end = Reading(10.5, 2, 100.9, 3.25, {1: 5.25, 2: 7.5, 3: 1.0}, 0.75)
    assert between(START, end) == CpuUse(0.5, 2, pytest.approx(0.9), 0.75, 0.25, 0.25)


def test_a_process_that_ended_or_came_is_not_ours_in_that_block() -> None:
    end = replace(START, clock_s=10.5, own_s={1: 5.5, 2: 7.0, 4: 60.0})
    assert between(START, end).own_s == 0.5


@pytest.mark.parametrize("known", [START, replace(START, throttled_s=None)])
def test_without_a_quota_at_either_end_nothing_is_known_of_it(known: Reading) -> None:
    assert between(known, replace(START, throttled_s=None)).throttled_s is None
    assert between(replace(START, throttled_s=None), known).throttled_s is None


STAT = """cpu  1000 100 300 9000 50 7 8 400 30 0
cpu0 100 10 30 900 5 3 4 40 3 0
cpu1 200 20 60 900 5 0 0 80 6 0
cpu2 700 70 210 7200 40 4 4 280 21 0
intr 5 5
"""


def test_the_meter_counts_programs_and_other_machines_on_the_cpus_that_may_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stat").write_text(STAT)
    monkeypatch.setattr(quiet, "allowed", lambda: frozenset({1, 2}))
    monkeypatch.setattr(os, "sysconf", lambda name: 100)
    monkeypatch.setattr(cgroup, "throttled_s", lambda: 1.5)
    found = CpuMeter(tmp_path / "stat").read()
    # User, nice and system time of both, without what waits for disks, serves interrupts or counts a guest twice.
    assert (found.cpus, found.throttled_s) == (2, 1.5)
    assert (found.busy_s, found.stolen_s) == (pytest.approx(12.6), pytest.approx(3.6))


@pytest.mark.parametrize("content", [None, "", "cpu0 0 0 0 0 0 0 0 0\n", "cpu0 1 2\n", "cpu0 many\n"])
def test_there_is_no_meter_where_the_system_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "stat").write_text(content)
    monkeypatch.setattr(quiet, "allowed", lambda: frozenset({0}))
    assert quiet.meter(tmp_path / "stat") is None


@pytest.fixture
def child() -> Iterator["subprocess.Popen[bytes]"]:
    """It works for a fifth of a second of CPU time, then waits."""
    code = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux numbers the clocks of processes")
def test_the_clock_of_another_process_tells_its_cpu_seconds(child: "subprocess.Popen[bytes]") -> None:
    assert child.stdout and child.stdout.readline()
    found = own_seconds([child.pid, os.getpid()])
    # It may have started with less than a second of imports.
    assert 0.2 <= found[child.pid] < 5
    assert found[os.getpid()] == pytest.approx(time.process_time(), abs=0.5)
    child.kill()
    child.wait()
    assert own_seconds([child.pid]) == {}


@pytest.mark.skipif(quiet.meter() is None, reason="this system counts no CPU seconds")
def test_what_this_process_starts_is_its_own_and_what_others_do_is_not(child: "subprocess.Popen[bytes]") -> None:
    found = quiet.meter()
    assert found and child.pid not in found.read().own_s
    found.settle()
    assert {os.getpid(), child.pid} <= found.read().own_s.keys()
    assert os.getppid() not in found.read().own_s


def watch(*uses: CpuUse, limit: float = 0.05) -> Watch:
    made = Watch(None, limit)
    for use in uses:
        made.add(("a", 1), Seen(use, use))
    return made


def test_a_block_in_which_others_took_too_much_is_to_be_timed_again() -> None:
    assert watch(QUIET, BUSY, QUIET).disturbed(("a", 1)) == [1]
    assert watch(QUIET, QUIET).disturbed(("a", 1)) == watch().disturbed(("a", 1)) == []
    assert watch(QUIET, BUSY, limit=0.5).disturbed(("a", 1)) == []
    assert watch(BUSY).disturbed(("a", 8)) == []


def test_blocks_that_are_too_short_to_tell_are_judged_together() -> None:
    """One tick in each of 100 blocks of 20 ms: chance in one of them, and not in all."""
    short = CpuUse(0.02, 2, 0.02, 0.01, 0.0, None)
    assert watch(short).disturbed(("a", 1)) == []
    assert watch(*[short] * 100).disturbed(("a", 1)) == list(range(100))
    still = replace(short, busy_s=0.01)
    assert watch(*[short] * 50, *[still] * 50).disturbed(("a", 1)) == list(range(50))


def test_the_quieter_block_stays() -> None:
    made = watch(BUSY, BUSY)
    assert made.replace(("a", 1), 0, Seen(QUIET, QUIET))
    assert not made.replace(("a", 1), 1, Seen(BUSY, BUSY))
    assert made.disturbed(("a", 1)) == [1]
    assert made.retimed("a", (1, 8)) == {"1": 2}


def test_a_watch_reads_its_meter_before_and_after_a_block_and_never_within() -> None:
    meter = FakeMeter()
    made = Watch(meter, 0.05)
    made.settle()
    read, seen = made.around(lambda: meter.reads)
    assert (read, meter.reads, meter.settled) == (1, 2, 1)
    assert seen == (QUIET, QUIET)
    made.add(("a", 1), seen)
    assert made.seen("a", (1, 8)) == {"1": (QUIET,), "8": ()}


class Clock(FakeMeter):
    """Each question is a second after the one before, of which another program took a whole CPU."""

    def read(self) -> Reading:
        self.reads += 1
        return Reading(self.reads, 2, self.reads, 0.0, {}, 0.25 * self.reads)


def test_the_time_between_blocks_counts_and_that_of_one_that_failed_does_not() -> None:
    made = Watch(Clock(), 0.05)
    for block in (True, True, False, True):
        if block:
            made.add(("a", 1), made.around(lambda: None)[1])
        else:
            with pytest.raises(KeyError):
                made.around(lambda: {}["a"])
    # One second each in three blocks, and one between the first two.
    assert made.windows(["a"], [1, 8]) == {"1": CpuUse(4, 2, 4, 0.0, 0.0, 1.0)}
    assert made.windows(["b"], [1]) == {}


def test_without_a_meter_nothing_is_known() -> None:
    made = Watch(None, 0.05)
    made.settle()
    assert made.around(lambda: 5) == (5, None)
    made.add(("a", 1), None)
    assert (made.seen("a", (1,)), made.retimed("a", (1,)), made.disturbed(("a", 1))) == ({}, {}, [])
