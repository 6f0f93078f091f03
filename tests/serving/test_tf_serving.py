from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from google.protobuf import text_format

from stages.core import files
from stages.runtimes import loading, registry
from stages.runtimes.contract import infer
from stages.serving import export, tf_serving
from stages.serving.docker import STRICT
from tests.fixtures.variants import example

Choose = Callable[..., Path]
FOLDER = Path("export/tensorflow_serving")

pytestmark = pytest.mark.usefixtures("in_process")


def command() -> str:
    """The part of the README that is about this server."""
    text = Path("export/README.txt").read_text(encoding="utf-8")
    return text.partition("TensorFlow Serving, on port")[2].partition("Triton")[0]


@pytest.mark.parametrize("name", ["savedmodel-fp32", "tflite-fp32", "tftrt-fp16"])
def test_it_reads_its_configuration(choose: Choose, name: str) -> None:
    from tensorflow_serving.config import model_server_config_pb2

    choose(name)
    export.write(Path("export"))
    text = (FOLDER / "models.config").read_text(encoding="utf-8")
    (served,) = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert (served.name, served.base_path, served.model_platform) == ("tiny", "/models/tiny", "tensorflow")
    assert (FOLDER / "tiny/1").is_dir()


def test_the_saved_model_answers_as_the_variant_does(choose: Choose) -> None:
    model = choose("savedmodel-fp32")
    export.write(Path("export"))
    options = loading.options("savedmodel", {})
    session = registry.module("savedmodel", "session").open_session(FOLDER / "tiny/1", "fp32", options, None)
    np.testing.assert_array_equal(infer(session, example(3)), infer(loading.load(model), example(3)))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_tflite_file_answers_by_what_preprocessing_json_tells(choose: Choose, precision: str) -> None:
    images = example(1)
    measured = infer(loading.load(choose(f"tflite-{precision}"), 1), images)
    export.write(Path("export"))
    assert {path.name for path in (FOLDER / "tiny/1").iterdir()} == {"model.tflite"}
    written = files.read_json(Path("export/preprocessing.json"))
    source, result = written["input"], written["output"]
    if precision == "int8":
        images = np.clip(np.round(images / source["scale"]) + source["zero_point"], -128, 127).astype(np.int8)
    interpreter = Interpreter(str(FOLDER / "tiny/1/model.tflite"))
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (taken["name"], given["name"]) == (source["name"], result["name"])
    interpreter.set_tensor(taken["index"], images)
    interpreter.invoke()
    answer = interpreter.get_tensor(given["index"]).astype(np.float32)
    if precision == "int8":
        answer = (answer - result["zero_point"]) * result["scale"]
    np.testing.assert_allclose(answer, measured, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "image", "flag"),
    [
        ("savedmodel-fp32", tf_serving.IMAGE, False),
        ("tflite-fp32", tf_serving.IMAGE, True),
        ("tftrt-fp16", tf_serving.ENGINES_IMAGE, False),
    ],
)
def test_the_command_has_the_models_image_and_flag(choose: Choose, name: str, image: str, flag: bool) -> None:
    choose(name)
    export.write(Path("export"))
    assert f" {image} \\\n" in command()
    assert ("--prefer_tflite_model" in command()) == flag


def test_engines_get_an_image_with_their_tensorrt(choose: Choose) -> None:
    choose("tftrt-fp16")
    export.write(Path("export"))
    assert f"FROM {tf_serving.IMAGE}-gpu" in command()
    assert "libnvinfer8=8.5.3-1+cuda11.8" in command()
    assert f"-e {STRICT}=False" in command() and "--gpus all" in command()
