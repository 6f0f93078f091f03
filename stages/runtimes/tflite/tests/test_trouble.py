"""What TFLite cannot have is one sentence that names the operator and the layer, and the open batch where it counts."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stages.contracts.conversion import ConvertJob
from stages.core.tensorflow import tensorflow
from stages.runtimes.contract import infer
from stages.runtimes.tflite import trouble
from stages.runtimes.tflite.convert import convert
from stages.runtimes.tflite.options import Options
from stages.runtimes.tflite.session import open_session
from stages.runtimes.tflite.tests.conftest import SHAPE
from tests.fixtures import tiny
from tests.fixtures.errors import assert_helps, named, refused


class FaultError(Exception):
    """As the converter raises it: its operators with the names of nodes that lead to them."""

    def __init__(self, text: str, **nodes: str) -> None:
        super().__init__(text)
        self.errors = [
            SimpleNamespace(
                operator=SimpleNamespace(name=f"tf.{name}"),
                location=SimpleNamespace(call=[SimpleNamespace(name=node)]),
            )
            for name, node in nodes.items()
        ]


WIDE = FaultError("tf.Conv2D(tensor<?x8x8x3xf64>, tensor<1x1x3x3xf64>) -> ...", Conv2D="model/wide/Conv2D")
ERFC = FaultError("tf.Erfc(tensor<?x8x8x3xf32>) -> (...)", Erfc="model/gelu/Erfc")
MANY = FaultError("", **{name: f"model/{name}/x" for name in "abcdefg"})
NODE = RuntimeError("broadcast_to.cc Output shape.Node number 30 (BROADCAST_TO) failed to prepare.")


@pytest.mark.parametrize(
    ("error", "fixed", "code", "operators", "layers", "place"),
    [
        (WIDE, False, "tflite-operator", ["Conv2D"], ["wide"], "Conv2D of the layer wide in float64: use float32"),
        (ERFC, False, "tflite-operator", ["Erfc"], ["gelu"], "TFLite has no Erfc of the layer gelu: replace"),
        (ERFC, True, "tflite-batch", ["Erfc"], ["gelu"], "a fixed batch size for Erfc of the layer gelu"),
        (MANY, False, "tflite-operator", list("abcdefg"), list("abcdefg"), "of the layer a, b, c, d, e and 2 more"),
        (NODE, True, "tflite-batch", ["BROADCAST_TO"], ["norm"], "fixed batch size for BROADCAST_TO of the layer norm"),
        (NODE, False, "tflite-failed", ["BROADCAST_TO"], ["norm"], "BROADCAST_TO of the layer norm (RuntimeError: "),
        (ValueError("no shape"), False, "tflite-failed", [], [], "cannot run this model (ValueError: no shape)"),
    ],
)
def test_a_sentence_names_its_operators_and_layers_and_a_remedy(
    error: Exception, fixed: bool, code: str, operators: list[str], layers: list[str], place: str
) -> None:
    told = trouble.explain(error, {30: "norm"}.__getitem__, lambda: fixed)
    assert named(told, "operators", "layers") == (code, operators, layers)
    assert_helps(told, place)


def recurrent(tf: Any) -> Any:
    """It keeps a list of tensors whose length is the batch."""
    given = tf.keras.Input(SHAPE)
    rows = tf.keras.layers.LSTM(4, name="memory")(tf.keras.layers.Reshape((SHAPE[0], -1))(given))
    return tf.keras.Model(given, tf.keras.layers.Dense(3, "softmax")(rows))


def rolled(tf: Any) -> Any:
    """TFLite has no such operator; with one image at a time none is needed."""

    class Shift(tf.keras.layers.Layer):  # type: ignore[misc]
        def call(self, images: Any) -> Any:
            return tf.roll(images, 1, 0)

    given = tf.keras.Input(SHAPE)
    x = tf.keras.layers.GlobalAveragePooling2D()(Shift(name="shift")(given))
    return tf.keras.Model(given, tf.keras.layers.Softmax()(x))


def grouped_norm(tf: Any) -> Any:
    """It reshapes by the batch."""
    given = tf.keras.Input(SHAPE)
    x = tf.keras.layers.GroupNormalization(1, name="groups")(given)
    return tf.keras.Model(given, tf.keras.layers.Softmax()(tf.keras.layers.GlobalAveragePooling2D()(x)))


def wide(tf: Any) -> Any:
    given = tf.keras.Input(SHAPE)
    x = tf.keras.layers.Conv2D(3, 1, dtype="float64", name="wide")(given)
    x = tf.keras.layers.GlobalAveragePooling2D()(tf.keras.layers.Activation("linear", dtype="float32")(x))
    return tf.keras.Model(given, tf.keras.layers.Softmax()(x))


def saved(model: Any, folder: Path, precision: str) -> ConvertJob:
    """The conversion of its SavedModel."""
    tf = tensorflow()
    serve = tf.function(lambda images: {"probabilities": model(images)})
    signature = serve.get_concrete_function(tf.TensorSpec([None, *SHAPE], tf.float32, name="images"))
    module = tf.Module()
    module.weights, module.serve = [variable.value for variable in model.variables], serve
    tf.saved_model.save(module, str(folder / "saved"), signatures={"serving_default": signature})
    images = tiny.calibration_images(folder / "images", SHAPE)
    return tiny.convert_job(folder / "saved", folder / "out", precision, images, SHAPE)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_group_normalisation_is_converted_with_an_open_batch(tmp_path: Path, precision: str) -> None:
    model = grouped_norm(tensorflow())
    job = saved(model, tmp_path, precision)
    convert(job, Options())
    session = open_session(Path(job.target), precision, Options(), 1)
    for size in (1, 4, 3):
        images = tiny.example(size, SHAPE)
        np.testing.assert_allclose(infer(session, images), model(images), atol=1e-5 if precision == "fp32" else 0.03)


@pytest.mark.parametrize(
    ("make", "precision", "code", "layer"),
    [
        (recurrent, "fp32", "tflite-batch", "memory"),
        (rolled, "fp32", "tflite-batch", "shift"),
        (rolled, "int8", "tflite-batch", "shift"),
        (wide, "fp32", "tflite-operator", "wide"),
    ],
)
def test_a_layer_that_tflite_cannot_have_is_named_without_the_converters_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], make: Any, precision: str, code: str, layer: str
) -> None:
    job = saved(make(tensorflow()), tmp_path, precision)
    capfd.readouterr()
    error = refused(convert, job, Options())
    assert error.code == code and error.values["layers"][0].split("/")[0] == layer
    assert "loc(" not in capfd.readouterr().err
