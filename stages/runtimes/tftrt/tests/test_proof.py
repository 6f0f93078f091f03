import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stages.contracts.conversion import ConvertJob
from stages.core.errors import PipelineError
from stages.runtimes.tftrt import convert as module
from stages.runtimes.tftrt import profile, proof
from stages.runtimes.tftrt.options import Options
from stages.runtimes.tftrt.proof import Engine
from tests.fixtures import tiny


class Op:
    """A TRTEngineOp, as far as the proof looks."""

    def __init__(self, ranges: bytes = b"") -> None:
        self.attr = {"calibration_data": SimpleNamespace(s=ranges)}


def job(precision: str = "fp16", batch_sizes: tuple[int, ...] = (1, 8)) -> ConvertJob:
    prepared = tiny.preprocessing((4, 4, 3))
    return ConvertJob(
        "saved_model", "onnx", "target", precision, batch_sizes, "calibration", prepared, {}, tiny.UNASKED
    )


def engine(batch_size: int, size: int = 100) -> Engine:
    return Engine(((batch_size, 4, 4, 3),), size)


def test_engines_for_all_batch_sizes_pass() -> None:
    proof.check_engines([Op()], {"e": [engine(8), engine(1)]}, job(), Options())
    proof.check_engines([Op(b"ranges")], {"e": [engine(8), engine(1)]}, job("int8"), Options())
    proof.check_engines([Op()], {"e": [engine(1)]}, job(), Options(dynamic_shapes=True))


@pytest.mark.parametrize(
    ("ops", "engines", "requested", "code", "values"),
    [
        ([], {}, job(), "tftrt-nothing-converted", {"key": "tftrt.minimum_segment_size"}),
        ([Op()], {}, job(), "tftrt-engines-missing", {"built": 0, "parts": 1}),
        ([Op()], {"e": []}, job(), "tftrt-engines-missing", {"built": 0, "parts": 1}),
        ([Op()], {"e": [engine(1, 0), engine(8)]}, job(), "tftrt-engines-missing", {"built": 0, "parts": 1}),
        ([Op(), Op()], {"e": [engine(1), engine(8)]}, job(), "tftrt-engines-missing", {"built": 1, "parts": 2}),
        ([Op()], {"e": [engine(8)]}, job(), "tftrt-batch-missing", {"engine": "e", "batch_sizes": [1]}),
        ([Op(b"ranges"), Op()], {"e": [engine(1)], "f": [engine(1)]}, job("int8", (1,)), "tftrt-no-ranges",
         {"key": "calibration.images"}),
    ],
)  # fmt: skip
def test_what_tensorrt_left_undone_is_an_error(
    ops: list[Op], engines: Any, requested: ConvertJob, code: str, values: dict[str, Any]
) -> None:
    with pytest.raises(PipelineError) as caught:
        proof.check_engines(ops, engines, requested, Options())
    assert (caught.value.code, caught.value.values) == (code, values)


def link(monkeypatch: pytest.MonkeyPatch, linked: tuple[int, ...], loaded: tuple[int, ...]) -> None:
    """A TensorFlow linked with one TensorRT that loads another."""
    versions = {"get_linked_tensorrt_version": lambda: linked, "get_loaded_tensorrt_version": lambda: loaded}
    package = SimpleNamespace(_pywrap_py_utils=SimpleNamespace(**versions))
    monkeypatch.setitem(sys.modules, "tensorflow.compiler.tf2tensorrt", package)


@pytest.mark.parametrize("loaded", [(8, 4, 3), (8, 5, 3), (8, 10, 0)])
def test_the_same_tensorrt_or_a_newer_minor_one_will_do(
    monkeypatch: pytest.MonkeyPatch, loaded: tuple[int, ...]
) -> None:
    link(monkeypatch, (8, 4, 3), loaded)
    assert proof.tensorrt_versions() == {
        "tensorrt_linked": "8.4.3", "tensorrt_loaded": ".".join(map(str, loaded)),
    }  # fmt: skip


@pytest.mark.parametrize("loaded", [(8, 4, 2), (8, 2, 5), (7, 2, 3), (10, 0, 1)])
def test_a_tensorrt_that_tf_trt_does_not_take_is_named_before_it_is_tried(
    monkeypatch: pytest.MonkeyPatch, loaded: tuple[int, ...]
) -> None:
    link(monkeypatch, (8, 4, 3), loaded)
    monkeypatch.setattr(module, "tensorflow", lambda tf32: None)
    with pytest.raises(PipelineError) as caught:
        module.convert(job(), Options())
    assert caught.value.code == "tftrt-versions"
    assert caught.value.values == {"tensorrt_linked": "8.4.3", "tensorrt_loaded": ".".join(map(str, loaded))}


def test_engines_are_read_from_the_file_that_tf_trt_writes(tmp_path: Path) -> None:
    import tensorflow as tf

    instance = proof._instance_class()
    path = tmp_path / "trt-serialized-engine.TRTEngineOp_0"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for size in (1, 8):
            shape = {"dim": [{"size": length} for length in (size, 4, 4, 3)]}
            writer.write(instance(input_shapes=[shape], serialized_engine=b"x" * size).SerializeToString())
    assert proof.saved_engines(path) == [engine(1, 1), engine(8, 8)]


def test_a_file_without_engines_reads_as_empty(tmp_path: Path) -> None:
    (tmp_path / "none").write_bytes(b"")
    assert proof.saved_engines(tmp_path / "none") == []


def test_engines_become_flat_facts() -> None:
    built = {"TRTEngineOp_0": [engine(1, 7), Engine(((8, 4, 4, 3), (8, 2)), 9)]}
    assert proof.sizes(built) == {
        "engine_files": 1,
        "engine.TRTEngineOp_0.batch1.bytes": 7,
        "engine.TRTEngineOp_0.batch1.inputs": "1x4x4x3",
        "engine.TRTEngineOp_0.batch8.bytes": 9,
        "engine.TRTEngineOp_0.batch8.inputs": "8x4x4x3, 8x2",
    }


def test_the_graph_tells_which_share_of_its_nodes_is_in_engines() -> None:
    def part(name: str, nodes: int) -> SimpleNamespace:
        return SimpleNamespace(signature=SimpleNamespace(name=name), node_def=range(nodes))

    engines = [SimpleNamespace(op="TRTEngineOp", name=name) for name in ("a", "b")]
    outside = [SimpleNamespace(op=op, name=op) for op in ("Cast", "Cast", "Placeholder")]
    parts = [part("a_native_segment", 4), part("b_native_segment", 2), part("other", 9)]
    graph = SimpleNamespace(node=[*engines, *outside], library=SimpleNamespace(function=parts))
    assert proof.shares(graph, engines) == {
        "engine_ops": 2, "nodes_in_engines": 6, "share_in_engines": 6 / 9,
        "ops_outside.Cast": 2, "ops_outside.Placeholder": 1,
    }  # fmt: skip


def test_a_profile_names_the_steps_of_a_call() -> None:
    import tensorflow as tf

    def call() -> None:
        with tf.profiler.experimental.Trace("TRTEngineOp::BuildEngine", engine=1):
            tf.zeros(3) + 1

    assert profile.steps(tf, call) >= {"TRTEngineOp::BuildEngine"}
    assert not profile.steps(tf, lambda: tf.zeros(3) + 1) & profile.FALLBACKS
