"""Every sentence of this runtime for a user, once: it names its place and a remedy."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stages.runtimes.onnxruntime import convert as module
from stages.runtimes.onnxruntime import session
from stages.runtimes.onnxruntime.options import Options
from stages.runtimes.shared import onnx_precision
from tests.fixtures import tiny
from tests.fixtures.errors import assert_helps, refused


def test_a_provider_that_does_not_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "provider", lambda: session.CUDA)
    monkeypatch.setattr("onnxruntime.preload_dlls", lambda: None)
    fallen = SimpleNamespace(get_providers=lambda: [session.CPU])
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *arguments: fallen)
    assert_helps(refused(session.inference_session, Path("model.onnx"), SimpleNamespace()), session.CUDA)


def test_a_graph_without_int8_names_the_variant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def skip(*arguments: Any) -> None:
        pass

    monkeypatch.setattr(onnx_precision, "quantize_for_cpu", skip)
    monkeypatch.setattr(module, "optimized", lambda path: (session.CPU, Counter(Conv=1)))
    job = tiny.convert_job(tmp_path, tmp_path, "int8", tmp_path, (8, 8, 3))
    assert_helps(refused(module.convert, job, Options()), "onnxruntime-int8")
