from dataclasses import replace

import pytest

from stages.runtimes.onnxruntime.discover import discover
from stages.runtimes.shared import distributions
from tests.fixtures.records import CPU_MACHINE, GPU_MACHINE

CPU_WHEEL, GPU_WHEEL = {"onnxruntime": "1.23.2"}, {"onnxruntime-gpu": "1.23.2"}


@pytest.mark.parametrize(
    ("machine", "wheels"),
    [
        (CPU_MACHINE, CPU_WHEEL),
        (CPU_MACHINE, GPU_WHEEL),
        (GPU_MACHINE, CPU_WHEEL),  # built for CPUs alone
    ],
)
def test_a_cpu_runs_both_precisions(monkeypatch: pytest.MonkeyPatch, machine: object, wheels: dict[str, str]) -> None:
    monkeypatch.setattr(distributions, "version", wheels.get)
    found = discover(machine)  # type: ignore[arg-type]
    assert found.versions == wheels
    assert found.unavailable == {"fp32": None, "int8": None}


def test_onnx_runtime_is_the_only_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributions, "version", {"onnx": "1.17.0"}.get)
    found = discover(GPU_MACHINE)
    missing = "ONNX Runtime is not installed: `pip install onnxruntime`"
    assert found.unavailable == {"fp32": missing, "int8": missing}
    assert found.versions == {"onnx": "1.17.0"}


@pytest.mark.parametrize(
    ("beside", "reason"),
    [
        ({"nvidia-cuda-runtime-cu12": "12.9.79"}, "CUDA 12: install 525.60.13 or newer"),
        ({"nvidia-cuda-runtime": "13.5.37"}, "CUDA 13: install 580 or newer"),
    ],
)
def test_a_gpu_has_no_int8_and_needs_a_driver_for_its_cuda(
    monkeypatch: pytest.MonkeyPatch, beside: dict[str, str], reason: str
) -> None:
    monkeypatch.setattr(distributions, "version", (GPU_WHEEL | beside).get)
    found = discover(replace(GPU_MACHINE, driver="580.1")).unavailable
    assert found["fp32"] is None
    assert found["int8"] == (
        "ONNX Runtime's CUDA provider has no QLinearConv and would compute in FP32 between Q/DQ pairs; the INT8 of a "
        "GPU is tensorrt-int8"
    )
    old = discover(replace(GPU_MACHINE, driver="470.1")).unavailable
    assert old == dict.fromkeys(("fp32", "int8"), f"the NVIDIA driver 470.1 is too old for {reason}")
