from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from stages.contracts.closeness import Gap
from stages.contracts.preprocessing import Preprocessing
from stages.data import examples
from stages.model import door_onnx, efficientnet_lite, formats, onnx_export, saved_model
from stages.model.classifier import Classifier
from tests.fixtures.errors import named, refused

SHAPE = (4, 4, 3)
PREPARED = Preprocessing(*SHAPE[:2], "crop", 1.0, (1 / 255,) * 3, (0.0,) * 3, "rgb")
SHOWN = examples.read(PREPARED, Path("nowhere"))


Saved = tuple[Path, Callable[[Any], Any]]


@pytest.fixture(scope="module")
def saved(tiny_saved_model: Saved) -> Saved:
    """A SavedModel, and the same as a function of NumPy arrays."""
    return tiny_saved_model


@pytest.fixture(scope="module")
def exported(tf: Any, saved: Saved, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    onnx_export.write(tf, saved[0], path, "tiny", SHOWN)
    return path


@pytest.mark.parametrize("size", [1, 3])
def test_the_onnx_model_answers_as_the_savedmodel_does_at_any_batch_size(
    saved: Saved, exported: Path, size: int
) -> None:
    images = np.random.default_rng(size).normal(size=(size, *SHAPE)).astype(np.float32)
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(["probabilities"], {"images": images})[0], saved[1](images), atol=1e-6)


def test_its_interface_has_names_and_an_open_batch(exported: Path) -> None:
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    ((source,), (result,)) = model.graph.input, model.graph.output
    dims = [dim.dim_param or dim.dim_value for dim in source.type.tensor_type.shape.dim]
    assert (source.name, dims) == ("images", ["batch", *SHAPE])
    assert (result.name, result.type.tensor_type.shape.dim[0].dim_param) == ("probabilities", "batch")
    assert model.opset_import[0].version == onnx_export.OPSET


def test_a_tolerance_is_what_the_answers_may_be_apart(
    tf: Any, saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "difference", lambda *given: Gap(0.05, 0, 1, given[-1], SHOWN.words, SHOWN.images))
    found = onnx_export.write(tf, saved[0], tmp_path / "a.onnx", "tiny", SHOWN, most=0.1)
    assert (found.onnx_difference, found.compared_on) == (0.05, "12 images of noise")
    error = refused(onnx_export.write, tf, saved[0], tmp_path / "a.onnx", "tiny", SHOWN, 1.0, 0.01)
    assert named(error, "model", "difference") == ("onnx-differs", "tiny", 0.05)
    # As rounding does not explain it, unless logits are as large as that.
    assert refused(onnx_export.write, tf, saved[0], tmp_path / "a.onnx", "tiny", SHOWN).code == "onnx-differs"
    assert onnx_export.write(tf, saved[0], tmp_path / "a.onnx", "tiny", SHOWN, logits=1e6).onnx_difference == 0.05


def test_fake_quantisation_becomes_pairs_and_rounds_no_weights(tf: Any, tmp_path: Path) -> None:
    """ONNX Runtime's optimiser would: with one range for both channels nothing is left of the smaller one."""

    class Rounded(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(np.float32([[[[1000, 1]] * 3]]))

        @tf.function(input_signature=[tf.TensorSpec([None, *SHAPE], tf.float32, name="images")])
        def serve(self, images: Any) -> dict[str, Any]:
            narrow = tf.quantization.fake_quant_with_min_max_vars(images, 0.0, 0.25)
            found = tf.nn.conv2d(narrow, self.kernel, 1, "VALID")
            rounded = tf.quantization.fake_quant_with_min_max_vars(found, 0.0, 1.0)
            return {"probabilities": tf.reduce_mean(rounded, [1, 2])}

    module = Rounded()
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.serve})
    found = onnx_export.write(tf, tmp_path, tmp_path / "model.onnx", "rounded", SHOWN, most=0.06)
    assert found.nodes["QuantizeLinear"] == found.nodes["DequantizeLinear"] == 2


