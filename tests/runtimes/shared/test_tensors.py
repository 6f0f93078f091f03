"""What flows between the layers of a SavedModel and of its ONNX file: where a NaN begins, and the largest values."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.contracts.preprocessing import Floats
from stages.model import formats, onnx_export
from stages.runtimes.onnxruntime.session import ONNXRuntimeSession
from stages.runtimes.shared import saved_model, tensors
from stages.runtimes.shared.saved_model import SavedModelSession
from stages.runtimes.shared.tensors import Flow

SHAPE = (4, 4, 3)
# Of a flat image the contrast is 0, and 0 / 0 is no number.
FLAT, LIGHT, DARK = (np.full((1, *SHAPE), value, np.float32) for value in (7, 200, 0))
LIGHT[0, 0, 0] = DARK[0, 0, 0] = 100


@pytest.fixture(scope="module")
def by_contrast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel that divides each image by its own contrast, after a layer of large values, beside its ONNX file."""
    from stages.core.tensorflow import tensorflow

    tf, folder = tensorflow(), tmp_path_factory.mktemp("contrast")
    layers, ops = tf.keras.layers, tf.keras.ops
    images = tf.keras.Input(SHAPE, name="image")
    start = tf.keras.initializers.Constant(np.diag([1000.0] * 3)[None, None])
    large = layers.Conv2D(3, 1, name="large", kernel_initializer=start)(images)
    centred = large - ops.mean(large, axis=[1, 2, 3], keepdims=True)
    divided = centred / ops.sqrt(ops.mean(ops.square(centred), axis=[1, 2, 3], keepdims=True))
    network = tf.keras.Model(images, layers.Softmax(name="head")(layers.GlobalAveragePooling2D(name="pooled")(divided)))

    @tf.function(input_signature=[tf.TensorSpec([None, *SHAPE], tf.float32, name="images")])  # type: ignore[untyped-decorator]
    def serve(given: Any) -> dict[str, Any]:
        return {"probabilities": network(given, training=False)}

    module = tf.Module()
    module.weights, module.serve = formats.held(network), serve
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    saved = tf.saved_model.load(str(folder))  # its variables live as long as this
    model = onnx_export.export(saved.signatures["serving_default"])
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder


def flow(folder: Path, kind: str) -> Flow:
    return saved_model.flow(folder) if kind == "SavedModel" else tensors.of_onnx(folder / "model.onnx")


KINDS = pytest.mark.parametrize("kind", ["SavedModel", "ONNX"])


@KINDS
def test_the_first_layer_that_gives_no_number_is_named(by_contrast: Path, kind: str) -> None:
    found = tensors.first_not_finite(flow(by_contrast, kind), FLAT)
    assert "truediv" in found and "PartitionedCall" not in found
    assert tensors.first_not_finite(flow(by_contrast, kind), LIGHT) == ""


def test_sessions_tell_it(by_contrast: Path) -> None:
    session = SavedModelSession(by_contrast, None, tf32=False)
    assert "truediv" in session.first_not_finite(FLAT)
    assert "truediv" in ONNXRuntimeSession(by_contrast / "model.onnx", 1).first_not_finite(FLAT)


@KINDS
def test_the_largest_values_are_those_of_all_images_and_no_infinity(by_contrast: Path, kind: str) -> None:
    images: Floats = np.concatenate([DARK, LIGHT, FLAT])
    found = tensors.largest(flow(by_contrast, kind), images)
    behind = [most for name, most in found.items() if tensors.layer(name).endswith("large")]
    assert behind and max(behind) == pytest.approx(200_000)
    assert np.isfinite([*found.values()]).all()


@pytest.mark.parametrize(
    ("tensor", "layer"),
    [
        ("StatefulPartitionedCall/model/conv2d_1/Conv2D:0", "model/conv2d_1"),
        ("model/conv2d_1/kernel:0", "model/conv2d_1"),
        ("functional_1/conv_1/convolution:0", "functional/conv"),
        ("functional_1/truediv:0", "functional/truediv"),
        ("truediv:0", "truediv"),
        ("StatefulPartitionedCall/Identity:0", "Identity"),
    ],
)
def test_a_layer_is_the_scope_of_its_tensors(tensor: str, layer: str) -> None:
    assert tensors.layer(tensor) == layer
