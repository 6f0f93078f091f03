import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from stages import to_onnx
from stages.contracts import codec
from stages.contracts.model import MODEL, ONNX, ONNX_RECORD, SAVED_MODEL, OnnxRecord
from stages.core import isolate
from stages.core.tensorflow import tensorflow
from stages.model import onnx_export
from tests.fixtures.errors import named, refused
from tests.fixtures.records import TINY


@pytest.fixture
def saved(checkout: Any, tiny_saved_model: tuple[Path, Any]) -> None:
    """What `save` leaves."""
    codec.write(TINY, MODEL)
    shutil.copytree(tiny_saved_model[0], SAVED_MODEL)


def test_its_record_counts_the_nodes_and_tells_the_difference(saved: None) -> None:
    to_onnx.main()
    record = codec.read(OnnxRecord, ONNX_RECORD)
    assert record.opset == onnx_export.OPSET
    assert record.nodes["Conv"] == record.nodes["MatMul"] == 1
    assert sum(record.nodes.values()) == len(onnx.load(ONNX).graph.node)
    assert record.onnx_difference <= 1e-4
    assert record.compared_on == "12 images of noise"
    assert record.size_bytes == ONNX.stat().st_size


def test_the_same_savedmodel_gives_the_same_bytes(saved: None) -> None:
    isolate.call(to_onnx.main)  # in fresh processes: names in a graph count what a process has loaded
    first = ONNX.read_bytes()
    isolate.call(to_onnx.main)
    assert ONNX.read_bytes() == first


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
    assert named(refused(to_onnx.main), "model") == ("onnx-differs", "tiny")
    assert not ONNX.exists() and not ONNX_RECORD.exists()