def built(tf: Any, layers: Any, kind: str) -> Any:
    """A network [n, 8, 8, 3] with one of the layers that Keras 3 writes in a way of its own."""
    images = layers.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same")(images)
    if kind == "exact GELU":
        x = layers.Activation("gelu")(x)
    elif kind == "groups":
        x = layers.Conv2D(8, 3, groups=4)(layers.Conv2D(8, 3, groups=8)(x))
    elif kind == "attention":
        x = layers.LayerNormalization()(layers.Reshape([64, 8])(x))
        x = layers.Reshape([8, 8, 8])(layers.MultiHeadAttention(2, 4)(x, x))
    elif kind == "group normalisation":
        x = layers.GroupNormalization(4)(x)
    else:
        x = layers.BatchNormalization()(layers.DepthwiseConv2D(3, use_bias=False)(x))
    network = tf.keras.Model(images, layers.Dense(3, "softmax")(layers.GlobalAveragePooling2D()(x)))
    for weights in network.weights:  # none may be 1 or 0, as those of normalisations are
        weights.assign(np.random.default_rng(len(weights.path)).uniform(0.5, 1.5, weights.shape))
    return network


@pytest.mark.parametrize("kind", ["exact GELU", "groups", "attention", "group normalisation", "depthwise"])
def test_what_keras_3_writes_its_own_way_has_an_onnx_model(tf: Any, tmp_path: Path, kind: str) -> None:
    network = built(tf, tf.keras.layers, kind)
    prepared = replace(PREPARED, height=8, width=8)
    model = Classifier(lambda x: network(x, training=False), formats.held(network), prepared, 3, 0)
    saved_model.save(tf, model, tmp_path / "saved")
    record = onnx_export.write(
        tf, tmp_path / "saved", tmp_path / "a.onnx", "tiny", examples.read(prepared, Path("none"))
    )
    assert record.onnx_difference is not None and record.onnx_difference < 1e-5
    written = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(written, full_check=True)
    assert {entry.domain: entry.version for entry in written.opset_import} == {"": onnx_export.OPSET}
    operations = {node.op_type for node in door_onnx.nodes(written)}
    assert not operations & {"Erfc", "PartitionedCall", "StatefulPartitionedCall"}
    if kind == "depthwise":
        assert not operations & {"Mul", "BatchNormalization"} and record.nodes["Add"] == 1  # behind the MatMul
    if kind == "groups":
        groups = [
            a.i for node in written.graph.node if node.op_type == "Conv" for a in node.attribute if a.name == "group"
        ]
        assert sorted(groups) == [1, 4, 8]


@pytest.mark.parametrize("name", ["lite0", "MobileNetV2"])
def test_batch_normalisation_is_part_of_each_convolution(tf: Any, tmp_path: Path, name: str) -> None:
    """Each Mul and Add that is left costs INT8 an operation more to round."""
    if name == "lite0":
        network = efficientnet_lite.lite0(tf, 64)
    else:
        network = tf.keras.applications.MobileNetV2(weights=None, input_shape=(64, 64, 3), alpha=0.35, classes=10)
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, value.shape) for value in layer.get_weights()])
    prepared = replace(PREPARED, height=64, width=64)
    model = Classifier(lambda x: network(x, training=False), formats.held(network), prepared, 10, 0)
    saved_model.save(tf, model, tmp_path / "saved")
    record = onnx_export.write(tf, tmp_path / "saved", tmp_path / "a.onnx", name, examples.read(prepared, Path("none")))
    assert record.onnx_difference is not None and record.onnx_difference < 1e-4
    assert "Mul" not in record.nodes and record.nodes["Conv"] > 40
    made = {node.output[0]: node.op_type for node in onnx.load(tmp_path / "a.onnx").graph.node}
    sums = [node for node in onnx.load(tmp_path / "a.onnx").graph.node if node.op_type == "Add"]
    assert sums and all({made.get(name) for name in node.input} <= {"Conv", "Add"} for node in sums)  # residuals


def test_equal_constants_under_other_names_give_the_same_graph() -> None:
    """As tf2onnx keeps any one of them."""

    def graph(kept: str, order: int) -> Any:
        constants = [onnx.numpy_helper.from_array(np.float32([1]), kept)]
        constants.insert(order, onnx.numpy_helper.from_array(np.float32([2]), "own"))
        nodes = [
            onnx.helper.make_node("Add", ["images", kept], ["a"], "add"),
            onnx.helper.make_node("Mul", ["a", "own"], ["b"], "mul"),
        ]
        nodes.append(onnx.helper.make_node("Sub", ["b", kept], ["c"], "sub"))
        found = onnx.helper.make_graph(nodes, "g", [], [], constants)
        onnx_export.name_constants(found)
        return found

    assert graph("min_7", 0) == graph("min_9", 1)
    assert [constant.name for constant in graph("min_7", 0).initializer] == ["add/constant1", "mul/constant1"]
    assert list(graph("min_7", 0).node[2].input) == ["b", "add/constant1"]
