import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.model import door_saved_model
from tests.fixtures.errors import refused

SERVED = Callable[[Any], Any]


def found(path: Path) -> list[str]:
    return list(door_saved_model.findings(path))


@pytest.fixture
def save(tf: Any, tmp_path: Path) -> Callable[..., Path]:
    """Save a function of images and a variable, as a SavedModel."""

    def write(function: SERVED, **held: Any) -> Path:
        module = tf.Module()
        module.variable = tf.Variable(1.0)
        for name, value in held.items():
            setattr(module, name, value)
        spec = tf.TensorSpec([None, 4, 4, 3], tf.float32, name="image")
        module.serve = tf.function(lambda image: {"y": function(image) * module.variable}, input_signature=[spec])
        tf.saved_model.save(module, str(tmp_path / "model"), signatures={"serving_default": module.serve})
        return tmp_path / "model"

    return write


def after(tf: Any, operation: Any, image: Any) -> Any:
    with tf.control_dependencies([operation]):
        return tf.identity(image)


HOSTILE: dict[str, Callable[[Any, Any], Any]] = {
    "WriteFile": lambda tf, x: after(tf, tf.io.write_file("planted", "ran"), x),
    "ReadFile": lambda tf, x: x + tf.cast(tf.strings.length(tf.io.read_file("/etc/passwd")), tf.float32),
    "MatchingFiles": lambda tf, x: x + tf.cast(tf.size(tf.io.matching_files("/etc/*")), tf.float32),
    "PrintV2": lambda tf, x: after(tf, tf.print("ran", output_stream="file://planted"), x),
    "SaveV2": lambda tf, x: after(
        tf,
        tf.raw_ops.SaveV2(prefix="planted", tensor_names=["a"], shape_and_slices=[""], tensors=[tf.constant(1.0)]),
        x,
    ),
    "EagerPyFunc": lambda tf, x: tf.ensure_shape(tf.py_function(abs, [x], tf.float32), x.shape),
    "ImmutableConst": lambda tf, x: x + tf.raw_ops.ImmutableConst(
        dtype=tf.float32, shape=[3], memory_region_name="/etc/passwd"
    ),
    "Abort": lambda tf, x: after(tf, tf.raw_ops.Abort(), x),
    "RangeDataset": lambda tf, x: x + tf.cast(tf.data.Dataset.range(3).cardinality(), tf.float32),
    "InitializeTableFromTextFileV2": lambda tf, x: after(
        tf,
        tf.raw_ops.InitializeTableFromTextFileV2(
            table_handle=tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64),
            filename="/etc/passwd", key_index=-2, value_index=-1,
        ),
        x,
    ),
}  # fmt: skip


@pytest.mark.parametrize("operation", HOSTILE)
def test_an_operation_that_is_not_listed_is_named(tf: Any, save: Callable[..., Path], operation: str) -> None:
    path = save(lambda image: HOSTILE[operation](tf, image))
    assert any(line.startswith(f"operation {operation} of node ") for line in found(path))


def test_it_is_found_in_a_branch_of_a_loop_that_no_input_takes(tf: Any, save: Callable[..., Path]) -> None:
    def step(image: Any) -> Any:
        return tf.cond(tf.reduce_sum(image) > 1e9, lambda: HOSTILE["WriteFile"](tf, image), lambda: image + 1)

    path = save(lambda image: tf.while_loop(lambda x: tf.reduce_mean(x) < 0, lambda x: [step(x)], [image])[0])
    assert [line.rpartition(" of node ")[0] for line in found(path)] == ["operation WriteFile"]


def test_it_is_found_in_a_function_that_no_signature_has(tf: Any, save: Callable[..., Path]) -> None:
    other = tf.function(lambda x: HOSTILE["WriteFile"](tf, x), input_signature=[tf.TensorSpec([2])])
    assert found(save(lambda image: image, other=other))


def test_no_listed_operation_names_a_file_or_another_machine(tf: Any) -> None:
    from tensorflow.python.framework import op_def_registry

    outer = re.compile(r"file|path|memory_region|target|token|address|server|program|library|command")
    listed = [op_def_registry.get(name) for name in door_saved_model.PURE]
    texts = [
        (operation.name, part.name)
        for operation in listed
        for part in (*operation.attr, *operation.input_arg)
        if part.type in ("string", "list(string)", tf.string.as_datatype_enum)
    ]
    assert len(texts) > 100 and not [text for text in texts if outer.search(text[1])]


