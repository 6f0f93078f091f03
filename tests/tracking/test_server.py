"""`track` against a real MLflow server with its artifact proxy, which dies half-way."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from stages import select, summarize, track
from stages.contracts import paths
from stages.core import files
from stages.core.errors import PipelineError
from stages.params import document
from stages.reporting import table
from tests.fixtures.models import free_port, wait_for

NAMES = ("savedmodel-fp32", "tflite-fp32", "tflite-int8")


class Server:
    """`mlflow server` on loopback: a SQLite store and artifacts that only it can reach."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url, self._folder = f"http://127.0.0.1:{self.port}", folder
        self.start()

    def start(self) -> None:
        store, artifacts = f"sqlite:///{self._folder}/server.db", str(self._folder / "artifacts")
        command = ["server", "--backend-store-uri", store, "--artifacts-destination", artifacts]
        address = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        with (self._folder / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *command, *address], stdout=log, stderr=log, start_new_session=True
            )
        wait_for(f"{self.url}/health", self._process, self._folder / "server.log")

    def kill(self) -> None:
        """SIGKILL to it and its workers."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "server"
    folder.mkdir()
    found = Server(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", found.url)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    yield found
    found.kill()


@pytest.fixture
def main(
    results: Any, edit: Callable[..., None], command_line: Callable[..., None], tmp_path: Path
) -> Callable[[], None]:
    """The stage, on results of three variants."""
    edit(("variants", list(NAMES)))
    for name, p50 in zip(NAMES, (4.0, 3.0, 2.0), strict=True):
        results.ok(name, [0, 0, 0, 1], p50)
    files.write_text(paths.PLOTS / "variants.csv", "variant,top1\n")
    summary = summarize.summarise(NAMES)
    files.write_json(paths.SUMMARY, summary)
    files.write_text(paths.SUMMARY_TABLE, table.markdown(summary))
    files.write_json(paths.SELECTION, select.select(summary, document.load()))
    command_line("--checkout", tmp_path)
    return track.main


def test_a_server_that_dies_half_way_loses_and_doubles_nothing(
    server: Server,
    main: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    import mlflow

    log, calls = track.Store.log, iter(range(99))

    def dying(self: track.Store, run: str, *rest: Any) -> None:
        if next(calls) == 1:  # the second variant: its run exists, and nothing is in it
            server.kill()
        log(self, run, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(track.Store, "log", dying)
        with pytest.raises(PipelineError, match="nothing is lost, `make repro` logs what is missing once"):
            main()
    assert not paths.TRACK.exists()
    with pytest.raises(PipelineError, match=r"could not log to MLflow at http://127\.0\.0\.1"):
        main()

    server.start()
    main()
    client = mlflow.MlflowClient(server.url)
    experiment = client.get_experiment_by_name("trt-pipeline")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.tags.get("variant", "") for run in runs) == ["", *NAMES]
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        names = {item.path for item in client.list_artifacts(run.info.run_id)}
        assert names >= (
            {"convert.json", "predictions.csv"} if "variant" in run.data.tags else {"summary.json", "plots"}
        )
        assert run.info.artifact_uri.startswith("mlflow-artifacts:")
    copy = client.download_artifacts(runs[0].info.run_id, "", str(tmp_path))
    assert any(Path(copy).iterdir())
    before = len(runs)
    main()
    assert capfd.readouterr().out == ""
    assert len(client.search_runs([experiment.experiment_id])) == before
