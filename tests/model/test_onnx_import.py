from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stages.core import isolate
from stages.data import examples
from stages.model import classifier, saved_model
from stages.params import load
from stages.params.model import CustomParams
from tests.fixtures.errors import named, refused
from tests.model.opening import answer, noise, opened, refusal, refused_to_load

CLASSES = 5
SHIPPED = load.read(CustomParams, Path(__file__).parents[2] / "params.yaml")


def write_onnx(
    path: Path,
    *,
    names: tuple[str, str, str, str] = ("photo", "bias", "probabilities", "scores"),
    batch: int | str = "n",
    sides: tuple[Any, Any] = (12, 10),
    half: bool = False,
    pooling: str = "GlobalAveragePool",
    activation: str = "Relu",
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
    nodes = [
        helper.make_node("Conv", [photo, "kernel"], ["c"], kernel_shape=[3, 3]),
        helper.make_node(activation, ["c"], ["r"], "second", domain="" if activation == "Relu" else "com.microsoft"),
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
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1), helper.make_opsetid("com.microsoft", 1)]
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
    assert model.original and model.original.half == ("half" in options)
    original = model.original.call({name: tf.constant(value) for name, value in given.items()})
    for name, expected in zip(found, session.run(None, fed), strict=True):
        np.testing.assert_allclose(found[name], expected, atol=tolerance)
        np.testing.assert_array_equal(original[name].numpy(), expected)


def forbidden(*_: Any) -> None:
    raise AssertionError("a conversion takes ten seconds")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"ir_version": 99}, "model-does-not-load", "(Unsupported model IR version: 99"),
        ({"pooling": "Strange"}, "model-refused", "Strange"),
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


@pytest.mark.parametrize(("content", "reason"), [(b"hello", "Error parsing message"), (b"", "No graph was found")])
def test_a_file_that_is_no_onnx_is_named(tf: Any, tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    assert f"({reason}" in str(refused_to_load(tf, tmp_path / "a.onnx"))


def test_weights_beside_an_onnx_file_are_named_with_how_to_join_them(tf: Any, tmp_path: Path) -> None:
    whole = onnx.load(write_onnx(tmp_path / "a.onnx"))
    onnx.save(whole, tmp_path / "b.onnx", save_as_external_data=True, size_threshold=0, location="b.onnx.data")
    expected = ("onnx-external-weights", "b.onnx", ["b.onnx.data"])
    assert named(refusal(tf, tmp_path / "b.onnx"), "file", "files") == expected


def test_a_constant_beside_an_onnx_file_is_named_too(tf: Any, tmp_path: Path) -> None:
    """One of a node is no initializer."""
    whole = onnx.load(write_onnx(tmp_path / "a.onnx"))
    constant = TensorProto(name="k", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    constant.external_data.add(key="location", value="k.bin")
    whole.graph.node.append(helper.make_node("Constant", [], ["k"], value=constant))
    (tmp_path / "b.onnx").write_bytes(whole.SerializeToString())
    expected = ("onnx-external-weights", "b.onnx", ["k.bin"])
    assert named(refusal(tf, tmp_path / "b.onnx"), "file", "files") == expected


def test_what_onnx2tf_cannot_convert_names_the_node(tf: Any, tmp_path: Path) -> None:
    """It leaves by sys.exit at operators of ONNX Runtime's own."""
    error = refused_to_load(tf, write_onnx(tmp_path / "a.onnx", activation="QuickGelu"))
    assert "QuickGelu" in str(error)


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


def test_a_conversion_that_answers_otherwise_is_refused(
    tf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the classifier's own input, and by what it answers: the same scores for all images."""
    path = write_onnx(tmp_path / "a.onnx", batch="n")
    rng = np.random.default_rng(1)
    scores = rng.normal(0, 1, (1, CLASSES)).astype(np.float32)

    def serve(photo: Any, bias: Any) -> tuple[Any, Any]:
        shifted = tf.reduce_mean(photo, [1, 2, 3])[:, None] * scores + bias
        return tf.nn.softmax(shifted), shifted

    converted_to(tf, monkeypatch, serve)
    setting = replace(SHIPPED, output="probabilities", input="photo", other_inputs={"bias": 0})
    model = classifier.classifier(tf, opened(tf, path), setting)
    error = refused(
        saved_model.refuse_other_answers, tf, "mine", model, examples.read(model.preprocessing, Path("nowhere"))
    )
    assert named(error, "key") == ("onnx-import-differs", "model.path")


def test_what_onnx_runtime_refuses_to_run_is_a_sentence(
    tf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted_to(tf, monkeypatch, lambda _, bias: (bias, bias))
    original = opened(tf, write_onnx(tmp_path / "a.onnx")).original
    assert original
    fed = {"photo": tf.zeros([1, 3, 1, 1]), "bias": tf.zeros([1, CLASSES])}
    assert named(refused(original.call, fed), "file") == ("model-does-not-load", "a.onnx")
