"""Which runtimes there are, and what is said of one that is not there."""

import pytest

from stages.runtimes import registry
from tests.fixtures.errors import assert_helps, refused


def test_every_entry_describes_itself_under_its_own_name() -> None:
    assert [registry.description(name).name for name in registry.RUNTIMES] == list(registry.RUNTIMES)


def test_variants_are_those_of_the_descriptions() -> None:
    assert {"savedmodel-fp32", "tflite-int8-qat", "tensorrt-fp16"} <= set(registry.valid())
    assert "savedmodel-int8" not in registry.valid()


@pytest.mark.parametrize("package", ["no_such_runtime", ".no_such_runtime", "nowhere.runtime"])
def test_a_package_that_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(registry.RUNTIMES, "elsewhere", package)
    error = refused(registry.module, "elsewhere")
    assert error.code == "runtime-missing"
    assert_helps(error, "stages/runtimes/registry.py")


def test_a_part_that_is_not_there_is_a_sentence() -> None:
    error = refused(registry.module, "tflite", "no_such_part")
    assert error.code == "runtime-missing"
    assert_helps(error, "no_such_part")


def test_a_package_without_a_description_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.RUNTIMES, "elsewhere", "tests.fixtures")
    error = refused(registry.description, "elsewhere")
    assert error.code == "runtime-undescribed"
    assert_helps(error, "DESCRIPTION")
