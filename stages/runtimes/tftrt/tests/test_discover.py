from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from stages.contracts.environment import Gpu, Machine
from stages.runtimes.shared import distributions
from stages.runtimes.tftrt import discover as module
from stages.runtimes.tftrt.discover import LIBRARY, Library, discover
from tests.fixtures.records import CPU_MACHINE, GPU_MACHINE

WHEELS = {"tensorflow": "2.14.1", "nvidia-cuda-runtime-cu11": "11.8.89", "nvidia-cudnn-cu11": "8.7.0.84"}
MISSING = Library(None, f"{LIBRARY}: cannot open shared object file")


def with_gpu(capability: str, driver: str = "535.1") -> Machine:
    return replace(GPU_MACHINE, gpus=(Gpu("a GPU", capability, 1),), driver=driver)


class Environment:
    """What is installed; as it stands, all that TF-TRT needs."""

    def __init__(self) -> None:
        self.wheels = dict(WHEELS)
        self.library = Library("8.5.3")
        self.built_with_tensorrt = True


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Environment:
    environment = Environment()
    monkeypatch.setattr(distributions, "version", lambda name: environment.wheels.get(name))
    monkeypatch.setattr(module, "load_library", lambda: environment.library)
    monkeypatch.setattr(module, "built_with_tensorrt", lambda: environment.built_with_tensorrt)
    return environment


def test_nothing_is_missing_on_a_machine_that_has_all(here: Environment) -> None:
    found = discover(GPU_MACHINE)
    assert found.unavailable == {"fp32": None, "fp16": None, "int8": None}
    assert found.versions == WHEELS | {"tensorrt": "8.5.3"}


def test_no_gpu_is_the_first_reason_and_no_library_is_loaded(
    here: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Library:
        raise AssertionError("nothing depends on it")

    monkeypatch.setattr(module, "load_library", fail)
    found = discover(CPU_MACHINE)
    assert {*found.unavailable.values()} == {f"no NVIDIA GPU ({CPU_MACHINE.gpu_missing})"}
    assert found.versions == WHEELS


@pytest.mark.parametrize("missing", ["tensorrt", "tensorflow"])
def test_a_gpu_that_will_not_do_is_named_before_what_could_be_installed(here: Environment, missing: str) -> None:
    if missing == "tensorrt":
        here.library = MISSING
    else:
        here.wheels["tensorflow"], here.built_with_tensorrt = "2.18.0", False
    assert "newer than TensorRT 8" in str(discover(with_gpu("12.0")).unavailable["fp32"])
    assert "no INT8 units" in str(discover(with_gpu("5.0")).unavailable["int8"])
    assert "driver 418.67 is too old" in str(discover(with_gpu("12.0", "418.67")).unavailable["int8"])


def test_a_tensorflow_without_tensorrt_is_named(here: Environment) -> None:
    here.built_with_tensorrt = False
    assert discover(GPU_MACHINE).unavailable["fp32"] == (
        "this TensorFlow was built without TensorRT: that for Linux on x86-64 has it"
    )


def test_a_missing_library_is_named(here: Environment) -> None:
    here.library = MISSING
    found = discover(GPU_MACHINE)
    assert found.unavailable["fp32"] == f"the TensorRT library does not load: {MISSING.missing}"
    assert "tensorrt" not in found.versions


# NVIDIA's support matrix of TensorRT 8.5, section "hardware and precision"; Kepler's GPUs have neither.
@pytest.mark.parametrize(
    ("capability", "fp16", "int8"),
    [
        ("3.5", False, False),
        ("3.7", False, False),
        ("5.0", False, False),
        ("5.2", False, False),
        ("5.3", True, False),
        ("6.0", True, False),
        ("6.1", False, True),
        ("6.2", True, False),
        ("7.0", True, True),
        ("7.5", True, True),
        ("8.9", True, True),
        ("9.0", True, True),
    ],
)
def test_a_gpu_without_fast_units_for_a_precision_is_named(
    here: Environment, capability: str, fp16: bool, int8: bool
) -> None:
    about = f"a GPU (compute capability {capability})"
    assert discover(with_gpu(capability)).unavailable == {
        "fp32": None,
        "fp16": None if fp16 else f"{about} has no fast FP16 units",
        "int8": None if int8 else f"{about} has no INT8 units",
    }


@pytest.mark.parametrize(
    ("driver", "old"), [("418.67", True), ("450.80.01", True), ("450.80.02", False), ("580.95", False)]
)
def test_an_old_driver_is_named(here: Environment, driver: str, old: bool) -> None:
    reason = f"the NVIDIA driver {driver} is too old for CUDA 11: install 450.80.02 or newer"
    assert discover(with_gpu("7.5", driver)).unavailable["fp32"] == (reason if old else None)


def test_a_tensorflow_after_tf_trt_is_named(here: Environment) -> None:
    here.wheels["tensorflow"], here.built_with_tensorrt = "2.18.0", False
    assert discover(GPU_MACHINE).unavailable["fp32"] == (
        "TensorFlow 2.18.0 has no TF-TRT, which left with 2.18: pin an older one in locks/tftrt.in"
    )


def test_a_gpu_after_hopper_is_named(here: Environment) -> None:
    reason = "a GPU (compute capability 10.0) is newer than TensorRT 8, whose last is 9.0"
    assert discover(with_gpu("10.0")).unavailable == dict.fromkeys(("fp32", "fp16", "int8"), reason)


def test_the_reason_for_a_tensorrt_that_does_not_load_is_that_of_its_wheel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library = tmp_path / LIBRARY
    library.write_text("no library")
    folder = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: folder)
    found = module.load_library()
    assert found.version is None
    assert str(found.missing).startswith(f"{library}: ")


def test_either_a_library_loads_here_or_it_is_said_why_not() -> None:
    found = module.load_library()
    assert bool(found.version) != bool(found.missing)


def test_how_tensorflow_was_built_is_read_without_importing_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    record = tmp_path / "python/platform/build_info.py"
    record.parent.mkdir(parents=True)
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    assert module.built_with_tensorrt() is False
    for built in (True, False):
        record.write_text(f"build_info = collections.OrderedDict([('is_tensorrt_build', {built})])")
        assert module.built_with_tensorrt() is built
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert module.built_with_tensorrt() is False
