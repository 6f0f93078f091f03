from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from stages.runtimes import typed_onnx
from stages.runtimes.protocol import Job
from tests import helpers
from tests.helpers import save_tiny_onnx

SHAPE, CLASSES = (8, 8, 3), 6
example = partial(helpers.example, shape=SHAPE)
calibration = partial(helpers.calibration, shape=SHAPE)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ONNX file of a convolution and a softmax."""
    folder = tmp_path_factory.mktemp("model")
    save_tiny_onnx(folder, SHAPE, CLASSES)
    return folder / "model.onnx"


def answer(path: Path, images: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"]).run(None, {"images": images})[0]


def types(path: Path) -> Counter[str]:
    """How many constants there are of each type."""
    names = (onnx.TensorProto.DataType.Name(constant.data_type) for constant in onnx.load(path).graph.initializer)
    return Counter(names)


def quantised(model: Path, path: Path, calibrator: str = "minmax") -> Path:
    job = Job(model, model, path.parent, "int8", SHAPE, calibration, (1,), {"calibrator": calibrator})
    typed_onnx.quantise_for_tensorrt(job, model, path)
    return path


@pytest.mark.parametrize("calibrator", ["minmax", "percentile", "entropy"])
def test_tensorrt_gets_symmetric_pairs_at_the_inputs_of_layers_with_weights(
    model: Path, tmp_path: Path, calibrator: str
) -> None:
    graph = onnx.load(quantised(model, tmp_path / "q.onnx", calibrator)).graph
    constants = {constant.name: onnx.numpy_helper.to_array(constant) for constant in graph.initializer}
    pairs = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) == 8  # two layers, each with its input and its weights
    assert all(constants[node.input[2]].dtype == np.int8 and not constants[node.input[2]].any() for node in pairs)
    made_by = {name: node for node in graph.node for name in node.output}
    for layer in (node for node in graph.node if node.op_type in typed_onnx.WEIGHTED):
        assert [made_by[name].op_type for name in layer.input[:2]] == ["DequantizeLinear"] * 2
        scales = constants[made_by[layer.input[1]].input[1]]
        assert scales.shape == ({"Conv": 8, "MatMul": CLASSES}[layer.op_type],)  # one for each channel
    ends = {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    assert not ends & {name for node in graph.node if node.op_type in typed_onnx.WEIGHTED for name in node.output}
    gap = np.abs(answer(tmp_path / "q.onnx", example(4)) - answer(model, example(4))).max()
    assert 0 < gap < 0.05


def test_fp16_is_everything_but_input_and_output(model: Path, tmp_path: Path) -> None:
    typed_onnx.cast_to_fp16(model, tmp_path / "h.onnx")
    onnx.checker.check_model(str(tmp_path / "h.onnx"), full_check=True)
    assert types(tmp_path / "h.onnx")["FLOAT"] == 0 < types(tmp_path / "h.onnx")["FLOAT16"]
    gap = np.abs(answer(tmp_path / "h.onnx", example(4)) - answer(model, example(4))).max()
    assert 0 < gap < 2e-3
    assert answer(tmp_path / "h.onnx", example(4)).dtype == np.float32


def test_int8_with_fp16_around_it_is_one_graph_of_a_newer_operator_set(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "typed.onnx"
    typed_onnx.with_fp16_scales(model, path)
    typed_onnx.cast_to_fp16(quantised(path, tmp_path / "q.onnx"), path)
    onnx.checker.check_model(str(path), full_check=True)
    assert onnx.load(path).opset_import[0].version == 19
    assert types(path)["FLOAT"] == 0
    assert np.abs(answer(path, example(4)) - answer(model, example(4))).max() < 0.05


def test_every_calibration_image_widens_the_range(model: Path, tmp_path: Path) -> None:
    def images(size: int) -> Any:
        yield from (np.full((size, *SHAPE), value, np.float32) for value in (1, 254, 3))

    job = Job(model, model, tmp_path, "int8", SHAPE, images, (1,), {"calibrator": "minmax"})
    typed_onnx.quantise_for_tensorrt(job, model, tmp_path / "q.onnx")
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in onnx.load(tmp_path / "q.onnx").graph.initializer}
    assert max(float(array) for array in constants.values() if array.size == 1) >= 2  # 254 of 127 steps
