import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stages.core.errors import PipelineError
from stages.runtimes import tftrt, tftrt_proof
from stages.runtimes.contract import Job


class Op:
    """A TRTEngineOp, as far as the proof looks."""

    def __init__(self, ranges: bytes = b"") -> None:
        self.attr = {"calibration_data": SimpleNamespace(s=ranges)}


def job(precision: str = "fp16", batch_sizes: tuple[int, ...] = (1, 8), **options: Any) -> Job:
    all_options = {
        "tf32": True, "minimum_segment_size": 3, "max_workspace_mib": None, "maximum_cached_engines": None,
        "dynamic_shapes": False, "profile_strategy": "Range",
    } | options  # fmt: skip
    source, target = Path("saved_model"), Path("target")
    return Job(source, Path("onnx"), target, precision, (4, 4, 3), lambda size: iter(()), batch_sizes, all_options)


def engine(batch_size: int, size: int = 100) -> dict[str, Any]:
    return {"input_shapes": [[batch_size, 4, 4, 3]], "bytes": size}


def test_engines_for_all_batch_sizes_pass() -> None:
    tftrt_proof.check_engines([Op()], {"e": [engine(8), engine(1)]}, job())
    tftrt_proof.check_engines([Op(b"ranges")], {"e": [engine(8), engine(1)]}, job("int8"))
    tftrt_proof.check_engines([Op()], {"e": [engine(1)]}, job(dynamic_shapes=True))


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
        tftrt_proof.check_engines(ops, engines, wanted)


def linked(monkeypatch: pytest.MonkeyPatch, linked: tuple[int, ...], loaded: tuple[int, ...]) -> None:
    """A TensorFlow linked with one TensorRT that loads another."""
    told = {"get_linked_tensorrt_version": lambda: linked, "get_loaded_tensorrt_version": lambda: loaded}
    package = SimpleNamespace(_pywrap_py_utils=SimpleNamespace(**told))
    monkeypatch.setitem(sys.modules, "tensorflow.compiler.tf2tensorrt", package)


@pytest.mark.parametrize("loaded", [(8, 4, 3), (8, 5, 3), (8, 10, 0)])
def test_the_same_tensorrt_or_a_newer_minor_one_will_do(
    monkeypatch: pytest.MonkeyPatch, loaded: tuple[int, ...]
) -> None:
    linked(monkeypatch, (8, 4, 3), loaded)
    found = tftrt_proof.tensorrt_versions()
    assert found == {"tensorrt_linked": "8.4.3", "tensorrt_loaded": ".".join(map(str, loaded))}


@pytest.mark.parametrize("loaded", [(8, 4, 2), (8, 2, 5), (7, 2, 3), (10, 0, 1)])
def test_a_tensorrt_that_tf_trt_does_not_take_is_named_before_it_is_tried(
    monkeypatch: pytest.MonkeyPatch, loaded: tuple[int, ...]
) -> None:
    linked(monkeypatch, (8, 4, 3), loaded)
    monkeypatch.setattr(tftrt, "tensorflow", lambda tf32: None)
    with pytest.raises(PipelineError) as caught:
        tftrt.convert(job())
    assert str(caught.value) == (
        f"TensorFlow was linked with TensorRT 8.4.3 and finds {'.'.join(map(str, loaded))}, but needs the same major "
        "version and none older: install the extra `gpu`"
    )


def test_engines_are_read_from_the_file_that_tf_trt_writes(tmp_path: Path) -> None:
    import tensorflow as tf

    instance = tftrt_proof._instance_class()
    path = tmp_path / "trt-serialized-engine.TRTEngineOp_0"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for size in (1, 8):
            shape = {"dim": [{"size": length} for length in (size, 4, 4, 3)]}
            writer.write(instance(input_shapes=[shape], serialized_engine=b"x" * size).SerializeToString())
    assert tftrt_proof.saved_engines(path) == [engine(1, 1), engine(8, 8)]


def test_a_file_without_engines_reads_as_empty(tmp_path: Path) -> None:
    (tmp_path / "none").write_bytes(b"")
    assert tftrt_proof.saved_engines(tmp_path / "none") == []


def test_a_profile_names_the_steps_of_a_call() -> None:
    import tensorflow as tf

    def call() -> None:
        with tf.profiler.experimental.Trace("TRTEngineOp::BuildEngine", engine=1):
            tf.zeros(3) + 1

    assert tftrt_proof.profiled_steps(tf, call) >= {"TRTEngineOp::BuildEngine"}
    assert not tftrt_proof.profiled_steps(tf, lambda: tf.zeros(3) + 1) & tftrt_proof.FALLBACKS
