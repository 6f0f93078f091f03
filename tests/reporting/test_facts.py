from dataclasses import dataclass, replace

from stages.contracts.environment import CpuIdentity, CpuSettings, RuntimeEnvironment
from stages.reporting import facts
from tests.fixtures.records import GPU_MACHINE, TINY, environment
from tests.reporting.rows import MIXED, summary


@dataclass(frozen=True)
class Inner:
    """One of several."""

    used: bool
    size_bytes: int


@dataclass(frozen=True)
class Outer:
    """A record."""

    many: tuple[Inner, ...]
    shape: tuple[int, ...]
    empty: tuple[int, ...]
    unknown: int | None
    parameters: int
    share: float


def test_a_record_is_told_in_words_with_units() -> None:
    record = Outer((Inner(True, 1_500_000), Inner(False, 0)), (4, 4, 3), (), None, 1200, 0.5)
    assert facts.facts(record) == [
        ("many 1 used", "yes"),
        ("many 1 size", "1.5 MB"),
        ("many 2 used", "no"),
        ("many 2 size", "0.0 MB"),
        ("shape", "4, 4, 3"),
        ("empty", "none"),
        ("parameters", "1,200"),
        ("share", "0.5"),
    ]


def test_the_environment_names_machine_libraries_and_runtimes() -> None:
    reason = "no NVIDIA GPU"
    runtime = RuntimeEnvironment("tftrt", "3.10", {"tensorrt_required": "8.5.3.1"}, {"fp32": reason, "int8": reason})
    settings = CpuSettings("performance", 1.5, {"OMP_NUM_THREADS": "1"})
    identity = CpuIdentity("GenuineIntel", "6", "143", "8", None, ("avx2", "fma"), {"L2": 2 << 20}, None)
    machine = replace(GPU_MACHINE, identity=identity)
    shown = facts.environment(replace(environment(machine), runtimes=(runtime,), settings=settings))
    assert dict(shown).items() >= {
        "cpu": "a CPU", "gpus 1 name": "NVIDIA T4", "driver": "535.1", "tensorflow": "2.14.1", "tftrt python": "3.10",
        "tftrt tensorrt required": "8.5.3.1", "tftrt fp32, int8": reason, "governor": "performance",
        "quota cpus": "1.5", "OMP_NUM_THREADS": "1", "identity features": "avx2, fma", "identity model": "143",
    }.items()  # fmt: skip


def test_settings_are_told_by_subject() -> None:
    settings = facts.settings(summary(*MIXED))
    assert list(settings) == ["environment", "model", "evaluation", "calibration"]
    ordered = facts.settings(replace(summary(*MIXED), class_order="the digits, by number"))["model"]
    assert ordered == [*settings["model"], ("order of the classes", "the digits, by number")]
    assert ("name", TINY.name) in settings["model"] and ("seed", "0") in settings["calibration"]
