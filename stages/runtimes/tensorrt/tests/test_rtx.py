"""Engines built for real: TensorRT-RTX builds strongly typed networks, as TensorRT 10 and 11 do, without a GPU."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from stages.contracts.conversion import ConvertJob
from stages.core.errors import PipelineError
from stages.runtimes.shared import onnx_precision
from stages.runtimes.tensorrt import api
from stages.runtimes.tensorrt.api import Sizes
from stages.runtimes.tensorrt.convert import typed
from stages.runtimes.tensorrt.options import Options
from tests.fixtures import tiny

SHAPE, CLASSES = (32, 32, 3), 6
pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("tensorrt_rtx_bindings"), reason="its wheels are for Linux on x86-64"
)
Job = Callable[..., ConvertJob]


@pytest.fixture(autouse=True)
def only_rtx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the extra `gpu` has brought TensorRT 8.5."""
    monkeypatch.setattr(api, "MODULES", ("tensorrt_rtx_bindings",))
    api.log.cache_clear()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ONNX file of a convolution and a softmax."""
    folder = tmp_path_factory.mktemp("model")
    tiny.save_tiny_onnx(folder, SHAPE, CLASSES)
    return folder / "model.onnx"


@pytest.fixture
def job(large: Path, tmp_path: Path) -> Job:
    """A conversion of that model, or of another one, into the test's folder."""
    images = tiny.calibration_images(tmp_path / "images", SHAPE)

    def make(precision: str, source: Path = large) -> ConvertJob:
        return tiny.convert_job(source, tmp_path, precision, images, SHAPE, (1, 8))

    return make


@pytest.mark.parametrize("sizes", [Sizes(1, 1, 1), Sizes(1, 8, 32)])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_each_precision_builds(job: Job, tmp_path: Path, precision: str, sizes: Sizes) -> None:
    graph = typed(job(precision), Options(), tmp_path)
    plan = api.build(graph, precision, sizes, Options(), b"")
    assert len(plan.engine) > 10_000
    constants = {constant.data_type for constant in onnx.load(graph).graph.initializer}
    assert (onnx.TensorProto.FLOAT in constants) is (precision == "fp32")


def test_a_graph_with_learned_ranges_builds(job: Job, tmp_path: Path) -> None:
    source = tiny.save_taught_onnx(tmp_path, SHAPE, CLASSES, (-0.5, 2.0))
    (tmp_path / "work").mkdir()
    graph = typed(job("int8", source), Options(), tmp_path / "work")
    pairs = [node for node in onnx.load(graph).graph.node if node.op_type == "DequantizeLinear"]
    assert len(pairs) == 4  # two layers, each with its input and its weights, and none of the training's
    plan = api.build(graph, "int8", Sizes(1, 8, 32), Options(), b"")
    assert len(plan.engine) > 10_000


def test_types_come_from_the_graph_alone(job: Job, tmp_path: Path) -> None:
    trt = api.module()
    assert api.strongly_typed()
    assert not hasattr(trt.BuilderFlag, "FP16")
    graph = typed(job("fp16"), Options(), tmp_path)
    builder = trt.Builder(api.log().listener)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert trt.OnnxParser(network, api.log().listener).parse(graph.read_bytes())
    layers = [network.get_layer(place) for place in range(network.num_layers)]
    weighted = [layer for layer in layers if layer.type in (trt.LayerType.CONVOLUTION, trt.LayerType.MATRIX_MULTIPLY)]
    assert [layer.get_output(0).dtype for layer in weighted] == [trt.float16] * 2
    assert (network.get_input(0).dtype, network.get_output(0).dtype) == (trt.float32, trt.float32)


def test_a_graph_quantized_for_a_cpu_is_refused_in_a_sentence(job: Job, tmp_path: Path) -> None:
    onnx_precision.quantize_for_cpu(job("int8"), tmp_path / "cpu.onnx", "minmax", True)
    with pytest.raises(PipelineError) as caught:
        api.build(tmp_path / "cpu.onnx", "int8", Sizes(1, 1, 1), Options(), b"")
    assert caught.value.code in ("tensorrt-graph", "tensorrt-build")
    assert str(caught.value.values["reason"]).strip() not in ("", "it gave no reason")


def test_what_is_no_graph_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "none.onnx").write_bytes(b"no ONNX")
    with pytest.raises(PipelineError) as caught:
        api.build(tmp_path / "none.onnx", "fp32", Sizes(1, 1, 1), Options(), b"")
    assert (caught.value.code, caught.value.values["file"]) == ("tensorrt-graph", "none.onnx")


@pytest.mark.parametrize("plan", [b"", b"a plan from elsewhere"])
def test_a_plan_from_elsewhere_is_refused_in_a_sentence(plan: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PipelineError) as caught:
        api.opened(plan)
    assert caught.value.code == "tensorrt-refused"
    assert str(caught.value.values["version"]).startswith("TensorRT-RTX 1.")
    assert caught.value.values["reason"] not in ("", "it gave no reason")
    assert capfd.readouterr() == ("", "")
