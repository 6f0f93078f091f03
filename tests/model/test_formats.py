import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.core import isolate
from stages.core.tensorflow import has_half, tensorflow
from stages.model import door_keras, float32, formats, keras_2
from tests.fixtures.errors import named, refused
from tests.model.opening import answer, noise, opened, refusal, refused_to_load

SHAPE, CLASSES = (12, 10, 3), 5


@pytest.fixture(scope="module")
def network(tf: Any) -> Any:
    """A small convolutional network of Keras."""
    layers = tf.keras.layers
    images = layers.Input(SHAPE, name="photo")
    x = layers.GlobalAveragePooling2D()(layers.BatchNormalization()(layers.Conv2D(4, 3)(images)))
    return tf.keras.Model(images, layers.Dense(CLASSES, "softmax", name="class")(x))


def write(network: Any, path: Path) -> None:
    """A file of Keras, or a SavedModel, by what Keras has for each."""
    network.save(path) if path.suffix else network.export(path, verbose=False)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", ["a.keras", "a.h5", "a"])
def test_what_keras_saves_answers_like_the_network(tf: Any, network: Any, tmp_path: Path, name: str) -> None:
    write(network, tmp_path / name)
    model = opened(tf, tmp_path / name)
    assert [(key, [*spec.shape], spec.dtype) for key, spec in model.inputs.items()] == [
        ("photo", [None, *SHAPE], tf.float32)
    ]
    result = "class" if Path(name).suffix else "output_0"  # as `export` calls it
    assert [(key, [*spec.shape]) for key, spec in model.outputs.items()] == [(result, [None, CLASSES])]
    assert model.parameters == network.count_params()
    images = noise(3, *SHAPE)
    np.testing.assert_allclose(answer(tf, model, photo=images)[result], network(images).numpy(), atol=1e-6)


@pytest.mark.parametrize("name", ["a.keras", "a"])
def test_inputs_and_outputs_keep_their_names(tf: Any, tmp_path: Path, name: str) -> None:
    layers = tf.keras.layers
    images, meta = layers.Input(SHAPE, name="photo"), layers.Input((2,), name="about")
    x = layers.GlobalAveragePooling2D()(images)
    ends = [layers.Dense(5, name="kind")(layers.Concatenate()([x, meta])), layers.Dense(3, name="aux")(x)]
    network = tf.keras.Model([images, meta], ends)
    write(network, tmp_path / name)
    model = opened(tf, tmp_path / name)
    results = ["kind", "aux"] if Path(name).suffix else ["output_0", "output_1"]
    assert set(model.inputs) == {"photo", "about"} and set(model.outputs) == {*results}
    pixels, words = noise(2, *SHAPE), noise(2, 2)
    found = answer(tf, model, photo=pixels, about=words)
    for key, expected in zip(results, network([pixels, words]), strict=True):
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


def of_version(whole: Path, path: Path, version: str, **changes: Any) -> Path:
    """A .keras file as if another Keras had written it, with these settings of its last layer."""
    with zipfile.ZipFile(whole) as given, zipfile.ZipFile(path, "w") as archive:
        config = json.loads(given.read("config.json"))
        config["config"]["layers"][-1]["config"] |= changes
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", given.read("model.weights.h5"))
    return path


def test_a_file_of_a_newer_keras_opens_if_it_can_and_else_names_both_versions(
    tf: Any, network: Any, tmp_path: Path
) -> None:
    network.save(tmp_path / "a.keras")
    newer = of_version(tmp_path / "a.keras", tmp_path / "newer.keras", "99.1.0")
    assert list(opened(tf, newer).outputs) == ["class"]
    error = refused_to_load(tf, of_version(tmp_path / "a.keras", tmp_path / "new.keras", "99.1.0", of_99=True))
    assert "Keras 99.1.0, newer than Keras 3." in str(error) and "model.export(FOLDER)" in str(error)
    assert "of_99" in str(error)


def test_an_archive_of_keras_2_is_refused_trusted_or_not(tf: Any, network: Any, tmp_path: Path) -> None:
    network.save(tmp_path / "a.keras")
    old = of_version(tmp_path / "a.keras", tmp_path / "old.keras", "2.14.0")
    assert "save it as .h5 there" in str(refused_to_load(tf, old))
    assert refused(formats.load_keras, tf, old, True).code == "model-does-not-load"


def test_an_h5_file_of_keras_2_answers_as_it_did_there(tf: Any) -> None:
    """What tf-keras 2.21 wrote and answered, of layers whose settings, calls and policies are none of Keras 3's.

    Rescaling, DepthwiseConv2D, RandomFlip, SeparableConv2D, Conv2DTranspose, SpatialDropout2D, BatchNormalization, a
    Conv2D of mixed_float16, LSTM, a model within the model and a Sequential behind it.
    """
    fixture = Path(__file__).parents[1] / "fixtures/keras_2.h5"
    (found,) = answer(tf, opened(tf, fixture), photo=noise(3, *SHAPE)).values()
    np.testing.assert_allclose(found, np.load(fixture.with_suffix(".npy")), atol=1e-4)


