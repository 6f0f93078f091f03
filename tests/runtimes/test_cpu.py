"""Machines as Linux describes them, in folders that stand for /."""

from dataclasses import astuple
from pathlib import Path

import pytest

from stages.runtimes import cpu

# Of an Intel server that is a guest, but for lines that nobody reads.
INTEL = """processor\t: {number}
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8488C
stepping\t: 8
microcode\t: 0x2b0005b0
flags\t\t: fpu sse2 fma avx avx2 avx512f avx512_vnni amx_int8 {flag}

"""
ARM = """processor\t: {number}
BogoMIPS\t: 243.75
Features\t: fp asimd asimdhp asimddp sve i8mm bf16
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: 0xd40
CPU revision\t: 1

"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture(autouse=True)
def second(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process may use the CPUs 1 and 2 alone."""
    monkeypatch.setattr(cpu, "allowed", lambda: frozenset({1, 2}))


def machine(root: Path, text: str, flag: str = "") -> Path:
    write(root / "proc/cpuinfo", "".join(text.format(number=number, flag=flag) for number in range(4)))
    return root


def test_an_intel_cpu_is_told_by_its_numbers_and_its_arithmetic(tmp_path: Path) -> None:
    found = cpu.describe(machine(tmp_path, INTEL))
    assert found and astuple(found)[:5] == ("GenuineIntel", "6", "143", "8", "0x2b0005b0")
    assert found.features == ("avx", "avx2", "fma", "avx512f", "avx512_vnni", "amx_int8")
    assert (found.caches_bytes, found.hypervisor) == ({}, None)
    assert cpu.name(tmp_path) == "Intel(R) Xeon(R) Platinum 8488C"


def test_an_arm_cpu_is_told_by_the_same(tmp_path: Path) -> None:
    found = cpu.describe(machine(tmp_path, ARM))
    assert found and astuple(found)[:5] == ("0x41", "8", "0xd40", "1", None)
    assert found.features == ("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve")


def test_what_is_described_is_what_this_process_may_use(tmp_path: Path) -> None:
    """Of two kinds of cores in one machine."""
    write(tmp_path / "proc/cpuinfo", INTEL.format(number=0, flag="") + ARM.format(number=1))
    found = cpu.describe(tmp_path)
    assert found and found.vendor == "0x41"


def test_caches_are_told_in_bytes(tmp_path: Path) -> None:
    for index, (level, kind, size) in enumerate(
        [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2048K"), ("3", "Unified", "105M")]
    ):
        for part, text in (("level", level), ("type", kind), ("size", size)):
            write(tmp_path / f"sys/devices/system/cpu/cpu1/cache/index{index}/{part}", f"{text}\n")
    found = cpu.describe(machine(tmp_path, INTEL))
    assert found and found.caches_bytes == {"L1d": 48 << 10, "L1i": 32 << 10, "L2": 2 << 20, "L3": 105 << 20}


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({"class/dmi/id/sys_vendor": "EC2\n", "class/dmi/id/product_name": "m7i.xlarge\n"}, "EC2 m7i.xlarge"),
        ({"hypervisor/type": "xen\n"}, "xen"),
        ({}, "one without a name"),
    ],
)  # fmt: skip
def test_a_guest_names_its_host(tmp_path: Path, files: dict[str, str], name: str) -> None:
    for path, text in files.items():
        write(tmp_path / "sys" / path, text)
    found = cpu.describe(machine(tmp_path, INTEL, "hypervisor"))
    assert found and found.hypervisor == name
    alone = cpu.describe(machine(tmp_path, INTEL))
    assert alone and alone.hypervisor is None


def test_governors_are_those_of_the_cpus_that_may_be_used(tmp_path: Path) -> None:
    for number, governor in enumerate(("userspace", "powersave", "performance")):
        write(tmp_path / f"sys/devices/system/cpu/cpu{number}/cpufreq/scaling_governor", f"{governor}\n")
    assert cpu.governor(tmp_path) == "performance, powersave"


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    assert (cpu.describe(tmp_path), cpu.governor(tmp_path)) == (None, None)
    write(tmp_path / "proc/cpuinfo", "model : a CPU without a number\n")
    assert cpu.describe(tmp_path) is None
