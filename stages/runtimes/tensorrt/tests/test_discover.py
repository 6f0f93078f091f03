from dataclasses import replace
from typing import Any

import pytest

from stages.contracts.environment import Gpu, Machine
from stages.runtimes.shared import distributions
from stages.runtimes.shared.tensorrt_wheels import WHEELS
from stages.runtimes.tensorrt import DESCRIPTION
from stages.runtimes.tensorrt.discover import discover
from tests.fixtures.records import CPU_MACHINE, GPU_MACHINE

NATIVE = {"tensorrt": "8.5.3.1", "cuda-bindings": "11.8.7"}
NEWER = NATIVE | {"tensorrt": "11.4.0.106"}
RTX = {"tensorrt-rtx-cu13-bindings": "1.7.1.116", "cuda-bindings": "13.4"}


def on(capability: str, driver: str = "580.1") -> Machine:
    return replace(GPU_MACHINE, gpus=(Gpu("a GPU", capability, None),), driver=driver)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have these wheels in the environment, and no others."""

    def change(wheels: dict[str, str]) -> None:
        monkeypatch.setattr(distributions, "version", wheels.get)

    return change


@pytest.mark.parametrize(
    ("precision", "machine", "wheels", "reason"),
    [
        ("fp32", on("9.0"), NATIVE, None),
        ("int8", on("7.5"), NATIVE, None),
        ("fp32", replace(CPU_MACHINE, gpu_missing="its driver lists no device"), NATIVE,
         "no NVIDIA GPU (its driver lists no device)"),
        ("fp32", on("9.0"), {"cuda-bindings": "11.8.7"},
         "TensorRT's Python module is not installed: `.venv/bin/python -m stages env check` lists what is missing"),
        ("fp32", on("9.0"), {"tensorrt": "8.5.3.1"},
         "CUDA's Python bindings are not installed: `pip install cuda-bindings`, in the version of this CUDA"),
        ("fp32", on("9.0"), NATIVE | {"tensorrt": "9.3.0"},
         "TensorRT 9.3.0 is none of those that were tried: 8.5, 10, 11 and TensorRT-RTX"),
        ("fp32", on("7.5"), NATIVE | {"tensorrt": "8.4.3"},
         "TensorRT 8.4.3 is none of those that were tried: 8.5, 10, 11 and TensorRT-RTX"),
        ("fp32", on("9.0", driver="440.33"), NATIVE,
         "the NVIDIA driver 440.33 is too old for TensorRT 8.5.3.1: install 450.80.02 or newer"),
        ("fp32", on("9.0", driver="510.1"), NEWER,
         "the NVIDIA driver 510.1 is too old for TensorRT 11.4.0.106: install 525.60.13 or newer"),
        ("fp32", on("12.0"), NATIVE,
         "TensorRT 8.5.3.1 has no kernels for a GPU (compute capability 12.0): list `tensorrt_10-fp32` or "
         "`tensorrt_11-fp32` or `tensorrt_rtx-fp32` in `variants`"),
        ("fp32", on("3.7"), NATIVE, "TensorRT 8.5.3.1 has no kernels for a GPU (compute capability 3.7)"),
        ("fp32", on("7.0"), NEWER,
         "TensorRT 11.4.0.106 has no kernels for a GPU (compute capability 7.0): list `tensorrt-fp32` in "
         "`variants`"),
        ("fp32", on("9.0"), RTX,
         "TensorRT-RTX 1.7.1.116 has no kernels for a GPU (compute capability 9.0): list `tensorrt-fp32` or "
         "`tensorrt_10-fp32` or `tensorrt_11-fp32` in `variants`"),
        ("fp16", on("6.1"), NATIVE, "a GPU (compute capability 6.1) has no fast FP16 units"),
        ("int8", on("6.0"), NATIVE, "a GPU (compute capability 6.0) has no INT8 units"),
    ],
)  # fmt: skip
def test_a_skip_names_its_cause(
    install: Any, precision: str, machine: Machine, wheels: dict[str, str], reason: str | None
) -> None:
    install(wheels)
    found = discover(machine)
    assert found.unavailable.keys() == {*DESCRIPTION.precisions}
    assert found.unavailable[precision] == reason


@pytest.mark.parametrize("wheels", [NATIVE, NEWER, RTX])
def test_versions_are_those_of_the_wheels_where_there_is_a_gpu(install: Any, wheels: dict[str, str]) -> None:
    quantizer = {"onnx": "1.17.0", "onnxruntime": "1.23.2"}
    install(wheels | quantizer)
    assert discover(on("9.0")).versions == wheels | quantizer
    assert discover(CPU_MACHINE).versions == {}  # nothing depends on them


def test_a_served_model_installs_the_wheel_it_was_made_with_its_libraries_and_cuda() -> None:
    assert [way[0] for way in DESCRIPTION.requires] == [*WHEELS]
    assert DESCRIPTION.requires[0] == ("tensorrt", "cuda-bindings")
    assert DESCRIPTION.requires[1] == ("tensorrt-cu12-bindings", "tensorrt-cu12-libs", "cuda-bindings")
    assert DESCRIPTION.requires[-1] == ("tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu13-libs", "cuda-bindings")
