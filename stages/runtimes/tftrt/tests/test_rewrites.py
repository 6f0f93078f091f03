from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stages.core import frozen
from stages.core.tensorflow import tensorflow
from stages.runtimes.tftrt import rewrites

tf = tensorflow()


def traced(call: Callable[[Any], Any], *shape: int | None) -> Any:
    return frozen.freeze(tf.function(call).get_concrete_function(tf.TensorSpec(shape, tf.float32, "images")))


def rewritten(call: Callable[[Any], Any], *shape: int | None) -> tuple[Any, dict[str, int]]:
    """A function of its graph, rewritten; and what was."""
    function = traced(call, *shape)
    graph = function.graph.as_graph_def()
    done = rewrites.rewrite(tf, graph)
    return frozen.of_graph(graph, function), dict(done)


def assert_equal(call: Callable[[Any], Any], other: Any, *shape: int, atol: float = 0) -> None:
    for count in (1, 8):
        images = tf.constant(np.random.default_rng(count).normal(0, 1, (count, *shape)), tf.float32)
        (ours,), theirs = other(images), call(images)
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=atol)


def operations(function: Any) -> list[str]:
    return [one.type for one in function.graph.get_operations()]


def batch(x: Any) -> Any:
    return tf.shape(x)[0]


def twice(x: Any) -> Any:
    return tf.concat([x, x], 0)


def unknown(x: Any) -> Any:
    """6, which nothing but the values of a tensor tells."""
    return tf.cast(tf.reduce_max(x) * 0 + 6, tf.int32)


@pytest.mark.parametrize(
    ("call", "size", "constant"),
    [
        (lambda x: tf.reshape(x, [batch(x), 1, 1, 12]), 12, [-1, 1, 1, 12]),
        (lambda x: tf.reshape(x, tf.stack([batch(x), 3, tf.shape(x)[1] // 3])), 12, [-1, 3, 4]),
        (lambda x: tf.reshape(x, tf.concat([tf.shape(x)[:1], [3, 4]], 0)), 12, [-1, 3, 4]),
        (lambda x: tf.reshape(x, tf.shape(x)), 12, [-1, 12]),
        # Another tensor's batch, which can be no other where the rest has as many values.
        (lambda x: tf.reshape(x, [batch(tf.nn.relu(x)), 3, 4]), 12, [-1, 3, 4]),
        (lambda x: tf.reshape(x, [tf.shape(x, tf.int64)[0], 3, 4]), 12, [-1, 3, 4]),
    ],
)
def test_a_reshape_that_keeps_the_batch_gets_a_constant_shape(
    call: Callable[[Any], Any], size: int, constant: list[int]
) -> None:
    other, done = rewritten(call, None, size)
    assert done == {"Reshape": 1}
    (reshape,) = (one for one in other.graph.get_operations() if one.type == "Reshape")
    assert tf.get_static_value(reshape.inputs[1]).tolist() == constant
    assert not {"Shape", "StridedSlice", "Pack", "ConcatV2"} & {*operations(other)}
    assert_equal(call, other, size)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: tf.reshape(x, tf.stack([batch(x), unknown(x), 2])),  # two unknown entries
        lambda x: tf.reshape(x, tf.stack([batch(twice(x)), 6])),  # another batch
        lambda x: tf.reshape(x, tf.stack([2, batch(x), 6])),  # the batch is not the first
        lambda x: tf.reshape(x, tf.stack([batch(x) * 12])),  # there is no batch any more
        lambda x: tf.reshape(tf.reshape(x, [-1]), tf.stack([batch(x), 12])),  # there was none
        lambda x: tf.reshape(x, [-1, 3, 4]),  # as it should be
    ],
)
def test_a_reshape_that_may_change_the_batch_is_left_alone(call: Callable[[Any], Any]) -> None:
    other, done = rewritten(call, None, 12)
    assert done == {}
    assert operations(other) == operations(traced(call, None, 12)) and "Reshape" in operations(other)
    assert_equal(call, other, 12)


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_erfc_becomes_1_less_erf(kind: str) -> None:
    def call(x: Any) -> Any:
        return tf.cast(tf.raw_ops.Erfc(x=tf.cast(x, kind)), tf.float32)

    other, done = rewritten(call, None, 12)
    assert done == {"Erfc": 1}
    assert "Erfc" not in operations(other) and {"Erf", "Sub"} <= {*operations(other)}
    assert_equal(call, other, 12, atol=1e-6 if kind == "float32" else 1e-3)


def grouped(channels: int, outputs: int, **settings: Any) -> Callable[[Any], Any]:
    kernel = np.random.default_rng(0).normal(0, 1, (3, 3, channels, outputs)).astype(np.float32)
    return lambda x: tf.nn.conv2d(x, kernel, **{"strides": 1, "padding": "SAME"} | settings)


@pytest.mark.parametrize("settings", [{}, {"strides": 2}, {"padding": "VALID"}])
@pytest.mark.parametrize("outputs", [6, 12])
def test_a_convolution_of_as_many_groups_as_channels_becomes_a_depthwise_one(
    outputs: int, settings: dict[str, Any]
) -> None:
    call = grouped(1, outputs, **settings)
    other, done = rewritten(call, None, 8, 8, 6)
    assert done == {"Conv2D": 1}
    assert "Conv2D" not in operations(other) and "DepthwiseConv2dNative" in operations(other)
    assert not rewrites.has_other_groups(tf, other.graph.as_graph_def())
    assert_equal(call, other, 8, 8, 6, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "others"),
    [
        (grouped(6, 12), False),
        (grouped(2, 12), True),
        (grouped(1, 12, dilations=2), True),
        (grouped(1, 12, strides=[1, 1, 2, 1]), True),
        (grouped(1, 12, padding=[[0, 0], [1, 1], [1, 1], [0, 0]]), True),
    ],
)
def test_other_convolutions_stay(call: Callable[[Any], Any], others: bool) -> None:
    other, done = rewritten(call, None, 8, 8, 6)
    assert done == {}
    assert rewrites.has_other_groups(tf, other.graph.as_graph_def()) is others


def test_what_waits_for_another_operation_still_does() -> None:
    def call(x: Any) -> Any:
        with tf.control_dependencies([tf.debugging.assert_greater(x[0, 0], -1e9)]):
            return tf.raw_ops.Erfc(x=x)

    other, _ = rewritten(call, None, 12)
    assert "Assert" in " ".join(operations(other))
    assert_equal(call, other, 12, atol=1e-6)


def test_a_model_of_one_channel_has_no_groups() -> None:
    _, done = rewritten(grouped(1, 4), None, 8, 8, 1)
    assert done == {}
