"""Control groups of both versions, in folders that stand for /."""

from pathlib import Path

import pytest

from stages.core import cgroup

V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/cpu,cpuacct"


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_version_2_has_the_smallest_quota_of_all_groups_around(tmp_path: Path) -> None:
    write(tmp_path, {
        "proc/self/cgroup": "0::/a/b\n",
        f"{V2}/a/cpu.max": "150000 100000\n", f"{V2}/a/cpu.stat": "usage_usec 5\nthrottled_usec 2000000\n",
        f"{V2}/a/b/cpu.max": "max 100000\n", f"{V2}/a/b/cpu.stat": "throttled_usec 700\n",
    })  # fmt: skip
    assert cgroup.quota_cpus(tmp_path) == 1.5
    assert cgroup.throttled_s(tmp_path) == pytest.approx(2.0)


def test_version_1_counts_in_nanoseconds(tmp_path: Path) -> None:
    write(tmp_path, {
        "proc/self/cgroup": "9:memory:/x\n3:cpu,cpuacct:/x\n1:cpuset:/\n0::/\n",
        f"{V1}/x/cpu.cfs_quota_us": "50000\n", f"{V1}/x/cpu.cfs_period_us": "100000\n",
        f"{V1}/x/cpu.stat": "nr_throttled 3\nthrottled_time 1500000000\n",
        f"{V1}/cpu.cfs_quota_us": "-1\n", f"{V1}/cpu.cfs_period_us": "100000\n",
    })  # fmt: skip
    assert cgroup.quota_cpus(tmp_path) == 0.5
    assert cgroup.throttled_s(tmp_path) == pytest.approx(1.5)


def test_a_container_that_sees_its_own_group_as_the_root_of_all_has_its_quota(tmp_path: Path) -> None:
    """Its path is that of the host, where there is nothing inside."""
    write(tmp_path, {
        "proc/self/cgroup": "0::/docker/0123\n",
        f"{V2}/cpu.max": "400000 100000\n", f"{V2}/cpu.stat": "throttled_usec 10\n",
    })  # fmt: skip
    assert cgroup.quota_cpus(tmp_path) == 4
    assert cgroup.throttled_s(tmp_path) == pytest.approx(1e-5)


@pytest.mark.parametrize("text", ["max 100000\n", "", "100000 0\n", "much\n"])
def test_without_a_quota_nothing_is_known_to_be_held_back(tmp_path: Path, text: str) -> None:
    write(tmp_path, {
        "proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": text, f"{V2}/cpu.stat": "throttled_usec 10\n",
    })  # fmt: skip
    assert (cgroup.quota_cpus(tmp_path), cgroup.throttled_s(tmp_path)) == (None, None)


def test_elsewhere_than_on_linux_there_are_no_groups(tmp_path: Path) -> None:
    assert (cgroup.quota_cpus(tmp_path), cgroup.throttled_s(tmp_path)) == (None, None)
