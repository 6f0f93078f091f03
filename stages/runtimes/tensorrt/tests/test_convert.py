"""Conversions on a GPU made of host memory, whose engines are ONNX Runtime's (fake_gpu.py)."""

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest

from stages.core.errors import PipelineError
from stages.runtimes.contract import infer
from stages.runtimes.tensorrt import api
from stages.runtimes.tensorrt import convert as module
from stages.runtimes.tensorrt.forms import FORMS
from stages.runtimes.tensorrt.tests.conftest import CLASSES, SHAPE, Convert, Model, loaded
from stages.runtimes.tensorrt.tests.fake_gpu import FakeGpu
from tests.fixtures import tiny

example = partial(tiny.example, shape=SHAPE)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-6), ("fp16", 2e-3), ("int8", 0.05)])
@pytest.mark.parametrize("engines", ["each", "profile"])
def test_every_precision_answers_as_the_model_does(
    model: Model, converted: Convert, tmp_path: Path, precision: str, tolerance: float, engines: str
) -> None:
    proof = converted(tmp_path / "out", precision, engines=engines)
    session = loaded(tmp_path / "out")
    for size in (4, 1, 3, 4):
        answer = infer(session, example(size))
        session.prove()
        assert answer.shape == (size, CLASSES)
        gap = np.abs(answer - model[1](example(size))).max()
        assert gap <= tolerance
        assert precision == "fp32" or gap > 0  # a graph of another precision answers otherwise, if little
    because = f"{FORMS[engines]}, as tensorrt.engines says"
    built = 2 if engines == "each" else 1
    assert (proof.kind, proof.notes) == ("engine_layers", (f"has {because}",))
    assert (proof.facts["tensorrt"], proof.facts["because"]) == ("TensorRT 8.5.3.1", because)
    assert proof.facts["engine_files"] == built
    assert proof.layers == dict.fromkeys(("int8", "fp16", "fp32"), 0) | {precision: 2 * built}


def test_all_that_is_known_of_a_build_is_a_flat_fact(converted: Convert, tmp_path: Path) -> None:
    facts = converted(tmp_path, "int8", engines="each", tf32=False, max_workspace_mib=3).facts
    names = {"tf32", "tensorrt", "form", "because", "engine_files", "engine_bytes"}
    names |= {f"options.{name}" for name in (
        "tf32", "calibrator", "engines", "cuda_graph", "pinned", "max_workspace_mib", "timing_cache",
    )}  # fmt: skip
    names |= {f"timing_cache.{name}" for name in ("used", "warm", "bytes", "failed")}
    names |= {f"engine_build_s.batch{size}" for size in (1, 4)}
    parts = ("file", "bytes", "layers.int8", "weights.int8")
    names |= {f"engine.batch{size}.{part}" for size in (1, 4) for part in parts}
    assert facts.keys() == names
    assert (facts["options.max_workspace_mib"], facts["options.cuda_graph"], facts["tf32"]) == (3, True, False)
    plans = {path.name: path.stat().st_size for path in tmp_path.glob("*.plan")}
    assert plans == {facts[f"engine.batch{size}.file"]: facts[f"engine.batch{size}.bytes"] for size in (1, 4)}
    assert facts["engine_bytes"] == sum(plans.values())
    assert all(value is None or isinstance(value, (bool, int, float, str)) for value in facts.values())


@pytest.mark.parametrize(
    ("precision", "flags"), [("fp32", set()), ("fp16", {"FP16", "PREFER"}), ("int8", {"FP16", "INT8"})]
)
def test_what_tensorrt_8_needs_besides_the_graph(
    converted: Convert, gpu: FakeGpu, tmp_path: Path, precision: str, flags: set[str]
) -> None:
    converted(tmp_path, precision, engines="profile", tf32=False, max_workspace_mib=3)
    (build,) = gpu.trt.builds
    assert build.config.flags == flags
    assert build.config.profiling_verbosity == "detailed"
    assert (build.config.workspace, build.config.profile.sizes) == (3 << 20, [1, 4, 4])
    halved = {layer.type for layer in build.network.layers if layer.precision == "float16"}
    assert halved == ({"Conv", "MatMul"} if precision == "fp16" else set())


