from typing import Any

import numpy as np
import onnx
import pytest

from stages import to_onnx
from stages.contracts import paths
from stages.core import files, isolate
from stages.core.errors import PipelineError
from stages.core.tensorflow import tensorflow
from stages.model import onnx_export
from tests.fixtures.models import save_tiny

SHAPE, CLASSES = (4, 4, 3), 6


@pytest.fixture
def saved(checkout: Any, model_record: dict[str, Any]) -> None:
    """What `save` leaves."""
    files.write_json(paths.MODEL, model_record)
    save_tiny(paths.SAVED_MODEL, SHAPE, CLASSES)


def test_its_record_counts_the_nodes_and_tells_the_difference(saved: None) -> None:
    to_onnx.main()
    record = files.read_json(paths.ONNX_RECORD)
    assert record["opset"] == onnx_export.OPSET
    assert record["nodes"]["Conv"] == record["nodes"]["MatMul"] == 1
    assert sum(record["nodes"].values()) == len(onnx.load(paths.ONNX).graph.node)
    assert record["onnx_difference"] <= onnx_export.TOLERANCE
    assert record["size_bytes"] == paths.ONNX.stat().st_size


def test_the_same_savedmodel_gives_the_same_bytes(saved: None) -> None:
    isolate.call(to_onnx.main)
    first = paths.ONNX.read_bytes()
    isolate.call(to_onnx.main)
    assert paths.ONNX.read_bytes() == first


def test_a_model_that_answers_otherwise_is_refused(saved: None, monkeypatch: pytest.MonkeyPatch) -> None:
    tensorflow()
    export = onnx_export.export

    def damaged(*arguments: Any) -> Any:
        model = export(*arguments)
        weights = next(c for c in model.graph.initializer if len(c.dims) == 2)
        weights.CopyFrom(
            onnx.numpy_helper.from_array(
                onnx.numpy_helper.to_array(weights) + 1e-2 * np.arange(6, dtype=np.float32), weights.name
            )
        )
        return model

    monkeypatch.setattr(onnx_export, "export", damaged)
    with pytest.raises(
        PipelineError, match=r"the ONNX model of tiny answers .* away from the SavedModel \(allowed: 0\.0001\)"
    ):
        to_onnx.main()
    assert not paths.ONNX.exists() and not paths.ONNX_RECORD.exists()
