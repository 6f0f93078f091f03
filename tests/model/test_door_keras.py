import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest

from stages.model import door_keras
from tests.fixtures.errors import named, refused
from tests.fixtures.kept import hdf5, keras_archive, layer, network
from tests.model import registries

Kept = Callable[..., Path]
PRINTS = {"module": "os", "class_name": "function", "config": "system", "registered_name": "function"}
FUNCTION = {"module": "builtins", "class_name": "function", "config": "gelu", "registered_name": "function"}


def found(path: Path) -> list[str]:
    return list(door_keras.findings(path))


def calls(function: str, kind: str = "TFOpLambda", **more: Any) -> dict[str, Any]:
    return layer(kind, config={"name": "planted", "function": function}, **more)


def holding(**config: Any) -> dict[str, Any]:
    return layer(config={"name": "planted", **config})


# What a layer is, and what is said of it.
HOSTILE = {
    "a lambda": (layer("Lambda"), "is a Lambda, which is Python code"),
    "a class of another module": (layer("Popen", module="subprocess"), "comes from the Python module subprocess"),
    "a function of another module": (holding(activation=PRINTS), "comes from the Python module os"),
    "an initialiser of another module": (
        holding(kernel_initializer=layer("Zeros", module="antigravity")), "comes from the Python module antigravity"
    ),
    "a module that begins like Keras": (layer(module="keras_hub"), "comes from the Python module keras_hub"),
    "a function of Keras that is no activation": (
        holding(activation=FUNCTION | {"module": "keras.utils", "config": "get_file"}), "calls the function get_file"
    ),
    "a class of the user's": (layer("Doubled", module=None), "is of the class Doubled, which is none of Keras"),
    "a registered class": (layer("Dense", registered_name="mine>Doubled"), "is of the user's own class mine>Doubled"),
    "a registered name that is a lambda": (layer(registered_name="Lambda"), "is of the user's own class Lambda"),
    "marshalled code": (
        holding(function={"class_name": "__lambda__", "config": {"value": []}}),
        "is of the class __lambda__, which is none of Keras",
    ),
    "a method of a class": (layer("ClassMethod"), "is of the class ClassMethod, which is none of Keras"),
    "a function that writes": (calls("io.write_file"), "calls tf.io.write_file"),
    "a raw operation": (calls("raw_ops.WriteFile"), "calls tf.raw_ops.WriteFile"),
    "a function that downloads": (calls("keras.utils.get_file"), "calls tf.keras.utils.get_file"),
    "Python": (calls("numpy_function"), "calls tf.numpy_function"),
    "a slice that is none": (calls("io.write_file", "SlicingOpLambda"), "calls tf.io.write_file"),
    "an operation": (
        layer("TensorFlowOpLayer", config={"name": "planted", "node_def": {"op": "WriteFile"}}),
        "is an operation of TensorFlow outside the list",
    ),
    "an operation in bytes": (
        layer("TensorFlowOpLayer", config={"name": "planted", "node_def": "op: WriteFile"}),
        "is an operation of TensorFlow outside the list",
    ),
    "a command": (layer(inbound_nodes=[["_CONSTANT_VALUE", -1, "echo ran", {}]]), "is called with a text"),
    "a vocabulary on the disk": (holding(vocabulary="/etc/passwd"), "reads the file /etc/passwd"),
}  # fmt: skip