def test_a_convolution_that_leaves_the_range_of_fp16_fails_before_an_engine_is_built(
    model: Model, converted: Convert, gpu: FakeGpu, tmp_path: Path
) -> None:
    """Its weights fit, and the ReLU6 behind it hides what it gives."""
    large = onnx.load(model[0])
    kernel = next(one for one in large.graph.initializer if len(one.dims) == 4)
    values = onnx.numpy_helper.to_array(kernel)
    kernel.CopyFrom(onnx.numpy_helper.from_array(60_000 * values / np.abs(values).max(), kernel.name))
    onnx.save(large, tmp_path / "large.onnx")
    with pytest.raises(PipelineError) as caught:
        converted(tmp_path / "out", "fp16", tmp_path / "large.onnx", engines="each")
    assert caught.value.code == "fp16-activations"
    assert "Conv2D" in str(caught.value.values["tensors"]) and gpu.trt.builds == []
    assert "fp16_images" not in converted(tmp_path / "fp32", "fp32", tmp_path / "large.onnx", engines="each").facts


def test_a_build_that_fails_says_why_and_leaves_nothing(converted: Convert, gpu: FakeGpu, tmp_path: Path) -> None:
    gpu.trt.refuses = True
    with pytest.raises(PipelineError) as caught:
        converted(tmp_path / "out", "fp16", engines="each")
    assert caught.value.code == "tensorrt-build"
    assert caught.value.values == {"batch_size": 1, "reason": "could not find any implementation for node conv1"}
    assert list((tmp_path / "out").iterdir()) == []


def test_a_graph_it_cannot_read_is_named(model: Model, converted: Convert, tmp_path: Path) -> None:
    newer = onnx.version_converter.convert_version(onnx.load(model[0]), 19)
    onnx.save(newer, tmp_path / "newer.onnx")
    with pytest.raises(PipelineError) as caught:
        converted(tmp_path / "out", "fp32", tmp_path / "newer.onnx")
    assert caught.value.code == "tensorrt-graph"
    assert caught.value.values == {"file": "newer.onnx", "reason": "opset 19 is not supported"}


def test_an_engine_without_its_precision_is_no_proof(
    converted: Convert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "typed", lambda job, options, folder: Path(job.onnx))  # nothing was quantized
    with pytest.raises(PipelineError) as caught:
        converted(tmp_path, "int8")
    assert caught.value.code == "tensorrt-no-layer"
    assert caught.value.values == {"batch": "1", "precision": "int8", "layers": {"fp32": 2}}


def test_both_forms_are_built_and_measured_and_one_is_kept(converted: Convert, gpu: FakeGpu, tmp_path: Path) -> None:
    proof = converted(tmp_path, "fp32")
    assert len(gpu.trt.builds) == 3
    assert proof.under("form_p50_ms").keys() == {f"{form}.batch{size}" for form in FORMS for size in (1, 4)}
    plans = {"each": {"batch1.plan", "batch4.plan"}, "profile": {"batch1-4.plan"}}[str(proof.facts["form"])]
    assert {path.name for path in tmp_path.iterdir() if path.name != "cache"} == {"engines.json", *plans}
    assert {f"{name}.plan" for name in proof.under("engine_build_s")} == plans
    assert {name.partition(".")[0] for name in proof.under("engine")} == {plan.removesuffix(".plan") for plan in plans}


def test_no_tensorrt_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "MODULES", ("no_such_tensorrt",))
    with pytest.raises(PipelineError) as caught:
        api.module()
    assert caught.value.code == "tensorrt-missing"
