from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stages.contracts import codec
from stages.contracts.conversion import MANIFEST, Manifest
from stages.contracts.status import OK
from stages.contracts.variant import Variant
from stages.runtimes import loading, registry
from tests.fixtures.errors import named, refused


def test_options_are_those_of_the_block_and_defaults_for_the_rest() -> None:
    shipped = loading.defaults("tflite", {})
    assert shipped["xnnpack"] is True
    assert loading.defaults("tflite", {"xnnpack": False}) == shipped | {"xnnpack": False}
    assert loading.options("tflite", {"xnnpack": False}).xnnpack is False


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the session of a runtime is asked to open."""
    asked: list[tuple[Any, ...]] = []
    session = SimpleNamespace(open_session=lambda *arguments: asked.append(arguments))
    monkeypatch.setattr(registry, "module", lambda runtime, name: session if name == "session" else None)
    return asked


def test_a_variant_is_opened_with_the_options_of_its_record(tmp_path: Path, opened: list[tuple[Any, ...]]) -> None:
    codec.write(Manifest(Variant("tflite", "int8"), OK, {"xnnpack": False}), tmp_path / MANIFEST)
    loading.load(tmp_path, 3)
    assert opened == [(tmp_path, "int8", loading.options("tflite", {"xnnpack": False}), 3)]


def test_options_of_a_record_that_the_runtime_does_not_take_are_refused(tmp_path: Path, opened: list[Any]) -> None:
    codec.write(Manifest(Variant("tflite", "int8"), OK, {"xnnpack": "yes"}), tmp_path / MANIFEST)
    error = refused(loading.load, tmp_path)
    assert named(error, "file", "runtime") == ("record-options", str(tmp_path / MANIFEST), "tflite")
    assert opened == []
