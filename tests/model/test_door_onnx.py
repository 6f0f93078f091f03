from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stages.model import door_onnx
from tests.fixtures.errors import refused


def value(name: str) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2])


def node(kind: str = "Relu", domain: str = "", **attributes: Any) -> Any:
    return helper.make_node(kind, ["x"], ["y"], name="planted", domain=domain, **attributes)


def graph(*nodes: Any, weights: tuple[Any, ...] = ()) -> Any:
    return helper.make_graph(nodes, "g", [value("x")], [value("y")], weights)


def write(folder: Path, made: Any, functions: tuple[Any, ...] = ()) -> Path:
    path = folder / "a.onnx"
    path.write_bytes(helper.make_model(made, functions=functions).SerializeToString())
    return path


def outside(place: str) -> Any:
    """Weights that say that they lie there."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=place)
    return tensor


def found(path: Path) -> list[str]:
    return list(door_onnx.findings(path))


CUSTOM = node("Run", "evil.com")


@pytest.mark.parametrize(
    "planted",
    [
        CUSTOM,
        node("If", then_branch=graph(CUSTOM), else_branch=graph(node())),
        node("Loop", body=graph(node("If", then_branch=graph(CUSTOM), else_branch=graph(node())))),
    ],
    ids=["node", "branch", "branch in a loop"],
)
def test_an_operator_of_another_maker_is_named_wherever_it_stands(tmp_path: Path, planted: Any) -> None:
    assert found(write(tmp_path, graph(planted))) == ["node planted is the custom operator evil.com.Run"]


def test_functions_of_the_models_own_pass_and_are_looked_into(tmp_path: Path) -> None:
    def function(name: str, body: Any) -> Any:
        return helper.make_function("own", name, ["x"], ["y"], [body], [helper.make_opsetid("", 18)])

    own, said = graph(node("Good", "own")), "node planted is the custom operator"
    assert found(write(tmp_path, own, (function("Good", node()),))) == []
    assert found(write(tmp_path, own, (function("Good", CUSTOM),))) == [
        "node planted is the custom operator evil.com.Run"
    ]
    assert found(write(tmp_path, own, (function("Other", node()),))) == [f"{said} own.Good"]


@pytest.mark.parametrize(("kind", "domain"), [("Relu", ""), ("Scaler", "ai.onnx.ml"), ("FusedConv", "com.microsoft")])
def test_operators_of_onnx_and_of_onnx_runtime_pass(tmp_path: Path, kind: str, domain: str) -> None:
    assert found(write(tmp_path, graph(node(kind, domain)))) == []


def test_the_program_of_another_compiler_is_refused(tmp_path: Path) -> None:
    planted = node("EPContext", "com.microsoft", ep_cache_context="engine.bin")
    assert found(write(tmp_path, graph(planted))) == ["node planted is the program of a compiler (EPContext)"]


@pytest.mark.parametrize("place", ["/etc/passwd", "../weights.bin", "sub/../../weights.bin", "link.bin"])
@pytest.mark.parametrize("kind", ["weights", "constant", "constant in a branch"])
def test_weights_outside_the_folder_are_refused(tmp_path: Path, place: str, kind: str) -> None:
    (tmp_path / "link.bin").symlink_to("/etc/passwd")
    constant = node("Constant", value=outside(place))
    nodes = {
        "weights": [node()],
        "constant": [constant],
        "constant in a branch": [node("If", then_branch=graph(constant), else_branch=graph(node()))],
    }
    made = graph(*nodes[kind], weights=(outside(place),) if kind == "weights" else ())
    assert found(write(tmp_path, made)) == [f"the weights w lie outside its folder, in {place}"]


@pytest.mark.parametrize("kind", ["weights of a branch", "default of an attribute"])
def test_weights_outside_the_folder_are_refused_in_a_function(tmp_path: Path, kind: str) -> None:
    branch = graph(node(), weights=(outside("/etc/passwd"),))
    inside = node("If", then_branch=branch, else_branch=graph(node())) if "branch" in kind else node()
    own = helper.make_function("mine", "Own", ["x"], ["y"], [inside], [helper.make_opsetid("", 17)])
    if "default" in kind:
        own.attribute_proto.append(helper.make_attribute("value", outside("/etc/passwd")))
    assert found(write(tmp_path, graph(node("Own", "mine")), (own,))) == [
        "the weights w lie outside its folder, in /etc/passwd"
    ]


def test_a_place_that_no_file_can_have_is_a_sentence(tmp_path: Path) -> None:
    error = refused(found, write(tmp_path, graph(node(), weights=(outside("a\0b"),))))
    assert error.code == "model-does-not-load" and "embedded null byte" in str(error)


def test_weights_inside_pass_whether_in_the_file_or_beside_it(tmp_path: Path) -> None:
    inner = numpy_helper.from_array(np.ones(1, np.float32), "v")
    assert found(write(tmp_path, graph(node(), weights=(inner, outside("weights/w.bin"))))) == []


def test_a_file_that_is_no_onnx_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"no model")
    assert refused(found, tmp_path / "a.onnx").code == "model-does-not-load"


def test_onnx_itself_reads_what_the_tests_write(tmp_path: Path) -> None:
    onnx.checker.check_model(str(write(tmp_path, graph(node()))))
