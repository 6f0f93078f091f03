"""Configurations as Triton's own message reads them, which refuses a field that it does not have."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import TYPE_FP32, ModelConfig, ModelInstanceGroup

from stages.contracts import labels
from stages.contracts.conversion import MANIFEST
from stages.runtimes import loading, registry
from stages.runtimes.contract import infer
from stages.serving import export, triton
from tests.fixtures.variants import CLASSES, ENGINE, SHAPE, example, with_fact

Choose = Callable[..., Path]
REPOSITORY = Path("export/triton")

pytestmark = pytest.mark.usefixtures("in_process")


@pytest.fixture
def exported(choose: Choose) -> Callable[..., Path]:
    """Choose this variant and export it; returns its folder in models/."""

    def run(name: str, **options: bool) -> Path:
        folder = choose(name, **options)
        export.write(Path("export"))
        return folder

    return run


def config(name: str = "tiny") -> ModelConfig:
    text = (REPOSITORY / name / "config.pbtxt").read_text(encoding="utf-8")
    return text_format.Parse(text, ModelConfig())


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_onnx_answers_as_measured(exported: Choose, precision: str) -> None:
    model = exported(f"onnxruntime-{precision}")
    assert names(REPOSITORY / "tiny/1") == names(model) - {MANIFEST}
    own = config()
    assert (own.platform, own.max_batch_size) == ("onnxruntime_onnx", 8)
    assert own.instance_group[0].kind == ModelInstanceGroup.KIND_CPU
    options = loading.options("onnxruntime", {})
    session = registry.module("onnxruntime", "session").open_session(REPOSITORY / "tiny/1", precision, options, 1)
    np.testing.assert_array_equal(infer(session, example(3)), infer(loading.load(model, 1), example(3)))


@pytest.mark.parametrize(
    ("name", "output"),
    [("savedmodel-fp32", "probabilities"), ("onnxruntime-fp32", "probabilities"), ("tftrt-fp16", "output_0")],
)
def test_tensors_are_those_of_the_model(exported: Choose, name: str, output: str) -> None:
    exported(name)
    own = config()
    assert own.name == "tiny"
    (source,), (result,) = own.input, own.output
    assert (source.name, source.data_type, list(source.dims)) == ("images", TYPE_FP32, list(SHAPE))
    assert (result.name, result.data_type, list(result.dims)) == (output, TYPE_FP32, [CLASSES])
    classes = (REPOSITORY / "tiny" / result.label_filename).read_text(encoding="utf-8").splitlines()
    assert classes == list(labels.read().names)


def test_a_saved_model_runs_anywhere_and_forms_no_batches(exported: Choose) -> None:
    exported("savedmodel-fp32")
    own = config()
    assert (own.platform, own.max_batch_size) == ("tensorflow_savedmodel", 8)
    assert own.instance_group[0].kind == ModelInstanceGroup.KIND_AUTO
    assert not own.HasField("dynamic_batching")


def by_config(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What the exported SavedModel answers, called by nothing but the names in the configuration."""
    from stages.core.tensorflow import tensorflow

    tf, own = tensorflow(), config()
    signature = tf.saved_model.load(str(REPOSITORY / "tiny/1/model.savedmodel")).signatures["serving_default"]
    answer = signature(**{own.input[0].name: tf.constant(images)})[own.output[0].name]
    return np.asarray(answer)


@pytest.mark.parametrize("name", ["savedmodel-fp32", "tftrt-fp16"])
def test_a_saved_model_answers_as_the_variant_does(exported: Choose, name: str) -> None:
    model = exported(name)
    options = loading.options("savedmodel", {})
    session = registry.module("savedmodel", "session").open_session(model, "", options, None)
    np.testing.assert_array_equal(by_config(example(3)), infer(session, example(3)))


def test_engines_inside_tensorflow_stay_on_the_gpu_and_fill_their_batches(exported: Choose) -> None:
    exported("tftrt-fp16", dynamic_shapes=False)
    own = config()
    assert (own.max_batch_size, list(own.dynamic_batching.preferred_batch_size)) == (8, [1, 8])
    assert own.instance_group[0].kind == ModelInstanceGroup.KIND_GPU
    assert f"1/model.savedmodel/{ENGINE}" in names(REPOSITORY / "tiny")


def test_engines_with_dynamic_shapes_form_no_batches(exported: Choose) -> None:
    exported("tftrt-fp16", dynamic_shapes=True)
    own = config()
    assert (own.max_batch_size, own.HasField("dynamic_batching")) == (8, False)


def test_one_engine_for_all_sizes_is_a_plan(exported: Choose) -> None:
    exported("tensorrt-fp16")
    own = config()
    assert (own.platform, own.max_batch_size, list(own.input[0].dims)) == ("tensorrt_plan", 8, list(SHAPE))
    assert own.instance_group[0].kind == ModelInstanceGroup.KIND_GPU
    assert names(REPOSITORY / "tiny") == {"1/model.plan", "config.pbtxt", "labels.txt"}
    assert (REPOSITORY / "tiny/1/model.plan").read_text() == "all.plan"


def test_engines_of_one_size_are_models_of_their_own(exported: Choose) -> None:
    exported("tensorrt-int8")
    assert {path.name for path in REPOSITORY.iterdir()} == {"tiny-batch1", "tiny-batch8"}
    for size, plan in ((1, "a.plan"), (8, "b.plan")):
        own = config(f"tiny-batch{size}")
        assert (own.name, own.max_batch_size) == (f"tiny-batch{size}", 0)
        assert (list(own.input[0].dims), list(own.output[0].dims)) == ([size, *SHAPE], [size, CLASSES])
        assert (REPOSITORY / f"tiny-batch{size}/1/model.plan").read_text() == plan


@pytest.mark.parametrize(
    ("name", "tensorrt", "image"),
    [
        ("onnxruntime-fp32", None, triton.IMAGE),
        ("tftrt-fp16", None, triton.TENSORRT_IMAGE),
        ("tensorrt-fp16", "TensorRT 8.5.3.1", triton.TENSORRT_IMAGE),
        ("tensorrt-fp16", "TensorRT 11.4.0.106", triton.OTHER_IMAGE),
    ],
)
def test_no_image_is_named_that_lacks_the_models_library(
    choose: Choose, summarize: Callable[[], None], name: str, tensorrt: str | None, image: str
) -> None:
    choose(name)
    if tensorrt:
        with_fact(name, "tensorrt", tensorrt)
        summarize()
    export.write(Path("export"))
    text = Path("export/README.txt").read_text(encoding="utf-8")
    assert [known for known in (triton.IMAGE, triton.TENSORRT_IMAGE, triton.OTHER_IMAGE) if known in text] == [image]
