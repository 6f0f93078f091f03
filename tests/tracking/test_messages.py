"""Every sentence of tracking, once: it names its place and a remedy."""

from collections.abc import Callable
from pathlib import Path

import pytest

from stages.contracts import codec
from stages.core.errors import PipelineError
from stages.params.tracking import TrackingParams
from stages.tracking import champion, experiment, store
from stages.tracking.candidate import Candidate
from stages.tracking.receipts import TRACK, TrackReceipt
from tests.fixtures.errors import assert_helps, refused


def down(*arguments: object) -> None:
    raise ConnectionError("HTTPConnectionPool(host='127.0.0.1', port=9): Max retries exceeded with url: /api")


class Deleted:
    """A client that finds the experiment, and that somebody deleted it."""

    lifecycle_stage = "deleted"

    def get_experiment_by_name(self, name: str) -> "Deleted":
        return self


class Named:
    """Results or a winner of which only the name matters."""

    key = name = "tflite-int8"


def address(monkeypatch: pytest.MonkeyPatch) -> PipelineError:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return refused(store.tracking_uri, TrackingParams(None, "an experiment"), Path("/what?"))


def deleted(monkeypatch: pytest.MonkeyPatch) -> PipelineError:
    monkeypatch.setattr(experiment, "connect", lambda uri: Deleted())
    return refused(experiment.Experiment, "http://127.0.0.1:9", "an experiment", Path())


def other_store(monkeypatch: pytest.MonkeyPatch) -> PipelineError:
    codec.write(TrackReceipt("a key", "http://elsewhere", "a run", None), TRACK)
    return refused(champion.tracked_run, "http://127.0.0.1:9")


def not_registered(monkeypatch: pytest.MonkeyPatch) -> PipelineError:
    monkeypatch.setattr(champion, "connect", down)
    candidate = Candidate(Named(), "a run", 1)  # type: ignore[arg-type]
    return refused(champion._promoted, candidate, [], "tiny", "a key", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("make", "code", "place"),
    [
        (address, "store-address", "/what?"),
        (deleted, "experiment-deleted", "an experiment"),
        (other_store, "other-store", str(TRACK)),
        (not_registered, "not-registered", "http://127.0.0.1:9 (no server answers there)"),
    ],
)
def test_a_sentence_names_its_place_and_a_remedy(
    make: Callable[[pytest.MonkeyPatch], PipelineError],
    code: str,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    error = make(monkeypatch)
    assert error.code == code
    assert_helps(error, place)