@pytest.fixture(params=["keras", "h5"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    write = keras_archive if request.param == "keras" else hdf5
    return lambda *layers: write(tmp_path / f"a.{request.param}", network(*layers))


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_more_than_data_is_named_with_its_layer(kept: Kept, kind: str) -> None:
    planted, said = HOSTILE[kind]
    assert f"layer planted {said}" in found(kept(layer(name="first"), planted))


@pytest.mark.parametrize("kind", ["Bidirectional", "TimeDistributed", "Sequential", "Functional"])
def test_layers_within_layers_are_seen(kept: Kept, kind: str) -> None:
    inside = layer(kind, "outer", config={"name": "outer", "layer": layer("Lambda"), "layers": [layer("Lambda", "b")]})
    assert [line.split(" is ")[0] for line in found(kept(inside))] == ["layer planted", "layer b"]


GOOD = {
    "a layer": layer(),
    "a function": calls("math.reduce_mean"),
    "its older form": calls("compat.v1.nn.softmax"),
    "an equation": calls("einsum", inbound_nodes=[["_CONSTANT_VALUE", -1, "bi->bi", {}]]),
    "a number": layer(inbound_nodes=[["_CONSTANT_VALUE", -1, 0.5, {}]]),
    "a slice": calls("__operators__.getitem", "SlicingOpLambda"),
    "an operation": layer("TensorFlowOpLayer", config={"name": "planted", "node_def": {"op": "AddV2"}}),
    "an activation": holding(activation=FUNCTION),
    "an initialiser of TensorFlow 1": holding(
        kernel_initializer=layer("VarianceScaling", module="tensorflow.python.ops.init_ops_v2")
    ),
    "a registered layer of Keras's own": layer(
        "CustomScaleLayer",
        module="keras.src.applications.inception_resnet_v2",
        registered_name="Custom>CustomScaleLayer",
    ),
    "a layer of ConvNeXt": layer("LayerScale", module="keras.src.applications.convnext", registered_name="LayerScale"),
    "a table of words": layer("StringLookup", config={"name": "planted", "vocabulary": ["a", "b"]}),
    "a policy": holding(dtype=layer("Policy", module="keras.mixed_precision", config={"name": "mixed_float16"})),
}


@pytest.mark.parametrize("kind", GOOD)
def test_what_computes_passes(kept: Kept, kind: str) -> None:
    assert found(kept(GOOD[kind])) == []


@pytest.mark.parametrize(("module", "refused"), [("builtins", False), ("my.losses", True)])
def test_a_training_may_have_names_of_the_users_own_but_no_other_module(
    tmp_path: Path, module: str, refused: bool
) -> None:
    loss = {"module": module, "class_name": "function", "config": "my_loss", "registered_name": "function"}
    archive = keras_archive(tmp_path / "a.keras", network(layer()) | {"compile_config": {"loss": loss}})
    old = hdf5(tmp_path / "a.h5", network(layer()), training_config={"loss": loss})
    assert [bool(found(path)) for path in (archive, old)] == [refused] * 2


def test_a_file_of_keras_3_is_left_closed(tmp_path: Path) -> None:
    path = keras_archive(tmp_path / "a.keras", network(layer("Lambda")), "3.4.1")
    error = refused(found, path)
    assert named(error, "file") == ("model-does-not-load", "a.keras") and "Keras 3.4.1" in str(error)


@pytest.mark.parametrize("name", registries.LISTS)
def test_the_lists_are_what_tensorflow_knows_and_computes(tf: Any, name: str) -> None:
    """Else `python -m tests.model.registries` writes them anew."""
    assert (registries.ROOM / name).read_text().split() == sorted(registries.LISTS[name]())


def test_what_keras_writes_of_common_layers_passes(tf: Any, tmp_path: Path) -> None:
    layers = tf.keras.layers
    changes = [layers.RandomFlip(), layers.RandomRotation(0.1), layers.Resizing(8, 8), layers.Rescaling(1 / 255)]
    image = layers.Input((8, 8, 3))
    x = layers.Normalization(mean=0.5, variance=1.0)(tf.keras.Sequential(changes)(image))
    x = layers.Conv2D(4, 3, activation=tf.nn.silu, kernel_regularizer="l2", kernel_constraint="max_norm")(x)
    x = layers.Bidirectional(layers.LSTM(4))(tf.reshape(x, [-1, 36, 4])[:, ::2] * 2.0)
    x = layers.Dense(3, kernel_initializer=tf.keras.initializers.HeNormal(1))(tf.einsum("bi->bi", x))
    model = tf.keras.Model(image, tf.keras.backend.softmax(tf.cast(tf.nn.relu6(x), tf.float32)))
    model.compile("adam", loss=lambda truth, answer: truth - answer, metrics=["accuracy"])
    for name in ("a.keras", "a.h5"):
        model.save(tmp_path / name)
        assert found(tmp_path / name) == []


def test_a_damaged_description_is_a_sentence(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "a.h5", network())
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = json.dumps(network())[:-1]
    assert refused(found, path).code == "model-does-not-load"
