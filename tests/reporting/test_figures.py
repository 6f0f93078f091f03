from dataclasses import replace

from stages.contracts.row import HERE
from stages.reporting import figures
from tests.fixtures.records import CPU_MACHINE, GPU_MACHINE, environment
from tests.reporting.rows import BASELINE, INT8, MIXED, NO_GPU, speed, stopped, summary


def test_batch_sizes_are_those_of_any_variant() -> None:
    assert figures.batch_sizes([stopped("tftrt-fp32"), replace(BASELINE, speeds=(speed(4.0, 16), speed(4.0, 2)))]) == [
        2,
        16,
    ]


def test_a_speed_up_needs_both() -> None:
    assert figures.speed_up(INT8, BASELINE, 1) == 2
    assert figures.speed_up(INT8, None, 1) is figures.speed_up(stopped("tftrt-fp32"), BASELINE, 1) is None
    assert figures.speed_up(INT8, BASELINE, 2) is None


def test_only_a_variant_that_ran_has_a_proof() -> None:
    assert figures.proof(INT8) and figures.proof(replace(INT8, status=NO_GPU)) is None


def test_another_device_goes_by_its_gpu_or_else_by_its_label() -> None:
    results = summary(*MIXED)
    devices = {HERE: environment(CPU_MACHINE), "T4": environment(GPU_MACHINE), "L4": environment(CPU_MACHINE)}
    results = replace(results, environments=devices)
    assert [figures.device_name(results, device) for device in results.others] == ["NVIDIA T4", "L4"]


def test_a_variant_is_looked_up_on_this_machine() -> None:
    results = summary(replace(INT8, device="T4"), INT8)
    assert figures.find(results, "tflite-int8") is INT8
    assert figures.find(results, "tflite-fp32") is figures.find(results, None) is None
