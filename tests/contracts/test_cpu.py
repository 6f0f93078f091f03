import math
from dataclasses import replace

import pytest

from stages.contracts.cpu import CpuLoad, CpuUse, load

# A second of two CPUs, of which the benchmark used one.
QUIET = CpuUse(seconds=1.0, cpus=2, busy_s=1.0, own_s=1.0, stolen_s=0.0, throttled_s=None)


def test_others_took_what_is_neither_ours_nor_idle() -> None:
    found = load([replace(QUIET, busy_s=1.8), replace(QUIET, busy_s=1.4, stolen_s=0.2)])
    assert found and found.taken == pytest.approx((0.8 + 0.4 + 0.2) / 4)
    assert (found.stolen, found.throttled) == (pytest.approx(0.05), None)


def test_a_quiet_block_has_no_load_and_no_block_tells_nothing() -> None:
    quiet = load([QUIET])
    assert quiet and (quiet.taken, quiet.stolen) == (0, 0)
    assert load([]) is None


def test_a_count_that_is_behind_ours_is_no_negative_share() -> None:
    late = load([replace(QUIET, busy_s=0.97)])
    assert late and late.taken == 0
    # One that is behind makes up for one that is ahead.
    both = load([replace(QUIET, busy_s=0.97), replace(QUIET, busy_s=1.03)])
    assert both and both.taken == pytest.approx(0, abs=1e-9)


def test_ticks_never_take_more_than_there_is() -> None:
    """Two ticks within a millisecond."""
    short = load([CpuUse(0.001, 2, 0.02, 0.0, 0.02, 0.1)])
    assert short and (short.taken, short.stolen, short.throttled) == (1, 1, 1)
    assert not short.busy(1)


def test_the_resolution_is_a_tick_for_each_cpu_and_block_by_their_root() -> None:
    one, ten = load([QUIET]), load([QUIET] * 10)
    assert one and ten
    assert one.resolution == pytest.approx(0.01 * math.sqrt(2) / 2)
    assert ten.resolution == pytest.approx(0.01 * math.sqrt(20) / 20)


@pytest.mark.parametrize(
    ("taken", "resolution", "busy"), [(0.06, 0.01, True), (0.05, 0.01, False), (0.48, 0.5, False), (0.48, 0.4, True)]
)
def test_busy_is_more_than_the_limit_and_more_than_chance(taken: float, resolution: float, busy: bool) -> None:
    assert CpuLoad(taken, 0.0, None, resolution).busy(0.05) == busy


@pytest.mark.parametrize(("throttled", "held_back"), [(None, False), (0.05, False), (0.06, True)])
def test_a_quota_that_is_known_may_hold_back(throttled: float | None, held_back: bool) -> None:
    assert CpuLoad(0.0, 0.0, throttled, 0.0).held_back(0.05) == held_back


def test_what_quotas_held_back_is_a_share_of_the_cpus() -> None:
    found = load([replace(QUIET, throttled_s=0.3), replace(QUIET, throttled_s=0.1)])
    assert found and found.throttled == pytest.approx(0.1)