@pytest.mark.parametrize(("settings", "kept"), [({"groups": 1}, {}), ({"groups": 2}, {"groups": 2})])
def test_a_setting_that_means_something_is_left_for_keras_to_refuse(settings: Any, kept: Any) -> None:
    inner = keras_2.described([{"class_name": "DepthwiseConv2D", "config": settings}])
    assert inner == [{"class_name": "DepthwiseConv2D", "config": kept}]
    other = {"class_name": "Conv2D", "config": settings}
    assert keras_2.described(other) == other


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "float64"])
def test_a_network_of_another_precision_computes_in_float32(tf: Any, tmp_path: Path, policy: str) -> None:
    layers = tf.keras.layers
    images = layers.Input(SHAPE, name="photo")
    inner = tf.keras.Sequential([layers.Conv2D(4, 3, dtype=policy), layers.BatchNormalization(dtype=policy)])
    x = layers.Lambda(lambda x: x + 1, dtype=policy)(inner(images) * 2.0)
    x = tf.keras.ops.cast(layers.GlobalAveragePooling2D(dtype=policy)(x), policy.removeprefix("mixed_"))
    network = tf.keras.Model(images, layers.Dense(CLASSES, "softmax", dtype="float32", name="class")(x))
    network.save(tmp_path / "a.keras")
    wide = formats.load_keras(tf, tmp_path / "a.keras", trusted=True)
    assert not float32.others(tf.keras.utils.serialize_keras_object(wide))
    graph = tf.function(wide).get_concrete_function(tf.TensorSpec([None, *SHAPE])).graph
    assert not has_half(graph) and not any(
        value.dtype == tf.float64 for operation in graph.get_operations() for value in operation.outputs
    )
    np.testing.assert_allclose(wide(noise(3, *SHAPE)), network(noise(3, *SHAPE)), atol=2e-2)
    (sentence,) = float32.told(door_keras.read(tmp_path / "a.keras").model)
    assert policy in sentence and "float32" in sentence


def test_a_network_of_float32_stays_as_it_is(tf: Any, network: Any, tmp_path: Path) -> None:
    network.save(tmp_path / "a.keras")
    assert float32.told(door_keras.read(tmp_path / "a.keras").model) == ()


@pytest.mark.parametrize("kind", ["lambda", "own layer"])
def test_a_keras_file_that_needs_python_is_refused_and_its_savedmodel_opens(tf: Any, tmp_path: Path, kind: str) -> None:
    class Doubled(tf.keras.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return 2 * x

    images = tf.keras.layers.Input((4,))
    layer = Doubled() if kind == "own layer" else tf.keras.layers.Lambda(lambda x: 2 * x)
    network = tf.keras.Model(images, layer(images))
    network.save(tmp_path / "a.keras")
    write(network, tmp_path / "a")
    assert named(refusal(tf, tmp_path / "a.keras"), "file", "key") == ("model-refused", "a.keras", "model.trusted")
    (name,) = opened(tf, tmp_path / "a").inputs
    (found,) = answer(tf, opened(tf, tmp_path / "a"), **{name: noise(2, 4)}).values()
    np.testing.assert_allclose(found, 2 * noise(2, 4))


def test_a_file_of_weights_alone_says_so(tf: Any, network: Any, tmp_path: Path) -> None:
    network.save_weights(tmp_path / "only.weights.h5")
    (tmp_path / "only.weights.h5").rename(tmp_path / "only.h5")
    assert named(refusal(tf, tmp_path / "only.h5"), "file") == ("model-weights-alone", "only.h5")


@pytest.mark.parametrize("name", ["a.keras", "a.h5"])
@pytest.mark.parametrize("content", [b"", b"no model", b"PK\x05\x06" + bytes(18)])
def test_a_keras_file_that_is_none_is_named(tf: Any, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    refused_to_load(tf, tmp_path / name)


def test_a_damaged_savedmodel_is_named(tf: Any, tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "half/saved_model.pb").write_bytes(b"junk")
    assert "Error parsing message" in str(refused_to_load(tf, tmp_path / "half"))


@pytest.mark.parametrize("name", ["nothing.onnx", "notes.txt", "weights.pt", "empty"])
def test_what_is_no_model_lists_the_kinds(tf: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("no model")
    (tmp_path / "weights.pt").write_bytes(b"no model")
    (tmp_path / "empty").mkdir()
    assert named(refusal(tf, tmp_path / name), "file") == ("model-kind", str(tmp_path / name))


@pytest.mark.parametrize("alone", [False, True])
def test_what_keras_opens_as_no_model_with_inputs_is_a_sentence(tf: Any, tmp_path: Path, alone: bool) -> None:
    """A network that was never called on images, and a layer alone."""
    tf.keras.Sequential([tf.keras.layers.Flatten()]).save(tmp_path / "whole.keras")
    with zipfile.ZipFile(tmp_path / "whole.keras") as whole, zipfile.ZipFile(tmp_path / "a.keras", "w") as path:
        for name in whole.namelist():
            content = whole.read(name)
            layer = json.loads(content)["config"]["layers"][-1] if name == "config.json" and alone else None
            path.writestr(name, json.dumps(layer) if layer else content)
    said = str(refused_to_load(tf, tmp_path / "a.keras"))
    assert ("no model with inputs" if alone else "no defined inputs") in said and "call the whole model once" in said
