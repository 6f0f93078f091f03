from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from stages import to_onnx
from stages.common import files, isolate, paths
from stages.common.errors import PipelineError
from stages.common.tf import tensorflow
from tests.helpers import save_tiny

SHAPE, CLASSES = (4, 4, 3), 6


@pytest.fixture
def saved(checkout: Path, model_record: dict[str, Any]) -> Any:
    """What `save` leaves; returns the model as a function of NumPy arrays."""
    files.write_json(paths.MODEL, model_record)
    return save_tiny(paths.SAVED_MODEL, SHAPE, CLASSES)


def answers(images: Any) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(paths.ONNX, providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"images": images})[0]


@pytest.mark.parametrize("size", [1, 3])
def test_the_onnx_model_answers_as_the_savedmodel_does_at_any_batch_size(saved: Any, size: int) -> None:
    to_onnx.main()
    images = np.random.default_rng(size).normal(size=(size, *SHAPE)).astype(np.float32)
    np.testing.assert_allclose(answers(images), saved(images), atol=1e-6)


def test_its_interface_has_names_and_an_open_batch(saved: Any) -> None:
    to_onnx.main()
    model = onnx.load(paths.ONNX)
    onnx.checker.check_model(model, full_check=True)
    ((source,), (result,)) = model.graph.input, model.graph.output
    dims = [dim.dim_param or dim.dim_value for dim in source.type.tensor_type.shape.dim]
    assert (source.name, dims) == ("images", ["batch", *SHAPE])
    assert (result.name, result.type.tensor_type.shape.dim[0].dim_param) == ("probabilities", "batch")
    assert model.opset_import[0].version == to_onnx.OPSET


def test_its_record_counts_the_nodes_and_tells_the_difference(saved: Any) -> None:
    to_onnx.main()
    record = files.read_json(paths.ONNX_RECORD)
    assert record["nodes"]["Conv"] == record["nodes"]["MatMul"] == 1
    assert sum(record["nodes"].values()) == len(onnx.load(paths.ONNX).graph.node)
    assert record["onnx_difference"] <= to_onnx.TOLERANCE
    assert record["size_bytes"] == paths.ONNX.stat().st_size


def test_the_same_savedmodel_gives_the_same_bytes(saved: Any) -> None:
    isolate.call(to_onnx.main)
    first = paths.ONNX.read_bytes()
    isolate.call(to_onnx.main)
    assert paths.ONNX.read_bytes() == first


def test_equal_constants_under_other_names_give_the_same_graph() -> None:
    """As tf2onnx keeps any one of them."""

    def graph(kept: str, order: int) -> Any:
        constants = [onnx.numpy_helper.from_array(np.float32([1]), kept)]
        constants.insert(order, onnx.numpy_helper.from_array(np.float32([2]), "own"))
        nodes = [
            onnx.helper.make_node("Add", ["images", kept], ["a"], "add"),
            onnx.helper.make_node("Mul", ["a", "own"], ["b"], "mul"),
        ]
        nodes.append(onnx.helper.make_node("Sub", ["b", kept], ["c"], "sub"))
        found = onnx.helper.make_graph(nodes, "g", [], [], constants)
        to_onnx.name_constants(found)
        return found

    assert graph("min_7", 0) == graph("min_9", 1)
    assert [constant.name for constant in graph("min_7", 0).initializer] == ["add/constant1", "mul/constant1"]
    assert list(graph("min_7", 0).node[2].input) == ["b", "add/constant1"]


def test_a_model_that_answers_otherwise_is_refused(saved: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tensorflow()
    export = to_onnx.export

    def damaged(*arguments: Any) -> Any:
        model = export(*arguments)
        weights = next(c for c in model.graph.initializer if len(c.dims) == 2)
        weights.CopyFrom(
            onnx.numpy_helper.from_array(
                onnx.numpy_helper.to_array(weights) + 1e-2 * np.arange(6, dtype=np.float32), weights.name
            )
        )
        return model

    monkeypatch.setattr(to_onnx, "export", damaged)
    with pytest.raises(
        PipelineError, match=r"the ONNX model of tiny answers .* away from the SavedModel \(allowed: 0\.0001\)"
    ):
        to_onnx.main()
    assert not paths.ONNX.exists() and not paths.ONNX_RECORD.exists()
