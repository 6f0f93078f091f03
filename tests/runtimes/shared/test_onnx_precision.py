from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from stages.contracts.conversion import ConvertJob
from stages.runtimes.shared import onnx_precision
from tests.fixtures import tiny

SHAPE, CLASSES = (8, 8, 3), 6
example = partial(tiny.example, shape=SHAPE)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ONNX file of a convolution and a softmax."""
    folder = tmp_path_factory.mktemp("model")
    tiny.save_tiny_onnx(folder, SHAPE, CLASSES)
    return folder / "model.onnx"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.calibration_images(tmp_path_factory.mktemp("calibration") / "images", SHAPE)


def int8_job(source: Path, images: Path) -> ConvertJob:
    prepared = tiny.preprocessing(SHAPE)
    return ConvertJob("unused", str(source), "unused", "int8", (1,), str(images), prepared, {}, tiny.UNASKED)


def answer(path: Path, images: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"]).run(None, {"images": images})[0]


def types(path: Path) -> Counter[str]:
    """How many constants there are of each type."""
    names = (onnx.TensorProto.DataType.Name(constant.data_type) for constant in onnx.load(path).graph.initializer)
    return Counter(names)


def quantized(model: Path, images: Path, path: Path, calibrator: str = "minmax") -> Path:
    onnx_precision.quantize_for_tensorrt(int8_job(model, images), model, path, calibrator)
    return path


@pytest.mark.parametrize("calibrator", ["minmax", "percentile", "entropy"])
def test_tensorrt_gets_symmetric_pairs_at_the_inputs_of_layers_with_weights(
    model: Path, images: Path, tmp_path: Path, calibrator: str
) -> None:
    graph = onnx.load(quantized(model, images, tmp_path / "q.onnx", calibrator)).graph
    constants = {constant.name: onnx.numpy_helper.to_array(constant) for constant in graph.initializer}
    pairs = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) == 8  # two layers, each with its input and its weights
    assert all(constants[node.input[2]].dtype == np.int8 and not constants[node.input[2]].any() for node in pairs)
    made_by = {name: node for node in graph.node for name in node.output}
    for layer in (node for node in graph.node if node.op_type in onnx_precision.WEIGHTED):
        assert [made_by[name].op_type for name in layer.input[:2]] == ["DequantizeLinear"] * 2
        scales = constants[made_by[layer.input[1]].input[1]]
        assert scales.shape == ({"Conv": 8, "MatMul": CLASSES}[layer.op_type],)  # one for each channel
    ends = {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    assert not ends & {name for node in graph.node if node.op_type in onnx_precision.WEIGHTED for name in node.output}
    gap = np.abs(answer(tmp_path / "q.onnx", example(4)) - answer(model, example(4))).max()
    assert 0 < gap < 0.05


def test_fp16_is_everything_but_input_and_output(model: Path, tmp_path: Path) -> None:
    onnx_precision.cast_to_fp16(model, tmp_path / "h.onnx")
    onnx.checker.check_model(str(tmp_path / "h.onnx"), full_check=True)
    assert types(tmp_path / "h.onnx")["FLOAT"] == 0 < types(tmp_path / "h.onnx")["FLOAT16"]
    gap = np.abs(answer(tmp_path / "h.onnx", example(4)) - answer(model, example(4))).max()
    assert 0 < gap < 2e-3
    assert answer(tmp_path / "h.onnx", example(4)).dtype == np.float32


def test_int8_with_fp16_around_it_is_one_graph_of_a_newer_operator_set(
    model: Path, images: Path, tmp_path: Path
) -> None:
    path = tmp_path / "typed.onnx"
    onnx_precision.with_fp16_scales(model, path)
    onnx_precision.cast_to_fp16(quantized(path, images, tmp_path / "q.onnx"), path)
    onnx.checker.check_model(str(path), full_check=True)
    assert onnx.load(path).opset_import[0].version == 19
    assert types(path)["FLOAT"] == 0
    assert np.abs(answer(path, example(4)) - answer(model, example(4))).max() < 0.05


def test_every_calibration_image_widens_the_range(model: Path, tmp_path: Path) -> None:
    images = tiny.write_images(tmp_path / "images", *(np.full(SHAPE, value) for value in (1, 254, 3)))
    job = replace(int8_job(model, images), preprocessing=tiny.preprocessing(SHAPE, scale=1.0, offset=0.0))
    onnx_precision.quantize_for_tensorrt(job, model, tmp_path / "q.onnx", "minmax")
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in onnx.load(tmp_path / "q.onnx").graph.initializer}
    assert max(float(array) for array in constants.values() if array.size == 1) >= 2  # 254 of 127 steps


def constants(path: Path) -> dict[str, Any]:
    return {constant.name: onnx.numpy_helper.to_array(constant) for constant in onnx.load(path).graph.initializer}


def pair(tensor: str, result: str, scale: str, zero: str) -> list[Any]:
    """The nodes that round a tensor."""
    make = onnx.helper.make_node
    return [
        make("QuantizeLinear", [tensor, scale, zero], [f"{result} quantized"]),
        make("DequantizeLinear", [f"{result} quantized", scale, zero], [result]),
    ]


SCALES = {"fine": np.float32(0.01), "coarse": np.float32(0.5)}
ZEROS = {"middle": np.int8(0), "low": np.int8(-28), "none": np.uint8(0), "high": np.uint8(155)}


def graph(nodes: list[Any], *results: str) -> Any:
    """A model from `images` to `results` with these scales and zero points."""
    shaped = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 4]) for name in ("images", *results)
    ]
    values = [onnx.numpy_helper.from_array(np.array(value), name) for name, value in (SCALES | ZEROS).items()]
    made = onnx.helper.make_graph(nodes, "g", shaped[:1], shaped[1:], values)
    return onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def lifted(model: Any) -> dict[str, tuple[float, float]]:
    """The ranges of the pairs, which are gone from a graph that is still whole."""
    found = onnx_precision.lift_ranges(model.graph)
    onnx.checker.check_model(model, full_check=True)
    assert not [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    return {name: tuple(map(float, data.range_value)) for name, data in found.items()}


def computed(model: Any, images: Any) -> list[Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})  # type: ignore[no-any-return]


IMAGES = np.random.default_rng(0).uniform(-9, 9, (3, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("scale", "zero", "expected"),
    [
        ("fine", "middle", (-1.28, 1.27)),
        ("coarse", "low", (-50, 77.5)),
        ("fine", "none", (0, 2.55)),
        ("coarse", "high", (-77.5, 50)),
    ],
)
def test_a_range_is_that_of_all_steps_from_the_zero_point(scale: str, zero: str, expected: tuple[float, float]) -> None:
    node = onnx.helper.make_node("Relu", ["rounded"], ["result"])
    model = graph([*pair("images", "rounded", scale, zero), node], "result")
    assert lifted(model) == {"images": pytest.approx(expected)}
    (found,) = computed(model, IMAGES)
    np.testing.assert_array_equal(found, np.maximum(IMAGES, 0))


def test_pairs_that_share_scale_and_zero_point_have_a_range_each() -> None:
    make = onnx.helper.make_node
    model = graph(
        [
            *pair("images", "a", "fine", "high"), make("Neg", ["a"], ["b"]), *pair("b", "c", "fine", "high"),
            make("Abs", ["c"], ["d"]), *pair("d", "e", "coarse", "high"), make("Neg", ["e"], ["result"]),
        ],
        "result",
    )  # fmt: skip
    assert lifted(model) == {
        "images": pytest.approx((-1.55, 1)), "b": pytest.approx((-1.55, 1)), "d": pytest.approx((-77.5, 50))
    }  # fmt: skip
    np.testing.assert_array_equal(computed(model, IMAGES)[0], -np.abs(IMAGES))


def test_every_consumer_gets_the_tensor_itself() -> None:
    """Of the rounded tensor, of another pair at the same one, and of the tensor beside its pair."""
    make = onnx.helper.make_node
    rounded = [*pair("images", "a", "fine", "middle"), *pair("images", "b", "fine", "middle")]
    uses = [make("Neg", ["a"], ["x"]), make("Sum", ["a", "b", "images", "x"], ["result"])]
    model = graph([*rounded, *uses], "result")
    assert lifted(model) == {"images": pytest.approx((-1.28, 1.27))}
    np.testing.assert_allclose(computed(model, IMAGES)[0], 2 * IMAGES, rtol=1e-6)


def test_a_pair_after_another_leaves_the_graph_whole() -> None:
    node = onnx.helper.make_node("Neg", ["twice"], ["result"])
    chained = [*pair("images", "once", "coarse", "middle"), *pair("once", "twice", "fine", "middle")]
    model = graph([*chained, node], "result")
    assert lifted(model) == {"images": pytest.approx((-1.28, 1.27))}
    np.testing.assert_array_equal(computed(model, IMAGES)[0], -IMAGES)


def test_what_moves_values_between_the_two_of_a_pair_stays() -> None:
    """As tf2onnx leaves a transposition there, before a reshape."""
    rounding, back = pair("images", "result", "fine", "middle")
    rounding.output[0] = "steps"
    back.input[0] = "moved"
    model = graph([rounding, onnx.helper.make_node("Transpose", ["steps"], ["moved"], perm=[0, 1]), back], "result")
    model = onnx.shape_inference.infer_shapes(model)  # which notes the types of then
    assert lifted(model) == {name: pytest.approx((-1.28, 1.27)) for name in ("images", "moved")}
    np.testing.assert_array_equal(computed(model, IMAGES)[0], IMAGES)


def test_layers_that_only_move_values_have_one_range_before_and_behind_them() -> None:
    make = onnx.helper.make_node
    model = graph(
        [
            *pair("images", "a", "coarse", "middle"), make("Transpose", ["a"], ["b"]), make("Flatten", ["b"], ["c"]),
            make("Neg", ["c"], ["d"]), make("Transpose", ["d"], ["e"]), *pair("e", "f", "fine", "none"),
            make("Abs", ["f"], ["g"]), make("Flatten", ["g"], ["h"]), *pair("h", "i", "fine", "high"),
            make("Add", ["i", "g"], ["result"]),
        ],
        "result",
    )  # fmt: skip
    learned = {"images": (-64, 63.5), "e": (0, 2.55), "h": (-1.55, 1)}
    # Not g: what else reads it is not rounded.
    assert lifted(model) == {
        name: pytest.approx(ends)
        for name, ends in (learned | dict.fromkeys("bc", (-64, 63.5)) | {"d": (0, 2.55)}).items()
    }


def test_what_the_graph_answers_keeps_its_name_where_a_pair_made_it() -> None:
    node = onnx.helper.make_node("Neg", ["images"], ["x"])
    model = graph(
        [node, *pair("x", "result", "fine", "middle"), *pair("images", "other", "fine", "none")], "result", "other"
    )
    assert lifted(model) == {"x": pytest.approx((-1.28, 1.27)), "images": pytest.approx((0, 2.55))}
    found = computed(model, IMAGES)
    np.testing.assert_array_equal(found[0], -IMAGES)
    np.testing.assert_array_equal(found[1], IMAGES)


def test_a_graph_without_pairs_stays_as_it_is(model: Path) -> None:
    loaded = onnx.load(model)
    before = loaded.SerializeToString(deterministic=True)
    assert onnx_precision.lift_ranges(loaded.graph) == {}
    assert loaded.SerializeToString(deterministic=True) == before


def test_every_runtime_gets_the_range_that_was_learned(images: Path, tmp_path: Path) -> None:
    """ONNX Runtime as it is, and TensorRT the symmetric one around it; calibration saw another."""
    source = tiny.save_taught_onnx(tmp_path, SHAPE, CLASSES, (-0.5, 2.0))
    job = int8_job(source, images)
    onnx_precision.quantize_for_cpu(job, tmp_path / "cpu.onnx", "minmax", reduce_range=False)
    onnx_precision.quantize_for_tensorrt(job, source, tmp_path / "rt.onnx", "minmax")
    assert rounding(tmp_path / "cpu.onnx") == (pytest.approx(2.5 / 255), 51)
    assert rounding(tmp_path / "rt.onnx") == (pytest.approx(2.0 / 127, rel=0.01), 0)


def rounding(path: Path) -> tuple[float, int]:
    """Scale and zero point of what the last layer with weights takes."""
    graph, values = onnx.load(path).graph, constants(path)
    made_by = {name: node for node in graph.node for name in node.output}
    (layer,) = (node for node in graph.node if node.op_type == "MatMul")
    _, scale, zero = made_by[layer.input[0]].input
    return float(values[scale]), int(values[zero])
