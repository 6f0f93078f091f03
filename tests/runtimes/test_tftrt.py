from typing import Any

import pytest

from stages.runtimes import tftrt

Machine = dict[str, Any]


def with_gpu(machine: Machine, capability: str) -> Machine:
    return machine | {"gpus": [{"name": "a GPU", "compute_capability": capability, "memory_bytes": 1}]}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_nothing_is_missing_on_a_machine_that_has_all(machine: Machine, precision: str) -> None:
    assert tftrt.unavailable(precision, machine) is None


def test_no_gpu_is_the_first_reason(no_gpu: Machine) -> None:
    nothing = no_gpu | {"tensorrt": {"required": None, "loaded": None, "missing": "libnvinfer.so.8"}}
    assert tftrt.unavailable("int8", nothing) == "no NVIDIA GPU (no NVIDIA driver answers on this machine)"


@pytest.mark.parametrize("missing", ["tensorrt", "tensorflow"])
def test_a_gpu_that_will_not_do_is_named_before_what_could_be_installed(machine: Machine, missing: str) -> None:
    lacks = {
        "tensorrt": {"required": None, "loaded": None, "missing": "libnvinfer.so.8"},
        "tensorflow": {"version": "2.18.0", "built_with_tensorrt": False, "built_for_cuda": None},
    }[missing]
    newest, oldest = (with_gpu(machine | {missing: lacks}, capability) for capability in ("12.0", "5.0"))
    assert "newer than TensorRT 8" in str(tftrt.unavailable("fp32", newest))
    assert "no INT8 units" in str(tftrt.unavailable("int8", oldest))
    assert "driver 418.67 is too old" in str(tftrt.unavailable("int8", newest | {"driver": "418.67"}))


def test_a_tensorflow_without_tensorrt_is_named(machine: Machine) -> None:
    plain = machine | {"tensorflow": {"version": "2.14.1", "built_with_tensorrt": False, "built_for_cuda": None}}
    assert tftrt.unavailable("fp32", plain) == (
        "this TensorFlow was built without TensorRT: install the extra `gpu` on Linux"
    )


@pytest.mark.parametrize(
    ("python", "hint"), [("3.10", ""), ("3.11", " (its wheel exists for Python 3.10, not for 3.11)")]
)
def test_a_missing_library_is_named_with_the_python_that_has_it(machine: Machine, python: str, hint: str) -> None:
    tensorrt = {"required": "8.5.3.1", "loaded": None, "missing": "libnvinfer.so.8: cannot open shared object file"}
    assert tftrt.unavailable("fp32", machine | {"tensorrt": tensorrt, "python": python}) == (
        f"the TensorRT library does not load{hint}: libnvinfer.so.8: cannot open shared object file"
    )


def test_a_newer_tensorrt_is_another_environments(machine: Machine) -> None:
    tensorrt = {"required": None, "loaded": None, "missing": "libnvinfer.so.8: cannot open shared object file"}
    for version, rtx, told in (("11.4.0.106", False, "11.4.0.106"), ("1.7.1", True, "TensorRT-RTX 1.7.1")):
        newer = {"tensorrt": tensorrt, "tensorrt_python": {"version": version, "rtx": rtx}}
        assert tftrt.unavailable("fp16", machine | newer) == (
            f"TF-TRT needs TensorRT 8.5, and this environment has {told}: `make repro` alone brings 8.5"
        )


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
    machine: Machine, capability: str, fp16: bool, int8: bool
) -> None:
    gpu = with_gpu(machine, capability)
    about = f"a GPU (compute capability {capability})"
    assert tftrt.unavailable("fp32", gpu) is None
    assert tftrt.unavailable("fp16", gpu) == (None if fp16 else f"{about} has no fast FP16 units")
    assert tftrt.unavailable("int8", gpu) == (None if int8 else f"{about} has no INT8 units")


@pytest.mark.parametrize(
    ("driver", "old"), [("418.67", True), ("450.80.01", True), ("450.80.02", False), ("580.95", False)]
)
def test_an_old_driver_is_named(machine: Machine, driver: str, old: bool) -> None:
    reason = f"the NVIDIA driver {driver} is too old for CUDA 11: install 450.80.02 or newer"
    assert tftrt.unavailable("fp32", machine | {"driver": driver}) == (reason if old else None)


def test_a_tensorflow_after_tf_trt_is_named(machine: Machine) -> None:
    new = machine | {"tensorflow": {"version": "2.18.0", "built_with_tensorrt": False, "built_for_cuda": "12.5"}}
    assert tftrt.unavailable("fp32", new) == (
        "TensorFlow 2.18.0 has no TF-TRT, which left with 2.18: install the extra `gpu`"
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_gpu_after_hopper_is_named(machine: Machine, precision: str) -> None:
    assert tftrt.unavailable(precision, with_gpu(machine, "10.0")) == (
        "a GPU (compute capability 10.0) is newer than TensorRT 8, whose last is 9.0"
    )
