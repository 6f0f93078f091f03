import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stages.core import isolate
from stages.core.errors import PipelineError
from stages.core.tensorflow import tensorflow
from stages.model import formats
from tests.fixtures.errors import named, refused

SHAPE, CLASSES = (12, 10, 3), 5


@pytest.fixture(scope="module")
def network(tf: Any) -> Any:
    """A small convolutional network of Keras."""
    layers = tf.keras.layers
    images = layers.Input(SHAPE, name="photo")
    x = layers.GlobalAveragePooling2D()(layers.BatchNormalization()(layers.Conv2D(4, 3)(images)))
    return tf.keras.Model(images, layers.Dense(CLASSES, "softmax", name="class")(x))


def noise(*shape: int) -> Any:
    return np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)


def opened(tf: Any, path: Path) -> formats.Model:
    return formats.open_model(tf, path)


def refusal(tf: Any, path: Path) -> PipelineError:
    return refused(formats.open_model, tf, path)


def refused_to_load(tf: Any, path: Path) -> PipelineError:
    """The error of a library, as one of the file."""
    error = refusal(tf, path)
    assert named(error, "file", "key") == ("model-does-not-load", path.name, "model.path")
    return error


def answer(tf: Any, model: formats.Model, **given: Any) -> dict[str, Any]:
    found = model.call({name: tf.constant(value) for name, value in given.items()})
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", ["a.keras", "a.h5", "a"])
def test_what_keras_saves_answers_like_the_network(tf: Any, network: Any, tmp_path: Path, name: str) -> None:
    network.save(tmp_path / name)
    model = opened(tf, tmp_path / name)
    assert [(key, [*spec.shape], spec.dtype) for key, spec in model.inputs.items()] == [
        ("photo", [None, *SHAPE], tf.float32)
    ]
    assert [(key, [*spec.shape]) for key, spec in model.outputs.items()] == [("class", [None, CLASSES])]
    assert model.parameters == network.count_params()
    images = noise(3, *SHAPE)
    np.testing.assert_allclose(answer(tf, model, photo=images)["class"], network(images).numpy(), atol=1e-6)


@pytest.mark.parametrize("name", ["a.keras", "a"])
def test_inputs_and_outputs_keep_their_names(tf: Any, tmp_path: Path, name: str) -> None:
    layers = tf.keras.layers
    images, meta = layers.Input(SHAPE, name="photo"), layers.Input((2,), name="about")
    x = layers.GlobalAveragePooling2D()(images)
    results = [layers.Dense(5, name="kind")(layers.Concatenate()([x, meta])), layers.Dense(3, name="aux")(x)]
    network = tf.keras.Model([images, meta], results)
    network.save(tmp_path / name)
    model = opened(tf, tmp_path / name)
    assert set(model.inputs) == {"photo", "about"} and set(model.outputs) == {"kind", "aux"}
    pixels, words = noise(2, *SHAPE), noise(2, 2)
    found = answer(tf, model, photo=pixels, about=words)
    for key, expected in zip(("kind", "aux"), network([pixels, words]), strict=True):
        np.testing.assert_allclose(found[key], expected.numpy(), atol=1e-6)


def save_with_table(tf: Any, folder: Path) -> None:
    class Scaled(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            entries = tf.lookup.KeyValueTensorInitializer(tf.constant([0, 1], tf.int64), tf.constant([0.0, 2.0]))
            self.table = tf.lookup.StaticHashTable(entries, 0.0)
            self.kernel = tf.Variable(noise(3, CLASSES))

        @tf.function(input_signature=[tf.TensorSpec([None, *SHAPE], tf.float32, name="photo")])
        def serve(self, photo: Any) -> dict[str, Any]:
            factor = self.table.lookup(tf.constant([1], tf.int64))
            return {"scores": tf.reduce_mean(photo, [1, 2]) @ self.kernel * factor}

    module = Scaled()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})


