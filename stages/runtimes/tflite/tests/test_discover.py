import pytest

from stages.runtimes.shared import distributions
from stages.runtimes.tflite.discover import discover
from tests.fixtures.records import CPU_MACHINE, GPU_MACHINE

PRECISIONS = ["fp32", "fp16", "dynamic", "int8"]


@pytest.mark.parametrize("machine", [CPU_MACHINE, GPU_MACHINE])
def test_litert_is_the_only_need(monkeypatch: pytest.MonkeyPatch, machine: object) -> None:
    monkeypatch.setattr(distributions, "version", {"ai-edge-litert": "2.3.0"}.get)
    found = discover(machine)  # type: ignore[arg-type]
    assert found.versions == {"ai-edge-litert": "2.3.0"}
    assert found.unavailable == dict.fromkeys(PRECISIONS)


def test_without_litert_every_precision_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributions, "version", {"tensorflow": "2.14.1"}.get)
    found = discover(CPU_MACHINE)
    assert found.versions == {"tensorflow": "2.14.1"}
    assert found.unavailable == dict.fromkeys(PRECISIONS, "LiteRT is not installed: `pip install ai-edge-litert`")


def test_what_is_installed_here_will_do() -> None:
    found = discover(CPU_MACHINE)
    assert set(found.versions) == {"ai-edge-litert", "tensorflow-cpu"}
    assert not any(found.unavailable.values())
