"""What a machine is described with, for whom results are measured."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.contracts import codec
from stages.contracts.environment import ENVIRONMENT, GPU_MODELS, SOURCES, CpuIdentity, Environment, GpuModels, Sources
from stages.core import cgroup
from stages.runtimes import cpu, host, registry
from stages.runtimes.fingerprints import Digests

REPOSITORY = Path(__file__).parents[2]


def test_a_machine_is_described_with_its_runtimes() -> None:
    found = host.describe(None)
    assert found.machine.cpu and found.machine.cores == len(os.sched_getaffinity(0))
    # Either the GPUs, or why there are none.
    assert bool(found.machine.gpus) != bool(found.machine.gpu_missing)
    assert [runtime.runtime for runtime in found.runtimes] == list(registry.RUNTIMES)
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert {runtime.python for runtime in found.runtimes if runtime.lock is None} == {here}
    assert found.base["tensorflow-cpu"].startswith("2.")


@pytest.mark.parametrize("runtime", registry.RUNTIMES)
def test_every_precision_can_run_or_says_why_not(runtime: str) -> None:
    described = host.describe(None).runtime(runtime)
    assert described.unavailable.keys() == set(registry.description(runtime).precisions)
    assert all(reason is None or len(reason) > 10 for reason in described.unavailable.values())


def test_a_runtime_that_cannot_be_asked_leaves_the_others_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise OSError("libtbb.so: cannot open shared object file")

    before = host.describe(None)
    monkeypatch.setattr(registry.module("tflite", "discover"), "discover", broken)
    after = host.describe(None)
    changed = [one for one, other in zip(after.runtimes, before.runtimes, strict=True) if one != other]
    assert [(one.runtime, one.failed) for one in changed] == [
        ("tflite", "OSError: libtbb.so: cannot open shared object file")
    ]
    assert "Traceback" in capsys.readouterr().err
    Digests(after, {}).of(["tflite-int8"])


def test_a_description_does_not_change_by_itself() -> None:
    assert host.describe(None) == host.describe(None)


@pytest.mark.parametrize(("threads", "shown"), [(3, 3), (None, len(os.sched_getaffinity(0)))])
def test_threads_are_those_of_params_or_all_cores(threads: int | None, shown: int) -> None:
    assert host.describe_machine(threads).threads == shown


def test_variables_of_speed_and_the_governor_are_part_of_the_description(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(cpu, "governor", lambda: "powersave")
    monkeypatch.setattr(cgroup, "quota_cpus", lambda: 1.5)
    found = host.describe(None).settings
    assert (found.governor, found.quota_cpus, found.variables["OMP_NUM_THREADS"]) == ("powersave", 1.5, "1")


def test_a_cpu_that_tells_nothing_of_itself_has_no_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "describe", lambda: None)
    assert host.describe_machine(None).identity is None
    described = CpuIdentity("AuthenticAMD", "25", "17", "1", "0x1", ("avx2",), {"L2": 1 << 20}, "KVM")
    monkeypatch.setattr(cpu, "describe", lambda: described)
    assert host.describe_machine(None).identity == described


def test_the_stage_runs_without_importing_a_framework(checkout: Path) -> None:
    libraries = {"tensorflow", "onnxruntime", "ai_edge_litert", "mlflow", "ray"}
    code = f"import sys; from stages import environment; environment.main(); print({libraries} & set(sys.modules))"
    search = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": search}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
    assert codec.read(Environment, ENVIRONMENT).runtime("tflite").unavailable["int8"] is None
    assert codec.read(GpuModels, GPU_MODELS) == GpuModels()
    assert str(codec.read(Sources, SOURCES).evaluation).startswith("not a local file")
