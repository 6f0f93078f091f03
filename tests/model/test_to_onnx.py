import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from stages import to_onnx
from stages.contracts import codec
from stages.contracts.environment import FINGERPRINTS, Fingerprints
from stages.contracts.model import MODEL, ONNX, ONNX_RECORD, SAVED_MODEL, OnnxRecord
from stages.contracts.status import Status
from stages.core import files
from stages.core.errors import PipelineError
from stages.core.tensorflow import tensorflow
from stages.model import exported, onnx_export
from stages.runtimes import registry
from tests.fixtures.errors import named, refused
from tests.fixtures.records import TINY


def ask(onnx: bool) -> None:
    """Whether a variant starts from ONNX."""
    codec.write(Fingerprints({}, {}, "", onnx), FINGERPRINTS)


@pytest.fixture
def saved(checkout: Any, tiny_saved_model: tuple[Path, Any]) -> None:
    """What `save` leaves."""
    codec.write(TINY, MODEL)
    ask(True)
    shutil.copytree(tiny_saved_model[0], SAVED_MODEL)


def test_its_record_counts_the_nodes_and_tells_the_difference(saved: None) -> None:
    to_onnx.main()
    record = codec.read(OnnxRecord, ONNX_RECORD)
    assert record.opset == onnx_export.OPSET
    assert record.nodes["Conv"] == record.nodes["MatMul"] == 1
    assert sum(record.nodes.values()) == len(onnx.load(ONNX).graph.node)
    assert record.onnx_difference is not None and record.onnx_difference <= 1e-4
    assert record.compared_on == "12 images of noise"
    assert record.size_bytes == ONNX.stat().st_size


def test_the_same_savedmodel_gives_the_same_bytes(saved: None) -> None:
    to_onnx.main()  # in fresh processes: names in a graph count what a process has loaded
    first = ONNX.read_bytes()
    to_onnx.main()
    assert ONNX.read_bytes() == first


def test_a_model_that_answers_otherwise_is_refused(saved: None, here: None, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert named(failure(), "model") == ("onnx-differs", "tiny")


def failure() -> PipelineError:
    """The error of the stage, which leaves an empty folder and a record that says why."""
    files.write_text(ONNX, "of an earlier run")
    error = refused(to_onnx.main)
    assert list(ONNX.parent.iterdir()) == []
    record = codec.read(OnnxRecord, ONNX_RECORD)
    assert record == OnnxRecord(status=Status("failed", str(error)), sources=sources(str(error)))
    return error


def sources(taken: str) -> dict[str, str | None]:
    """By variant: those that start from ONNX take this, and all others nothing of it."""
    starts = re.compile(r"(onnxruntime|tensorrt)\w*-(fp32|fp16|int8)")
    return {name: taken if starts.fullmatch(name) else None for name in registry.valid()}


def test_a_variant_that_starts_from_onnx_has_the_digest_of_the_file(saved: None) -> None:
    """And the others have none, so that DVC converts none of them again for it."""
    to_onnx.main()
    assert codec.read(OnnxRecord, ONNX_RECORD).sources == sources(files.sha256(ONNX))


def test_an_exporter_that_dies_is_a_sentence(saved: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exported, "export", die)
    error = failure()
    assert error.code == "process-ended" and "SIGSEGV" in str(error)


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def test_a_stage_that_is_killed_leaves_its_record_and_an_empty_folder(
    saved: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For DVC to go on with the variants that need no ONNX."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(exported, "outcome", killed)
    with pytest.raises(KeyboardInterrupt):
        to_onnx.main()
    record = codec.read(OnnxRecord, ONNX_RECORD)
    assert record.status == exported.ENDED.status and record.sources == sources(str(record.status.reason))
    assert list(ONNX.parent.iterdir()) == []


@pytest.mark.parametrize("step", ["export", "difference"])
def test_an_error_of_a_library_is_a_sentence_without_a_traceback(
    saved: None, here: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], step: str
) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("no kernel for Conv(1)")

    monkeypatch.setattr(onnx_export, step, broken)
    error = failure()
    assert named(error, "model") == ("onnx-impossible", "tiny") and "no kernel for Conv(1)" in str(error)
    assert capsys.readouterr().err == ""


NODE = "StatefulPartitionedCall/model/wide/Conv2D"


@pytest.mark.parametrize(
    ("told", "operator", "layer"),
    [
        (f'invalid. In Node, ("{NODE}", Conv9, "", -1) : () -> (), Error No Op registered for Conv9', "Conv9", "wide"),
        (f"Could not find an implementation for Conv(11) node with name '{NODE}'", "Conv", "wide"),
        ("Could not find an implementation for Conv(11) node with name 'Conv2D'", "Conv", ""),
        ("was passed float incompatible with expected resource", None, ""),
    ],
)
def test_an_operator_that_onnx_runtime_lacks_is_named_with_its_layer(
    monkeypatch: pytest.MonkeyPatch, told: str, operator: str | None, layer: str
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError(told)

    monkeypatch.setattr(exported, "tensorflow", broken)
    error = refused(exported.export, TINY, ONNX)
    assert named(error, "operator", "layer") == ("onnx-impossible", operator, layer)
    assert operator is None or NODE not in str(error)


def test_what_no_variant_takes_is_not_exported(saved: None, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write_text(ONNX, "of an earlier run")
    ask(False)
    monkeypatch.setattr(exported, "export", None)
    to_onnx.main()
    assert list(ONNX.parent.iterdir()) == []
    assert codec.read(OnnxRecord, ONNX_RECORD).status.state == "skipped"
