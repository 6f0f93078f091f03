from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stages.common.errors import PipelineError
from stages.runtimes import tftrt
from stages.runtimes.protocol import Job

Machine = dict[str, Any]


def with_gpu(machine: Machine, capability: str) -> Machine:
    return machine | {"gpus": [{"name": "a GPU", "compute_capability": capability, "memory_bytes": 1}]}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_nothing_is_missing_on_a_machine_that_has_all(machine: Machine, precision: str) -> None:
    assert tftrt.unavailable(precision, machine) is None


def test_no_gpu_is_the_first_reason(no_gpu: Machine) -> None:
    nothing = no_gpu | {"tensorrt": {"linked": None, "loaded": None, "missing": "libnvinfer.so.8"}}
    assert tftrt.unavailable("int8", nothing) == "no NVIDIA GPU (no NVIDIA driver answers on this machine)"


def test_a_tensorflow_without_tensorrt_is_named(machine: Machine) -> None:
    plain = machine | {"tensorflow": {"version": "2.14.1", "built_with_tensorrt": False, "built_for_cuda": None}}
    assert tftrt.unavailable("fp32", plain) == (
        "this TensorFlow was built without TensorRT: install the extra `gpu` on Linux"
    )


@pytest.mark.parametrize(
    ("python", "hint"), [("3.10", ""), ("3.11", " (its wheel exists for Python 3.10, not for 3.11)")]
)
def test_a_missing_library_is_named_with_the_python_that_has_it(machine: Machine, python: str, hint: str) -> None:
    tensorrt = {"linked": "8.5.3.1", "loaded": None, "missing": "libnvinfer.so.8: cannot open shared object file"}
    assert tftrt.unavailable("fp32", machine | {"tensorrt": tensorrt, "python": python}) == (
        f"the TensorRT library was not found{hint}: libnvinfer.so.8: cannot open shared object file"
    )


# NVIDIA's support matrix of TensorRT 8.5, section "hardware and precision".
@pytest.mark.parametrize(
    ("capability", "fp16", "int8"),
    [
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


# The proof of conversion.


class Op:
    """A TRTEngineOp, as far as the proof looks."""

    def __init__(self, ranges: bytes = b"") -> None:
        self.attr = {"calibration_data": SimpleNamespace(s=ranges)}


def job(precision: str = "fp16", batch_sizes: tuple[int, ...] = (1, 8), **options: Any) -> Job:
    all_options = {
        "tf32": True, "minimum_segment_size": 3, "max_workspace_mib": None, "maximum_cached_engines": None,
        "dynamic_shapes": False, "profile_strategy": "Range",
    } | options  # fmt: skip
    return Job(
        Path("saved_model"), Path("target"), precision, (4, 4, 3), lambda size: iter(()), batch_sizes, all_options
    )


def engine(batch_size: int, size: int = 100) -> dict[str, Any]:
    return {"input_shapes": [[batch_size, 4, 4, 3]], "bytes": size}


def test_engines_for_all_batch_sizes_pass() -> None:
    tftrt.check_engines([Op()], {"e": [engine(8), engine(1)]}, job())
    tftrt.check_engines([Op(b"ranges")], {"e": [engine(8), engine(1)]}, job("int8"))
    tftrt.check_engines([Op()], {"e": [engine(1)]}, job(dynamic_shapes=True))


@pytest.mark.parametrize(
    ("ops", "engines", "wanted", "reason"),
    [
        ([], {}, job(), "converted no part of the graph"),
        ([Op()], {}, job(), "an engine for 0 of the 1 parts"),
        ([Op()], {"e": []}, job(), "an engine for 0 of the 1 parts"),
        ([Op()], {"e": [engine(1, 0), engine(8)]}, job(), "an engine for 0 of the 1 parts"),
        ([Op(), Op()], {"e": [engine(1), engine(8)]}, job(), "an engine for 1 of the 2 parts"),
        ([Op()], {"e": [engine(8)]}, job(), "e holds no engine for a batch of 1"),
        ([Op(b"ranges"), Op()], {"e": [engine(1)], "f": [engine(1)]}, job("int8", (1,)), "without ranges"),
    ],
)
def test_what_tensorrt_left_undone_is_told(ops: list[Op], engines: Any, wanted: Job, reason: str) -> None:
    with pytest.raises(PipelineError, match=reason):
        tftrt.check_engines(ops, engines, wanted)


def test_fewer_cached_engines_than_batch_sizes_are_refused() -> None:
    with pytest.raises(PipelineError, match=r"maximum_cached_engines is 1, but there are 2 batch sizes \(1, 8\)"):
        tftrt.convert(job(maximum_cached_engines=1))


def test_engines_are_read_from_the_file_that_tf_trt_writes(tmp_path: Path) -> None:
    import tensorflow as tf

    instance = tftrt._instance_class()
    path = tmp_path / "trt-serialized-engine.TRTEngineOp_0"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for size in (1, 8):
            shape = {"dim": [{"size": length} for length in (size, 4, 4, 3)]}
            writer.write(instance(input_shapes=[shape], serialized_engine=b"x" * size).SerializeToString())
    assert tftrt.saved_engines(path) == [engine(1, 1), engine(8, 8)]


def test_a_file_without_engines_reads_as_empty(tmp_path: Path) -> None:
    (tmp_path / "none").write_bytes(b"")
    assert tftrt.saved_engines(tmp_path / "none") == []
