"""What the tests of tracking share: finished results, a store of their own, and a look into it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from stages import select
from stages.contracts import codec
from stages.contracts.row import SUMMARY
from stages.contracts.status import Status
from stages.core import files
from stages.params import document
from stages.reporting import table
from stages.statistics import summary
from stages.statistics.tables import PLOTS
from stages.tracking import store
from tests.fixtures.records import Results
from tests.tracking.logged import NAMES, Logged, Track


@pytest.fixture
def main_checkout(migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The main checkout, with its database; settings that the stage makes for itself end with the test."""
    folder = tmp_path / "main"
    folder.mkdir()
    shutil.copy(migrated, folder / "mlflow.db")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return folder


@pytest.fixture
def summarize(checkout: Path) -> Callable[[], None]:
    """What `summarize`, `select` and `report` make of the records that are there."""

    def run() -> None:
        made = summary.build(document.check().variants)
        codec.write(made, SUMMARY)
        files.write_text(table.SUMMARY_TABLE, table.markdown(made))
        select.main()

    return run


@pytest.fixture
def finished(results: Results, edit: Callable[..., None], summarize: Callable[[], None]) -> Results:
    """Results of three variants, one of which was skipped."""
    edit(("variants", list(NAMES)))
    results.ok("savedmodel-fp32", [0, 0, 0, 1], 4.0)
    results.ok("tflite-int8", [0, 0, 1, 1], 2.0)
    results.stopped("tftrt-fp32", Status("skipped", "no NVIDIA GPU"))
    files.write_text(PLOTS / "variants.csv", "variant,top1\n")
    summarize()
    return results


@pytest.fixture
def track(finished: Results, main_checkout: Path, command_line: Callable[..., None]) -> Track:
    """The stage, with these arguments more."""
    from stages import track

    def run(*arguments: str) -> None:
        command_line("--checkout", main_checkout, *arguments)
        track.main()

    return run


@pytest.fixture
def logged(main_checkout: Path) -> Callable[[], Logged]:
    """What the store holds now."""
    return lambda: Logged(f"sqlite:///{main_checkout}/mlflow.db")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every address that MLflow's client was made for."""
    addresses: list[str] = []
    connect = store.connect

    def spy(uri: str) -> object:
        addresses.append(uri)
        return connect(uri)

    for module in ("receipts", "experiment", "champion"):
        monkeypatch.setattr(f"stages.tracking.{module}.connect", spy)
    return addresses
