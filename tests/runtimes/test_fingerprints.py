"""What enters the digest of a variant, and what does not."""

from dataclasses import replace

import pytest

from stages.contracts.conversion import Scalar
from stages.contracts.environment import CpuIdentity, CpuSettings, Environment, Fingerprints
from stages.core import files
from stages.runtimes import host
from stages.runtimes.fingerprints import Digests
from tests.fixtures.records import T4

NAMES = ("savedmodel-fp32", "tflite-fp32", "tflite-int8", "onnxruntime-int8")


@pytest.fixture(scope="module")
def environment() -> Environment:
    return host.describe(None)


def of(environment: Environment, **options: dict[str, Scalar]) -> Fingerprints:
    return Digests(environment, options).of(NAMES)


def changed(before: Fingerprints, after: Fingerprints) -> set[str]:
    assert {name: before.convert[name] != after.convert[name] for name in NAMES} == {
        name: before.predict[name] != after.predict[name] for name in NAMES
    }
    return {name for name in NAMES if before.convert[name] != after.convert[name]}


def test_the_same_has_the_same_digests(environment: Environment) -> None:
    assert of(environment) == of(environment)


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        (["savedmodel-fp32", "tflite-int8"], False),
        (["savedmodel-fp32", "onnxruntime-fp32"], True),
        (["tensorrt-fp16"], True),
        (["onnxruntime-int8-qat", "tensorrt-int8-qat"], False),
    ],
)
def test_the_export_to_onnx_is_asked_for_by_what_starts_from_it(
    environment: Environment, names: list[str], asked: bool
) -> None:
    assert Digests(environment, {}).of(names).onnx == asked


def test_variants_of_one_runtime_share_their_digest_and_those_of_two_do_not(environment: Environment) -> None:
    found = of(environment)
    assert found.convert["tflite-fp32"] == found.convert["tflite-int8"]
    assert len(set(found.convert.values())) == 3
    assert not set(found.convert.values()) & set(found.predict.values())


@pytest.mark.parametrize("module", ["worker", "loading"])
def test_what_every_worker_runs_changes_all(
    environment: Environment, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, sha256 = of(environment), files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: "other" if path.name == f"{module}.py" else sha256(path))
    assert changed(before, of(environment)) == {*NAMES}


def test_an_option_that_is_left_out_is_its_default(environment: Environment) -> None:
    assert of(environment) == of(environment, tflite={"xnnpack": True})


def test_another_option_changes_the_variants_of_its_runtime(environment: Environment) -> None:
    after = of(environment, tflite={"xnnpack": False})
    assert changed(of(environment), after) == {"tflite-fp32", "tflite-int8"}
    assert of(environment).time != after.time


def test_another_version_changes_the_variants_of_its_runtime(environment: Environment) -> None:
    runtimes = tuple(
        replace(runtime, versions={"ai-edge-litert": "0"}) if runtime.runtime == "tflite" else runtime
        for runtime in environment.runtimes
    )
    after = of(replace(environment, runtimes=runtimes))
    assert changed(of(environment), after) == {"tflite-fp32", "tflite-int8"}


def test_a_precision_that_is_no_longer_there_changes_its_own_variant(environment: Environment) -> None:
    runtimes = tuple(
        replace(runtime, unavailable=runtime.unavailable | {"int8": "no units"})
        if runtime.runtime == "tflite"
        else runtime
        for runtime in environment.runtimes
    )
    after = of(replace(environment, runtimes=runtimes))
    assert changed(of(environment), after) == {"tflite-int8"}


def test_a_gpu_leaves_the_variants_of_cpus_alone(environment: Environment) -> None:
    without = replace(environment.machine, gpus=(), driver=None, gpu_missing="none")
    machine = replace(without, gpus=(T4,), driver="535.1", gpu_missing=None)
    after = of(replace(environment, machine=machine))
    assert "savedmodel-fp32" in changed(of(replace(environment, machine=without)), after)
    assert not {"tflite-fp32", "tflite-int8"} & changed(of(replace(environment, machine=without)), after)


def test_another_cpu_changes_all(environment: Environment) -> None:
    machine = replace(environment.machine, cpu="another")
    assert changed(of(environment), of(replace(environment, machine=machine))) == set(NAMES)


IDENTITY = CpuIdentity("GenuineIntel", "6", "143", "8", "0x1", ("avx2",), {"L2": 2 << 20}, None)


PLAIN = CpuSettings()


def on(environment: Environment, identity: CpuIdentity | None, settings: CpuSettings = PLAIN) -> Fingerprints:
    return of(replace(environment, machine=replace(environment.machine, identity=identity), settings=settings))


@pytest.mark.parametrize(
    "other",
    [None, replace(IDENTITY, family="7"), replace(IDENTITY, features=()), replace(IDENTITY, caches_bytes={}),
     replace(IDENTITY, hypervisor="KVM")],
)  # fmt: skip
def test_another_cpu_of_the_same_name_changes_all(environment: Environment, other: CpuIdentity | None) -> None:
    before, after = on(environment, IDENTITY), on(environment, other)
    assert changed(before, after) == set(NAMES) and before.time != after.time


def test_variables_that_choose_kernels_change_all(environment: Environment) -> None:
    before = on(environment, IDENTITY)
    after = on(environment, IDENTITY, CpuSettings(variables={"TF_ENABLE_ONEDNN_OPTS": "0"}))
    assert changed(before, after) == set(NAMES) and before.time != after.time


@pytest.mark.parametrize(
    ("identity", "settings"),
    [
        (replace(IDENTITY, microcode="0x2"), PLAIN),
        (IDENTITY, CpuSettings(governor="powersave")),
        (IDENTITY, CpuSettings(quota_cpus=1.5)),
    ],
)
def test_what_changes_speed_alone_is_timed_again_and_neither_converted_nor_evaluated(
    environment: Environment, identity: CpuIdentity, settings: CpuSettings
) -> None:
    before, after = on(environment, IDENTITY), on(environment, identity, settings)
    assert changed(before, after) == set() and before.time != after.time
