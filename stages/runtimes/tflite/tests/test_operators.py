from pathlib import Path
from typing import Any

import pytest

from stages.core.tensorflow import tensorflow
from stages.runtimes.tflite import operators
from stages.runtimes.tflite.convert import convert
from stages.runtimes.tflite.options import Options
from stages.runtimes.tflite.session import FILE
from stages.runtimes.tflite.tests.conftest import SHAPE, Convert
from tests.fixtures import tiny
from tests.fixtures.errors import assert_helps, refused


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_operators_are_counted_by_kind(converted: Convert, tmp_path: Path, precision: str) -> None:
    proof, _ = converted(precision, tmp_path)
    found = proof.under("operations")
    assert (found["CONV_2D"], found["MEAN"], found["SOFTMAX"]) == (1, 1, 1)
    assert found == operators.count((tmp_path / FILE).read_bytes())


@pytest.fixture(scope="module")
def remembering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel that counts its calls, so that the converter must leave a variable in the file."""
    tf = tensorflow()

    class Remembering(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.calls = tf.Variable(1.0)

        @tf.function(input_signature=[tf.TensorSpec([None, *SHAPE], tf.float32, name="images")])
        def serve(self, images: Any) -> dict[str, Any]:
            self.calls.assign_add(1.0)
            return {"probabilities": tf.nn.softmax(self.calls * tf.reduce_mean(images, [1, 2]))}

    folder, module = tmp_path_factory.mktemp("remembering"), Remembering()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return folder


def test_a_file_with_variables_in_place_of_weights_is_refused(remembering: Path, tmp_path: Path) -> None:
    job = tiny.convert_job(remembering, tmp_path, "fp32", tmp_path, SHAPE)
    error = refused(convert, job, Options())
    assert error.code == "tflite-variables"
    assert {"VAR_HANDLE", "READ_VARIABLE"} <= {*error.values["operators"]}  # type: ignore[misc]
    assert_helps(error, "READ_VARIABLE")
    assert not (tmp_path / FILE).exists()