GOOD: dict[str, Callable[[Any, Any], Any]] = {
    "arithmetic": lambda tf, x: tf.nn.softmax(tf.nn.conv2d(x, tf.ones([2, 2, 3, 3]), 1, "SAME")),
    "decoding": lambda tf, x: (
        x + tf.cast(tf.io.decode_png(tf.io.encode_png(tf.zeros([4, 4, 3], tf.uint8))), tf.float32)
    ),
    "a map": lambda tf, x: tf.map_fn(lambda image: tf.image.random_flip_left_right(image), x),
    "a check": lambda tf, x: after(tf, tf.debugging.Assert(tf.reduce_all(x > -1), [x]), x),
    "a branch": lambda tf, x: tf.cond(tf.reduce_sum(x) > 0, lambda: x, lambda: -x),
}


@pytest.mark.parametrize("kind", GOOD)
def test_what_computes_passes(tf: Any, save: Callable[..., Path], kind: str) -> None:
    assert found(save(lambda image: GOOD[kind](tf, image))) == []


def test_tables_of_the_models_own_pass(tf: Any, save: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "words").write_text("a\nb\n")
    index = tf.lookup.TextFileIndex
    of_file = tf.lookup.TextFileInitializer(
        str(tmp_path / "words"), tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER
    )
    of_values = tf.lookup.KeyValueTensorInitializer(["a"], tf.constant([1], tf.int64))
    tables = [tf.lookup.StaticHashTable(entries, -1) for entries in (of_file, of_values)]

    def serve(image: Any) -> Any:
        return image + tf.cast(sum(table.lookup(tf.constant("b")) for table in tables), tf.float32)

    assert found(save(serve, tables=tables)) == []


def test_what_keras_adapts_passes(tf: Any, tmp_path: Path) -> None:
    layer = tf.keras.layers.Normalization()
    layer.adapt(tf.random.uniform([2, 4, 4, 3]))
    tf.keras.Sequential([tf.keras.Input((4, 4, 3)), layer]).export(tmp_path / "model", verbose=False)
    assert found(tmp_path / "model") == []


def edited(tf: Any, path: Path, edit: Callable[[Any], object]) -> Path:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    model = SavedModel.FromString((path / "saved_model.pb").read_bytes())
    edit(model.meta_graphs[0])
    (path / "saved_model.pb").write_bytes(model.SerializeToString())
    return path


def test_an_asset_outside_the_folder_is_named(tf: Any, tiny_saved_model: tuple[Path, Any], tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes((tiny_saved_model[0] / "saved_model.pb").read_bytes())
    edited(tf, tmp_path, lambda graph: graph.asset_file_def.add(filename="../../etc/passwd"))
    assert found(tmp_path) == ["the asset ../../etc/passwd lies outside its folder"]


def test_what_restores_variables_may_not_save(tf: Any, save: Callable[..., Path]) -> None:
    """A graph of TensorFlow 1 runs what its saver names when it is loaded."""
    path = save(lambda image: image)
    assert found(path) == []
    saver = "StatefulPartitionedCall_1"
    edited(tf, path, lambda graph: setattr(graph.saver_def, "restore_op_name", saver))
    assert {line.split()[1] for line in found(path)} == {"MergeV2Checkpoints", "SaveV2", "ShardedFilename"}


@pytest.mark.parametrize("kind", ["a file", "a folder", "a dead link"])
def test_a_link_in_the_folder_is_named(tiny_saved_model: tuple[Path, Any], tmp_path: Path, kind: str) -> None:
    (tmp_path / "saved_model.pb").write_bytes((tiny_saved_model[0] / "saved_model.pb").read_bytes())
    lead = {"a file": "/etc/passwd", "a folder": "/etc", "a dead link": "nowhere"}[kind]
    (tmp_path / "variables").symlink_to(lead)
    assert found(tmp_path) == ["variables is a link or no regular file"]


def test_a_table_without_its_file_is_a_sentence(tf: Any, tiny_saved_model: tuple[Path, Any], tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes((tiny_saved_model[0] / "saved_model.pb").read_bytes())
    edited(tf, tmp_path, lambda graph: graph.graph_def.node.add(name="t", op="InitializeTableFromTextFileV2"))
    assert refused(found, tmp_path).code == "model-does-not-load"


def test_a_damaged_graph_is_a_sentence(tf: Any, tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"junk")
    assert refused(found, tmp_path).code == "model-does-not-load"
