import json
import zipfile
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


def operation(kind: str, module: str = "keras.src.ops.numpy") -> dict[str, Any]:
    return layer(kind, module=module, registered_name=kind)


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
    "a function of Python": (holding(activation=FUNCTION | {"config": "eval"}), "calls the function eval"),
    "a function of Keras's sources": (
        holding(activation=FUNCTION | {"module": "keras.src.utils.python_utils", "config": "func_load"}),
        "calls the function func_load",
    ),
    "a function that calls another": (
        holding(activation=FUNCTION | {"module": "keras.ops", "config": "vectorized_map"}),
        "calls the function vectorized_map",
    ),
    "a class of the user's": (layer("Doubled", module=None), "is of the class Doubled, which is none of Keras"),
    "a registered class": (layer("Dense", registered_name="mine>Doubled"), "is of the user's own class mine>Doubled"),
    "a registered name that is a lambda": (layer(registered_name="Lambda"), "is of the user's own class Lambda"),
    "marshalled code": (
        holding(function={"class_name": "__lambda__", "config": {"value": []}}),
        "is of the class __lambda__, which is none of Keras",
    ),
    "a method of a class": (layer("ClassMethod"), "is of the class ClassMethod, which is none of Keras"),
    "a program": (layer("system", module="os"), "comes from the Python module os"),
    "a folder with a program": (
        layer("TFSMLayer", config={"name": "planted", "filepath": "/tmp/planted"}),
        "is of the class TFSMLayer, which is none of Keras",
    ),
    "pickled modules": (layer("TorchModuleWrapper"), "is of the class TorchModuleWrapper, which is none of Keras"),
    "functions of JAX": (layer("JaxLayer"), "is of the class JaxLayer, which is none of Keras"),
    "modules of Flax": (layer("FlaxLayer"), "is of the class FlaxLayer, which is none of Keras"),
    "a class of Keras that is no layer": (
        layer("ModelCheckpoint", module="keras.callbacks"), "is of the class ModelCheckpoint, which is none of Keras"
    ),
    "a listed class of another of its modules": (
        layer("Dense", module="keras.src.utils.file_utils"), "is of the class Dense, which is none of Keras"
    ),
    "an operation of another module": (
        operation("Multiply", "keras.src.ops.core"), "is of the class Multiply, which is none of Keras"
    ),
    "an operation that calls": (
        operation("Map", "keras.src.ops.core"), "is of the class Map, which is none of Keras"
    ),
    "an operation of the user's": (operation("Mine", "mine.ops"), "comes from the Python module mine.ops"),
    "the training of a model within": (
        layer("Sequential", module="keras", compile_config={"loss": layer("TFSMLayer", config={"filepath": "/tmp"})}),
        "is of the class TFSMLayer, which is none of Keras",
    ),
    "a type of TensorFlow": (
        holding(shape={"class_name": "__typespec__", "spec_name": "get_file", "module": "keras.utils", "config": []}),
        "is of the class __typespec__, which is none of Keras",
    ),
    "no initialiser beside those of TensorFlow": (
        holding(kernel_initializer=layer("gen_linalg_ops", module="tensorflow.python.ops.init_ops_v2")),
        "is of the class gen_linalg_ops",
    ),
    "a vocabulary on the disk": (holding(vocabulary="/etc/passwd"), "reads the file /etc/passwd"),
    "a vocabulary in other words": (
        holding(vocabulary={"class_name": "__bytes__", "config": {"value": "/etc/passwd"}}), "reads the file {"
    ),
}  # fmt: skip