def test_a_lookup_table_of_a_savedmodel_is_kept(tf: Any, tmp_path: Path) -> None:
    save_with_table(tf, tmp_path / "table")
    model = opened(tf, tmp_path / "table")
    images = noise(2, *SHAPE)
    expected = images.mean(axis=(1, 2)) @ noise(3, CLASSES) * 2
    np.testing.assert_allclose(answer(tf, model, photo=images)["scores"], expected, rtol=1e-5)
    saved = tf.Module()
    saved.held = model.tracked
    saved.serve = tf.function(
        lambda photo: model.call({"photo": photo}), input_signature=[tf.TensorSpec([None, *SHAPE], tf.float32)]
    )
    tf.saved_model.save(saved, str(tmp_path / "again"), signatures={"serving_default": saved.serve})
    (again,) = opened(tf, tmp_path / "again").call({"photo": tf.constant(images)}).values()
    np.testing.assert_allclose(again.numpy(), expected, rtol=1e-5)


def save_as_tf1(folder: Path) -> None:
    """In a process of its own: it leaves TensorFlow 1 sessions behind."""
    tensorflow()
    import tensorflow.compat.v1 as tf1

    with tf1.Graph().as_default(), tf1.Session() as session:
        photo = tf1.placeholder(tf1.float32, [None, *SHAPE])
        kernel = tf1.get_variable("kernel", initializer=noise(3, CLASSES))
        scores = tf1.matmul(tf1.reduce_mean(photo, [1, 2]), kernel)
        session.run(tf1.global_variables_initializer())
        tf1.saved_model.simple_save(session, str(folder), {"photo": photo}, {"scores": scores})


def test_a_savedmodel_of_tensorflow_1_opens(tf: Any, tmp_path: Path) -> None:
    isolate.call(save_as_tf1, tmp_path / "old")
    model = opened(tf, tmp_path / "old")
    images = noise(2, *SHAPE)
    expected = images.mean(axis=(1, 2)) @ noise(3, CLASSES)
    np.testing.assert_allclose(answer(tf, model, photo=images)["scores"], expected, rtol=1e-5)
    assert model.parameters == 3 * CLASSES


def test_a_savedmodel_without_signatures_says_how_to_give_it_one(tf: Any, tmp_path: Path) -> None:
    module = tf.Module()
    module.number = tf.Variable(1.0)
    tf.saved_model.save(module, str(tmp_path / "bare"))
    assert named(refusal(tf, tmp_path / "bare"), "file") == ("model-no-signature", "bare")


@pytest.mark.parametrize(
    ("names", "opens"), [(["scores"], True), (["a", "b"], False), (["a", "serving_default"], True)]
)
def test_the_signature_is_the_only_one_or_serving_default(
    tf: Any, tmp_path: Path, names: list[str], opens: bool
) -> None:
    module = tf.Module()

    def serve(place: int) -> Any:
        spec = tf.TensorSpec([None, 2], tf.float32, name="x")
        return tf.function(lambda x: {f"from_{names[place]}": x + place}, input_signature=[spec])

    signatures = {name: serve(place) for place, name in enumerate(names)}
    tf.saved_model.save(module, str(tmp_path / "many"), signatures=signatures)
    if opens:
        assert list(opened(tf, tmp_path / "many").outputs) == [f"from_{names[-1]}"]
    else:
        assert named(refusal(tf, tmp_path / "many"), "signatures") == ("model-signatures", ["a", "b"])


def keras_3(path: Path) -> None:
    """What Keras 3 writes, but for the weights, which are read last."""
    described = {"batch_shape": [None, *SHAPE], "dtype": "float32", "sparse": False, "name": "input_layer"}
    first = {"module": "keras.layers", "class_name": "InputLayer", "config": described, "registered_name": None}
    config = {
        "module": "keras", "class_name": "Sequential", "registered_name": None,
        "config": {"name": "sequential", "trainable": True, "layers": [first]},
    }  # fmt: skip
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.4.1", "date_saved": "2024-07-01@10:00:00"}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", b"")


def test_a_file_of_keras_3_names_its_version_and_what_to_do(tf: Any, tmp_path: Path) -> None:
    keras_3(tmp_path / "new.keras")
    error = refused_to_load(tf, tmp_path / "new.keras")
    assert "Keras 3.4.1" in str(error) and "model.export(FOLDER)" in str(error)


