from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stages.core import erfc, frozen
from stages.core.tensorflow import nodes, tensorflow

tf = tensorflow()


def complement(x: Any) -> Any:
    return tf.raw_ops.Erfc(x=x)


def plain(x: Any) -> Any:
    return tf.nn.gelu(complement(x) + 1)


def in_a_loop(x: Any) -> Any:
    return tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, complement(complement(y))), [0, x])[1]


def in_a_branch(x: Any) -> Any:
    return tf.cond(tf.reduce_sum(x) > 0, lambda: complement(x), lambda: complement(-x) * 2)


@pytest.mark.parametrize(("call", "count"), [(plain, 2), (in_a_loop, 2), (in_a_branch, 2), (tf.math.erf, 0)])
def test_answers_are_the_same_in_the_graph_and_in_its_functions(call: Callable[[Any], Any], count: int) -> None:
    closed = frozen.freeze(tf.function(call).get_concrete_function(tf.TensorSpec([None, 5])), lower=False)
    graph = closed.graph.as_graph_def()
    assert erfc.without(graph) == count
    other = frozen.of_graph(graph, closed)
    assert "Erfc" not in {node.op for node in nodes(other.graph)}
    for size in (1, 4):
        images = tf.constant(np.random.default_rng(size).normal(size=(size, 5)).astype(np.float32))
        np.testing.assert_allclose(other(images)[0], call(images), atol=1e-6)
