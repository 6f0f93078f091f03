"""What follows a convolution becomes part of it, and nothing else changes."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from stages.model import onnx_folding

CHANNELS = 6
RNG = np.random.default_rng(0)


def model(
    *nodes: Any, groups: int = CHANNELS, bias: bool = False, outputs: tuple[str, ...] = ("y",), **more: Any
) -> Any:
    """A convolution from x to c and these nodes."""
    arrays = {"w": RNG.normal(size=(CHANNELS, CHANNELS // groups, 3, 3)), "b": RNG.normal(size=CHANNELS), **more}
    weights = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in arrays.items()]
    first = helper.make_node("Conv", ["x", "w", *(["b"] if bias else [])], ["c"], "conv", group=groups, pads=[1] * 4)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", CHANNELS, 5, 5]) for name in ("x", *outputs)]
    graph = helper.make_graph([first, *nodes], "g", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def answers(made: Any) -> list[Any]:
    onnx.checker.check_model(made, full_check=True)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(1).normal(size=(2, CHANNELS, 5, 5)).astype(np.float32)
    return list(session.run(None, {"x": images}))


def step(kind: str, source: str, target: str, constant: str = "k", turned: bool = False) -> Any:
    inputs = [constant, source] if turned else [source, constant]
    return helper.make_node(kind, inputs, [target], f"{kind}_{target}")


def values(*shape: int) -> Any:
    return RNG.normal(size=shape)


def kinds(made: Any) -> list[str]:
    return [node.op_type for node in made.graph.node]


@pytest.mark.parametrize("groups", [CHANNELS, 2, 1])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, CHANNELS, 1, 1), (CHANNELS, 1, 1), (1,), ()])
def test_a_factor_and_a_summand_become_weights(groups: int, bias: bool, shape: tuple[int, ...]) -> None:
    steps = [step("Mul", "c", "m", turned=True), step("Add", "m", "a", "s"), step("Mul", "a", "y", "k")]
    made = model(*steps, groups=groups, bias=bias, k=values(*shape), s=values(*shape))
    before = answers(made)
    assert onnx_folding.fold(made) == 3
    assert kinds(made) == ["Conv"]
    np.testing.assert_allclose(answers(made), before, rtol=1e-4, atol=1e-5)


OTHERS = {
    "two readers": ([step("Mul", "c", "m"), step("Add", "m", "y", "c")], {"k": values(CHANNELS, 1, 1)}),
    "an output of the graph": ([step("Mul", "c", "y")], {"k": values(CHANNELS, 1, 1), "outputs": ("y", "c")}),
    "values along a row": ([step("Mul", "c", "y")], {"k": values(5)}),
    "values for each pixel": ([step("Add", "c", "y")], {"k": values(1, 1, 5, 5)}),
    "no constant": ([step("Mul", "c", "y", "x")], {}),
    "itself": ([step("Mul", "c", "y", "c")], {}),
    "another operation": ([step("Div", "c", "y")], {"k": values(CHANNELS, 1, 1)}),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_others_stay(kind: str) -> None:
    steps, more = OTHERS[kind]
    made = model(*steps, **more)
    before, first = kinds(made), answers(made)
    assert onnx_folding.fold(made) == 0
    assert kinds(made) == before
    np.testing.assert_array_equal(answers(made), first)


def test_weights_that_are_made_while_the_model_runs_stay() -> None:
    """Between them and the convolution stands what quantisation-aware training has learned."""
    made = model(step("Mul", "c", "y"), k=values(CHANNELS, 1, 1))
    made.graph.node.insert(0, helper.make_node("Identity", ["w"], ["v"], "rounded"))
    made.graph.node[1].input[1] = "v"
    assert onnx_folding.fold(made) == 0


def test_weights_that_another_convolution_has_too_stay_its_own() -> None:
    second = helper.make_node("Conv", ["x", "w"], ["z"], "other", group=CHANNELS, pads=[1] * 4)
    made = model(step("Mul", "c", "y"), second, k=values(CHANNELS, 1, 1), outputs=("y", "z"))
    before = answers(made)
    assert onnx_folding.fold(made) == 1
    np.testing.assert_allclose(answers(made), before, rtol=1e-4, atol=1e-5)