@pytest.mark.parametrize("kind", ["lambda", "own layer"])
def test_a_keras_file_that_needs_python_is_refused_and_its_savedmodel_opens(tf: Any, tmp_path: Path, kind: str) -> None:
    class Doubled(tf.keras.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return 2 * x

    images = tf.keras.layers.Input((4,))
    layer = Doubled() if kind == "own layer" else tf.keras.layers.Lambda(lambda x: 2 * x)
    network = tf.keras.Model(images, layer(images))
    network.save(tmp_path / "a.keras")
    network.save(tmp_path / "a")
    assert "Keras 2.14.0" in str(refused_to_load(tf, tmp_path / "a.keras"))
    (name,) = opened(tf, tmp_path / "a").inputs
    (found,) = answer(tf, opened(tf, tmp_path / "a"), **{name: noise(2, 4)}).values()
    np.testing.assert_allclose(found, 2 * noise(2, 4))


def test_a_file_of_weights_alone_says_so(tf: Any, network: Any, tmp_path: Path) -> None:
    network.save_weights(tmp_path / "only.h5")
    assert named(refusal(tf, tmp_path / "only.h5"), "file") == ("model-weights-alone", "only.h5")


@pytest.mark.parametrize("name", ["a.keras", "a.h5"])
@pytest.mark.parametrize("content", [b"", b"no model", b"PK\x05\x06" + bytes(18)])
def test_a_keras_file_that_is_none_is_named(tf: Any, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    refused_to_load(tf, tmp_path / name)


def test_a_damaged_savedmodel_is_named(tf: Any, tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "half/saved_model.pb").write_bytes(b"junk")
    assert "(Cannot parse file " in str(refused_to_load(tf, tmp_path / "half"))


@pytest.mark.parametrize("name", ["nothing.onnx", "notes.txt", "weights.pt", "empty"])
def test_what_is_no_model_lists_the_kinds(tf: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("no model")
    (tmp_path / "weights.pt").write_bytes(b"no model")
    (tmp_path / "empty").mkdir()
    assert named(refusal(tf, tmp_path / name), "file") == ("model-kind", str(tmp_path / name))


def write_onnx(
    path: Path,
    *,
    names: tuple[str, str, str, str] = ("photo", "bias", "probabilities", "scores"),
    batch: int | str = "n",
    sides: tuple[Any, Any] = (12, 10),
    half: bool = False,
    pooling: str = "GlobalAveragePool",
    kernel_shape: bool = True,
    ir_version: int = 8,
) -> Path:
    """An ONNX file [n, 3, height, width] with two inputs and two outputs, as PyTorch would write it."""
    kind, dtype = (TensorProto.FLOAT16, np.float16) if half else (TensorProto.FLOAT, np.float32)
    rng = np.random.default_rng(1)
    weights = [
        numpy_helper.from_array(rng.normal(0, 1, shape).astype(dtype), name)
        for name, shape in (("kernel", (4, 3, 3, 3)), ("last", (4, CLASSES)))
    ]
    photo, bias, probabilities, scores = names
    known = {"kernel_shape": [3, 3]} if kernel_shape else {}
    nodes = [
        helper.make_node("Conv", [photo, "kernel"], ["c"], name="first", **known),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node(pooling, ["r"], ["p"], domain="" if pooling == "GlobalAveragePool" else "mine"),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "last"], ["m"]),
        helper.make_node("Add", ["m", bias], [scores]),
        helper.make_node("Softmax", [scores], [probabilities], axis=1),
    ]
    inputs = [
        helper.make_tensor_value_info(photo, kind, [batch, 3, *sides]),
        helper.make_tensor_value_info(bias, kind, [batch, CLASSES]),
    ]
    outputs = [helper.make_tensor_value_info(name, kind, [batch, CLASSES]) for name in (probabilities, scores)]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, weights)
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    onnx.save(helper.make_model(graph, opset_imports=sets, ir_version=ir_version), path)
    return path


