"""What the tests of serving share: real variants of a tiny model, and a pipeline that chose one of them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages import select
from stages.contracts import codec, conversion, labels
from stages.contracts.environment import ENVIRONMENT
from stages.contracts.labels import Labels
from stages.contracts.row import SUMMARY
from stages.contracts.timing import Memory
from stages.params import document
from stages.runtimes import registry
from stages.runtimes.contract import Interface, Serve
from stages.serving import export
from stages.statistics import summary
from tests.fixtures import variants
from tests.fixtures.records import GPU_MACHINE, Results, environment
from tests.fixtures.variants import CLASSES

GPU = ("tftrt", "tensorrt")
Choose = Callable[..., Path]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of the variants, and which of their files are real."""
    return variants.build(tmp_path_factory.mktemp("built"))


@pytest.fixture
def summarize(checkout: Path) -> Callable[[], None]:
    """What `summarize` and `select` make of the records that are there."""

    def run() -> None:
        codec.write(summary.build(document.check().variants), SUMMARY)
        select.main()

    return run


@pytest.fixture
def choose(built: Path, results: Results, edit: Callable[..., None], summarize: Callable[[], None]) -> Choose:
    """Finish a pipeline that chooses this variant: choose(variant, *changes of params.yaml); returns its folder."""
    names = tuple(f'a, "class" {i}' if i else "crème" for i in range(CLASSES))
    labels.write(Labels(names, tuple(f"n{i}" for i in range(CLASSES))))

    def finish(name: str, *changes: tuple[str, Any], **options: Any) -> Path:
        edit(("variants", [name]), *changes)
        on_gpu = name.startswith(GPU)
        if on_gpu:
            codec.write(environment(GPU_MACHINE), ENVIRONMENT)
        shutil.rmtree(conversion.folder(name), ignore_errors=True)
        variants.copy(built, name, **options)
        results.evaluated(name, [0, 0, 0, 1])
        results.timed(name, 20.0, memory=Memory(on_gpu, 300_000_000, None))
        summarize()
        return conversion.folder(name)

    return finish


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Describe models here and not in a worker, which takes seconds to import TensorFlow."""

    def describe(runtime: str, folder: Path) -> Interface:
        module: Serve = registry.module(runtime, "serve")  # type: ignore[assignment]
        return module.describe(folder)

    monkeypatch.setattr(export, "describe", describe)
