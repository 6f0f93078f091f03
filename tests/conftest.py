"""What several test files share: a checkout in a temporary folder with a params.yaml to edit, and finished results."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.cluster import adopt
from stages.contracts.environment import OTHER_GPUS
from stages.contracts.labels import Labels
from stages.contracts.status import Status
from stages.core import isolate
from stages.core.tensorflow import tensorflow
from stages.data import sources
from stages.params import load
from stages.params.measurement import variants
from tests.fixtures.images import photo as photo
from tests.fixtures.models import Named
from tests.fixtures.records import GPU_MACHINE, Results
from tests.fixtures.servers import closed_port as closed_port
from tests.fixtures.servers import server as server

REPOSITORY = Path(__file__).parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole pipelines first: a long file that starts last keeps one process waiting for the other."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder for this test, with the params.yaml that ships."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copy(REPOSITORY / "params.yaml", folder)
    monkeypatch.chdir(folder)
    adopt.write(adopt.local(variants()))
    return folder


@pytest.fixture
def edit(checkout: Path) -> Callable[..., None]:
    """Change keys of the checkout's params.yaml: edit(("model.name", "VGG16"), ...)."""

    def change(*changes: tuple[str, Any]) -> None:
        values = yaml.safe_load(load.PARAMS.read_text(encoding="utf-8"))
        for key, value in changes:
            *owners, last = key.split(".")
            block = values
            for owner in owners:
                block = block[owner]
            block[last] = value
        load.PARAMS.write_text(yaml.safe_dump(values), encoding="utf-8")

    return change


@pytest.fixture(scope="module")
def tf() -> Any:
    """TensorFlow, which takes seconds to import: only for tests that ask for it."""
    return tensorflow()


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs behind a wall runs in this process, which has TensorFlow and what a test changed."""
    monkeypatch.setattr(isolate, "walled", lambda folders, function, *arguments: function(*arguments))


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the arguments that a stage's main reads."""
    return lambda *arguments: monkeypatch.setattr(sys, "argv", ["stage", *map(str, arguments)])


@pytest.fixture
def tiny_labels() -> Labels:
    """Four classes, of which two have the same name."""
    return Labels(("tench", "cock", "crane", "crane"), ("n01440764", "n01514668", "n02012849", "n03126707"))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """An empty folder for what a source fetches or unpacks."""
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture
def named(checkout: Path, work: Path, tiny_labels: Labels) -> Named:
    """Names and classes of a labelled source."""

    def read(source: str) -> list[tuple[str, int | None]]:
        return [(image.name, image.label) for image in sources.labelled(source, tiny_labels, checkout, work).images]

    return read


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: making one takes seconds, copying it does not."""
    import mlflow

    database = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{database}").search_experiments()
    return database


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KB; skips where this user may not mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.fixture
def results(checkout: Path) -> Results:
    """A checkout in which everything but the variants has run, on a CPU."""
    return Results()


MIXED = ("savedmodel-fp32", "tftrt-fp32", "tftrt-int8", "tflite-fp32", "tflite-int8")


@pytest.fixture
def mixed(results: Results) -> tuple[str, ...]:
    """Two variants that ran, two that were skipped for one reason, one that failed."""
    results.ok("savedmodel-fp32", [0, 0, 0, 1], 4.0)
    results.ok("tflite-int8", [0, 0, 1, 1], 2.0)
    for name in ("tftrt-fp32", "tftrt-int8"):
        results.stopped(name, Status("skipped", "no NVIDIA GPU"))
    results.stopped("tflite-fp32", Status("failed", "no memory"))
    return MIXED


@pytest.fixture
def other_gpu(results: Results, mixed: tuple[str, ...]) -> tuple[str, ...]:
    """The same on a T4 of a cluster, which is slower."""
    results.timed("savedmodel-fp32", 10.0)
    results.timed("tflite-int8", 4.0)
    results.copy_to(OTHER_GPUS / "T4", GPU_MACHINE)
    results.timed("savedmodel-fp32", 4.0)
    results.timed("tflite-int8", 2.0)
    return mixed


@pytest.fixture
def heeded() -> Iterator[None]:
    """Ctrl-C and a closed terminal as usual: in the background, or by `nohup`, tests and their children ignore them."""
    before = [signal.signal(signal.SIGINT, signal.default_int_handler), signal.signal(signal.SIGHUP, signal.SIG_DFL)]
    yield
    for number, handler in zip((signal.SIGINT, signal.SIGHUP), before, strict=True):
        signal.signal(number, handler)