# Each conversion by onnx2tf takes a process and ten seconds, so these tests look at several things at once.
@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"names": ("input.1", "bias:0", "/head/probs:0", "12")}, 1e-5),
        ({"half": True, "sides": ("height", "width")}, 3e-3),
    ],
    ids=["names that no SavedModel takes", "FP16 of any size"],
)
def test_an_onnx_file_answers_as_onnx_runtime_does(
    tf: Any, tmp_path: Path, options: dict[str, Any], tolerance: float
) -> None:
    import onnxruntime

    path = write_onnx(tmp_path / "a.onnx", **options)
    model = opened(tf, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    photo, bias = (item.name for item in session.get_inputs())
    sides = [None, None] if "sides" in options else [12, 10]
    assert [(name, [*spec.shape], spec.dtype) for name, spec in model.inputs.items()] == [
        (photo, [None, 3, *sides], tf.float32),
        (bias, [None, CLASSES], tf.float32),
    ]
    assert list(model.outputs) == [item.name for item in session.get_outputs()]
    assert model.parameters == 4 * 3 * 3 * 3 + 4 * CLASSES
    given = {photo: noise(3, 3, 12, 10), bias: noise(3, CLASSES)}
    fed = {name: value.astype(np.float16) if "half" in options else value for name, value in given.items()}
    found = answer(tf, model, **given)
    for name, expected in zip(found, session.run(None, fed), strict=True):
        np.testing.assert_allclose(found[name], expected, atol=tolerance)


def forbidden(*_: Any) -> None:
    raise AssertionError("a conversion takes ten seconds")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"ir_version": 99}, "model-does-not-load", "(Unsupported model IR version: 99"),
        ({"pooling": "Strange"}, "model-does-not-load", "mine:Strange(-1)"),
        ({"batch": 1}, "input-fixed-batch", "photo takes batches of 1"),
    ],
    ids=["IR version", "operator", "batch"],
)
def test_an_onnx_file_that_cannot_be_used_says_so_before_it_is_converted(
    tf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], code: str, words: str
) -> None:
    monkeypatch.setattr(isolate, "call", forbidden)
    error = refusal(tf, write_onnx(tmp_path / "a.onnx", **options))
    assert error.code == code and words in str(error)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"hello", "Error parsing message"), (b"", "ModelProto does not have")]
)
def test_a_file_that_is_no_onnx_is_named(tf: Any, tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    assert f"({reason}" in str(refused_to_load(tf, tmp_path / "a.onnx"))


def test_weights_beside_an_onnx_file_are_named_with_how_to_join_them(tf: Any, tmp_path: Path) -> None:
    whole = onnx.load(write_onnx(tmp_path / "a.onnx"))
    onnx.save(whole, tmp_path / "b.onnx", save_as_external_data=True, size_threshold=0, location="b.onnx.data")
    expected = ("onnx-external-weights", "b.onnx", ["b.onnx.data"])
    assert named(refusal(tf, tmp_path / "b.onnx"), "file", "files") == expected


def test_what_onnx2tf_cannot_convert_names_the_node(tf: Any, tmp_path: Path) -> None:
    """It leaves by sys.exit, and without a convolution's optional kernel_shape it always does."""
    error = refused_to_load(tf, write_onnx(tmp_path / "a.onnx", kernel_shape=False))
    assert "(IndexError: " in str(error) and "onnx_op_name: first)" in str(error)


def converted_to(tf: Any, monkeypatch: pytest.MonkeyPatch, serve: Callable[[Any, Any], tuple[Any, Any]]) -> None:
    """Let the conversion give this function."""

    def call(_: Any, __: Path, ___: list[str], folder: Path) -> None:
        specs = [
            tf.TensorSpec([None, 3, 12, 10], tf.float32, name="input_0"),
            tf.TensorSpec([None, CLASSES], tf.float32, name="input_1"),
        ]
        module = tf.Module()
        module.serve = tf.function(
            lambda x, y: dict(zip(("output_0", "output_1"), serve(x, y), strict=True)), input_signature=specs
        )
        tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})

    monkeypatch.setattr(isolate, "call", call)


@pytest.mark.parametrize("wrong", [0.9, float("nan")])
def test_a_conversion_that_answers_otherwise_is_refused(
    tf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    import onnxruntime

    path = write_onnx(tmp_path / "a.onnx")
    # What `open_model` feeds.
    rng = np.random.default_rng(0)
    fed = [rng.uniform(0, 1, shape).astype(np.float32) for shape in ((2, 3, 12, 10), (2, CLASSES))]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = session.run(None, dict(zip(("photo", "bias"), fed, strict=True)))
    converted_to(tf, monkeypatch, lambda *_: (expected[0], wrong * expected[1]))
    error = refusal(tf, path)
    assert named(error, "file") == ("onnx-import-differs", "a.onnx")
    assert not error.values["difference"] <= formats.TOLERANCE


def test_a_conversion_that_does_not_run_is_refused(tf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converted_to(tf, monkeypatch, lambda _, bias: (tf.debugging.assert_less(bias, 0.0) or bias, bias))
    refused_to_load(tf, write_onnx(tmp_path / "a.onnx"))
