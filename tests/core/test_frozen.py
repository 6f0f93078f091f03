from pathlib import Path
from typing import Any

import numpy as np

from stages.core import frozen
from stages.core.tensorflow import CALLS, nodes, tensorflow
from stages.runtimes.tftrt.tests import nets

tf = tensorflow()


def calls(function: Any) -> list[str]:
    return [node.op for node in nodes(function.graph) if node.op in CALLS]


@tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
def inner(x: Any) -> Any:
    return tf.nn.relu(x) + 1


@tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
def outer(x: Any) -> tuple[Any, Any]:
    return inner(x) * 2, inner(-x)


@tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "images")])  # type: ignore[untyped-decorator]
def model(images: Any) -> Any:
    first, second = outer(images)
    return first + second + inner(images)


def test_functions_that_xla_would_compile_are_inlined_those_in_them_too() -> None:
    closed = frozen.freeze(model.get_concrete_function())
    assert len(calls(closed)) > 1
    opened, count = frozen.inline(closed)
    assert count == 4  # the outer, the inner twice in it, and once beside it
    assert not calls(opened)
    for size in (1, 8):
        images = tf.constant(np.random.default_rng(size).normal(0, 1, (size, 3)), tf.float32)
        np.testing.assert_allclose(opened(images)[0], model(images), rtol=1e-6)
        np.testing.assert_allclose(closed(images)[0], model(images), rtol=1e-6)  # its own calls are as they were


def test_a_graph_without_such_functions_is_the_same() -> None:
    closed = frozen.freeze(tf.function(lambda x: x + 1).get_concrete_function(tf.TensorSpec([None, 3])))
    assert frozen.inline(closed) == (closed, 0)


def test_a_saved_graph_keeps_its_interface_and_its_open_batch(tmp_path: Path) -> None:
    nets.save(tmp_path / "model", lambda images: nets.pooled(tf.nn.swish(images)), gradients=True)
    original = tf.saved_model.load(str(tmp_path / "model"))
    signature = original.signatures["serving_default"]
    closed = frozen.freeze(signature)
    frozen.save(tf, frozen.of_graph(closed.graph.as_graph_def(), closed), signature, tmp_path / "copy")
    copy = tf.saved_model.load(str(tmp_path / "copy"))
    ours = copy.signatures["serving_default"]
    assert ours.structured_input_signature == signature.structured_input_signature
    assert list(ours.structured_outputs) == ["probabilities"]
    assert any("_gradient_op_type" in node.attr for node in nodes(signature.graph))
    assert not any("_gradient_op_type" in node.attr for node in nodes(ours.graph))
    images = nets.example(5)
    np.testing.assert_array_equal(ours(images=images)["probabilities"], signature(images=images)["probabilities"])
