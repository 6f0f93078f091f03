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

from stages.core.errors import PipelineError
from stages.tracking import runs
from stages.tracking.experiment import Experiment
from tests.fixtures.models import free_port, wait_for
from tests.tracking.logged import NAMES, Logged, Track


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
def server(track: Track, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "server"
    folder.mkdir()
    started = Server(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", started.url)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    yield started
    started.kill()


def test_a_server_that_dies_half_way_loses_and_doubles_nothing(
    server: Server,
    track: Track,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    log, calls = Experiment.log, iter(range(99))

    def dying(self: Experiment, run: str, *rest: Any) -> None:
        if next(calls) == 1:  # the second variant: its run exists, and nothing is in it
            server.kill()
        log(self, run, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "log", dying)
        not_logged(track, server.url)
    assert not runs.TRACK.exists()
    not_logged(track, server.url)

    server.start()
    track()
    store = Logged(server.url)
    assert sorted(run.data.tags.get("variant", "") for run in store.runs) == sorted(["", *NAMES])
    assert {run.info.status for run in store.runs} == {"FINISHED"}
    for run in store.runs:
        expected = {"convert.json", "predictions.csv"} if "variant" in run.data.tags else {"summary.json", "plots"}
        assert store.artifacts(run) >= expected
        assert str(run.info.artifact_uri).startswith("mlflow-artifacts:")
    copy = store.client.download_artifacts(store.runs[0].info.run_id, "", str(tmp_path))
    assert any(Path(copy).iterdir())
    capfd.readouterr()
    track()
    assert capfd.readouterr().out == ""
    assert len(Logged(server.url).runs) == len(store.runs)


def not_logged(track: Callable[[], None], uri: str) -> None:
    with pytest.raises(PipelineError) as caught:
        track()
    assert (caught.value.code, caught.value.values["uri"]) == ("not-logged", uri)
