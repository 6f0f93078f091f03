"""Engines built for real: TensorRT-RTX builds strongly typed networks, as TensorRT 10 and 11 do, without a GPU."""

import importlib.util
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import pytest

from stages.core.errors import PipelineError
from stages.runtimes import tensorrt, tensorrt_api
from stages.runtimes.contract import Job
from stages.runtimes.shared import onnx_precision
from stages.runtimes.tensorrt_api import Sizes
from tests.fixtures import models
from tests.fixtures.models import save_taught_onnx, save_tiny_onnx

SHAPE, CLASSES = (32, 32, 3), 6
OPTIONS: dict[str, Any] = {"tf32": True, "calibrator": "minmax", "reduce_range": True, "max_workspace_mib": None}
calibration = partial(models.calibration, shape=SHAPE)
pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("tensorrt_rtx_bindings"), reason="its wheels are for Linux on x86-64"
)


@pytest.fixture(autouse=True)
def only_rtx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the extra `gpu` has brought TensorRT 8.5."""
    monkeypatch.setattr(tensorrt_api, "MODULES", ("tensorrt_rtx_bindings",))
    tensorrt_api.log.cache_clear()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ONNX file of a convolution and a softmax."""
    folder = tmp_path_factory.mktemp("model")
    save_tiny_onnx(folder, SHAPE, CLASSES)
    return folder / "model.onnx"


def job(model: Path, target: Path, precision: str) -> Job:
    return Job(model, model, target, precision, SHAPE, calibration, (1, 8), OPTIONS)


@pytest.mark.parametrize("sizes", [Sizes(1, 1, 1), Sizes(1, 8, 32)])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_each_precision_builds(model: Path, tmp_path: Path, precision: str, sizes: Sizes) -> None:
    typed = tensorrt.typed(job(model, tmp_path, precision), tmp_path)
    plan = tensorrt_api.build(typed, precision, sizes, OPTIONS, b"")
    assert len(plan.engine) > 10_000
    constants = {constant.data_type for constant in onnx.load(typed).graph.initializer}
    assert (onnx.TensorProto.FLOAT in constants) is (precision == "fp32")


def test_a_graph_with_learned_ranges_builds(tmp_path: Path) -> None:
    source = save_taught_onnx(tmp_path, SHAPE, CLASSES, (-0.5, 2.0))
    (tmp_path / "work").mkdir()
    typed = tensorrt.typed(job(source, tmp_path, "int8"), tmp_path / "work")
    pairs = [node for node in onnx.load(typed).graph.node if node.op_type == "DequantizeLinear"]
    assert len(pairs) == 4  # two layers, each with its input and its weights, and none of the training's own
    plan = tensorrt_api.build(typed, "int8", Sizes(1, 8, 32), OPTIONS, b"")
    assert len(plan.engine) > 10_000


def test_types_come_from_the_graph_alone(model: Path, tmp_path: Path) -> None:
    trt = tensorrt_api.module()
    assert tensorrt_api.strongly_typed()
    assert not hasattr(trt.BuilderFlag, "FP16")
    typed = tensorrt.typed(job(model, tmp_path, "fp16"), tmp_path)
    builder = trt.Builder(tensorrt_api.log().listener)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert trt.OnnxParser(network, tensorrt_api.log().listener).parse(typed.read_bytes())
    layers = [network.get_layer(place) for place in range(network.num_layers)]
    weighted = [layer for layer in layers if layer.type in (trt.LayerType.CONVOLUTION, trt.LayerType.MATRIX_MULTIPLY)]
    assert [layer.get_output(0).dtype for layer in weighted] == [trt.float16] * 2
    assert (network.get_input(0).dtype, network.get_output(0).dtype) == (trt.float32, trt.float32)


def test_a_graph_quantised_for_a_cpu_is_refused_in_a_sentence(model: Path, tmp_path: Path) -> None:
    onnx_precision.quantise_for_cpu(job(model, tmp_path, "int8"), tmp_path / "cpu.onnx")
    with pytest.raises(
        PipelineError, match=r"TensorRT (cannot read the ONNX graph|built no engine for a batch of 1): \S"
    ):
        tensorrt_api.build(tmp_path / "cpu.onnx", "int8", Sizes(1, 1, 1), OPTIONS, b"")


def test_what_is_no_graph_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "none.onnx").write_bytes(b"no ONNX")
    with pytest.raises(PipelineError, match="TensorRT cannot read the ONNX graph: "):
        tensorrt_api.build(tmp_path / "none.onnx", "fp32", Sizes(1, 1, 1), OPTIONS, b"")


@pytest.mark.parametrize("plan", [b"", b"a plan from elsewhere"])
def test_a_plan_from_elsewhere_is_refused_in_a_sentence(plan: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        PipelineError, match=r"TensorRT-RTX 1\.\S+ refuses the engine: .+; build it here with `make repro`"
    ):
        tensorrt_api.opened(plan)
    assert capfd.readouterr() == ("", "")