@pytest.fixture(params=["keras", "h5"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    write = keras_archive if request.param == "keras" else hdf5
    return lambda *layers: write(tmp_path / f"a.{request.param}", network(*layers))


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_more_than_data_is_named_with_its_layer(kept: Kept, kind: str) -> None:
    planted, said = HOSTILE[kind]
    assert any(line.startswith(f"layer planted {said}") for line in found(kept(layer(name="first"), planted)))


@pytest.mark.parametrize("kind", ["Bidirectional", "TimeDistributed", "Sequential", "Functional"])
def test_layers_within_layers_are_seen(kept: Kept, kind: str) -> None:
    module = {"Sequential": "keras", "Functional": "keras.src.models.functional"}.get(kind, "keras.layers")
    inside = layer(
        kind,
        "outer",
        module=module,
        config={"name": "outer", "layer": layer("Lambda"), "layers": [layer("Lambda", "b")]},
    )
    assert [line.split(" is ")[0] for line in found(kept(inside))] == ["layer planted", "layer b"]


GOOD = {
    "a layer": layer(),
    "an operation": operation("GetItem"),
    "a slice": operation("GetItem")
    | {"inbound_nodes": [{"args": [{"class_name": "__slice__", "config": {"start": 1}}], "kwargs": {}}]},
    "an operation with a text": operation("Einsum") | {"config": {"name": "planted", "subscripts": "bi->bi"}},
    "a tensor": layer(
        inbound_nodes=[{"args": [{"class_name": "__keras_tensor__", "config": {"shape": [None]}}], "kwargs": {}}]
    ),
    "an activation": holding(activation=FUNCTION),
    "a function of another part": holding(activation=FUNCTION | {"module": "keras.ops", "config": "sin"}),
    "an initialiser by its older name": holding(
        kernel_initializer=layer("glorot_uniform", module="keras.initializers")
    ),
    "a layer of InceptionResNetV2": layer(
        "CustomScaleLayer",
        module="keras.src.applications.inception_resnet_v2",
        registered_name="CustomScaleLayer",
    ),
    "a layer of ConvNeXt": layer("LayerScale", module="keras.src.applications.convnext", registered_name="LayerScale"),
    "a table of words": layer("StringLookup", config={"name": "planted", "vocabulary": ["a", "b"]}),
    "a policy": holding(dtype=layer("DTypePolicy", module="keras", config={"name": "mixed_float16"})),
    "an older policy": holding(dtype=layer("Policy", module="keras.mixed_precision", config={"name": "mixed_float16"})),
    "a model in a model": layer(
        "Functional",
        module="keras.src.models.functional",
        compile_config={
            "loss": FUNCTION | {"config": "mean_squared_error"},
            "optimizer": layer("Adam", module="keras.optimizers"),
        },
    ),
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


@pytest.mark.parametrize("name", registries.LISTS)
def test_the_lists_are_what_tensorflow_knows_and_computes(tf: Any, name: str) -> None:
    """Else `python -m tests.model.registries` writes them anew."""
    assert (registries.ROOM / name).read_text().split() == sorted(registries.LISTS[name]())


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", ["a.keras", "a.h5"])
def test_what_keras_writes_of_common_layers_passes(tf: Any, tmp_path: Path, name: str) -> None:
    import keras

    layers, ops = keras.layers, keras.ops
    changes = [layers.RandomFlip(), layers.RandomRotation(0.1), layers.Resizing(8, 8), layers.Rescaling(1 / 255)]
    image = layers.Input((8, 8, 3))
    x = layers.Normalization(mean=0.5, variance=1.0)(keras.Sequential(changes)(image))
    x = layers.Conv2D(4, 3, activation=ops.silu, kernel_regularizer="l2", kernel_constraint="max_norm")(x)
    x = layers.Bidirectional(layers.LSTM(4))(ops.reshape(x, [-1, 36, 4])[:, ::2] * 2.0)
    x = layers.Dense(3, ops.silu, kernel_initializer=keras.initializers.HeNormal(1))(ops.einsum("bi->bi", x))
    x = layers.Dense(3, dtype="mixed_float16")(x)
    model = keras.Model(image, ops.softmax(ops.cast(ops.relu6(x), "float32")))
    model.compile("adam", loss=lambda truth, answer: truth - answer, metrics=["accuracy"])
    model.save(tmp_path / name)
    assert found(tmp_path / name) == []


@pytest.mark.parametrize("kind", ["TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"])
def test_what_keras_2_calls_of_tensorflow_is_a_sentence(tmp_path: Path, kind: str) -> None:
    """Trusted or not: Keras 3 has nothing to open it with."""
    error = refused(door_keras.read, hdf5(tmp_path / "a.h5", network(layer(), layer(kind))))
    assert named(error, "file") == ("model-does-not-load", "a.h5")
    assert "layer planted" in str(error) and "model.export(FOLDER)" in str(error)


def test_an_archive_of_keras_2_says_to_save_it_otherwise(tmp_path: Path) -> None:
    error = refused(door_keras.read, keras_archive(tmp_path / "a.keras", network(layer()), "2.14.0"))
    assert named(error, "file", "key") == ("model-does-not-load", "a.keras", "model.path")
    assert "Keras 2.14.0" in str(error) and "model.save('model.h5')" in str(error)


def test_a_class_of_a_newer_keras_names_both_versions(tmp_path: Path) -> None:
    (line,) = found(keras_archive(tmp_path / "a.keras", network(layer("Rotary")), "99.1.0"))
    assert f"none of Keras {door_keras.installed()}, while the file is of Keras 99.1.0" in line


@pytest.mark.parametrize("name", ["a.h5", "a.keras"])
def test_a_file_that_is_both_kinds_is_read_as_keras_reads_it(tmp_path: Path, name: str) -> None:
    """By its name: what the other kind says of a model is none of it."""
    path, benign = tmp_path / name, network(layer())
    hdf5(path, network(layer("Lambda")) if name == "a.h5" else benign)
    archive = keras_archive(tmp_path / "b.keras", benign if name == "a.h5" else network(layer("Lambda")))
    with zipfile.ZipFile(archive) as given, zipfile.ZipFile(path, "a") as both:
        for member in given.namelist():
            both.writestr(member, given.read(member))
    said = found(path)
    assert "layer planted is a Lambda, which is Python code" in said
    assert ("it is a zip archive as well, and may be read as either" in said) == (name == "a.h5")


@pytest.mark.parametrize("name", ["a.h5", "a.keras"])
def test_a_file_of_the_other_kind_is_not_opened(tmp_path: Path, name: str) -> None:
    path = (keras_archive if name == "a.h5" else hdf5)(tmp_path / name, network(layer()))
    assert named(refused(found, path), "file") == ("model-does-not-load", name)


def test_weights_that_lie_in_another_file_are_named(tmp_path: Path) -> None:
    archive, old = keras_archive(tmp_path / "a.keras", network()), hdf5(tmp_path / "a.h5", network())
    with h5py.File(tmp_path / "weights", "w") as file:
        file.create_dataset("w", (2,), "f4", external=[("/etc/passwd", 0, 8)])
    with zipfile.ZipFile(archive, "a") as both:
        both.write(tmp_path / "weights", "model.weights.h5")
    with h5py.File(old, "a") as file:
        file["w"] = h5py.ExternalLink("/etc/other.h5", "w")
    assert found(archive) == ["the weights /w lie in the file /etc/passwd"]
    assert found(old) == ["w in / is a link to w of /etc/other.h5"]


@pytest.mark.parametrize("name", ["model.weights.npz", "run.py", "assets/../run.py"])
def test_what_keras_writes_into_no_archive_is_named(tmp_path: Path, name: str) -> None:
    """From the first Keras would unpickle."""
    path = keras_archive(tmp_path / "a.keras", network())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("assets/vocabulary.txt", "a")
        archive.writestr(name, "planted")
    assert found(path) == [f"it holds {name}, which is no part of a Keras file"]


@pytest.mark.parametrize(
    ("name", "limit", "reason"),
    [
        ("config.json", "MAX_TEXT_BYTES", "its config.json has 100,000 bytes"),
        ("assets/vocabulary.txt", "MAX_BYTES", "it would unpack to "),
    ],
)
def test_a_small_archive_of_much_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, limit: str, reason: str
) -> None:
    monkeypatch.setattr(door_keras, limit, 1000)
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        described = json.dumps(network())
        members = {"metadata.json": json.dumps({"keras_version": "3.15.1"}), "config.json": described}
        for member, text in (members | {name: f"{described:100000}"}).items():
            archive.writestr(member, text)
    error = refused(found, path)
    assert error.code == "model-does-not-load" and reason in str(error)


ODD = {
    "a function without a name": (holding(activation=FUNCTION | {"config": {"a": 1}}), "calls the function {'a': 1}"),
    "a function that is a list": (holding(activation=FUNCTION | {"config": ["gelu"]}), "calls the function ['gelu']"),
    "a class that is a list": (layer(["Dense"]), "is of the class ['Dense'], which is none of Keras"),
    "no class": (layer() | {"class_name": None}, "is of the class None, which is none of Keras"),
    "a module that is a list": (layer(module=["keras.layers"]), "comes from the Python module ['keras.layers']"),
    "an initialiser of a module that is a list": (
        holding(kernel_initializer=layer("Zeros", module=["antigravity"])),
        "comes from the Python module ['antigravity']",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD)
def test_a_name_that_is_no_text_is_refused(kept: Kept, kind: str) -> None:
    planted, said = ODD[kind]
    assert found(kept(planted)) == [f"layer planted {said}"]


@pytest.mark.parametrize("config", [{}, [], "a", 5, None, {"a": layer()}, layer(["Dense"])])
@pytest.mark.parametrize("write", [keras_archive, hdf5])
def test_a_description_of_no_model_is_refused(tmp_path: Path, write: Kept, config: Any) -> None:
    """Keras would give back a dictionary."""
    error = refused(found, write(tmp_path / ("a.h5" if write is hdf5 else "a.keras"), config))
    assert error.code == "model-does-not-load" and "it describes no model" in str(error)


def test_an_initialiser_of_tensorflow_is_as_one_of_keras(tf: Any, tmp_path: Path) -> None:
    given = tf.keras.Input((4,))
    model = tf.keras.Model(given, tf.keras.layers.Dense(2, kernel_initializer=tf.constant_initializer(0.5))(given))
    model.save(tmp_path / "a.keras")
    assert found(tmp_path / "a.keras") == []


def test_what_an_odd_description_raises_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise TypeError("unhashable type")

    monkeypatch.setattr(door_keras, "_object", fail)
    assert refused(found, keras_archive(tmp_path / "a.keras", network())).code == "model-does-not-load"


def test_a_damaged_description_is_a_sentence(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "a.h5", network())
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = json.dumps(network())[:-1]
    assert refused(found, path).code == "model-does-not-load"
