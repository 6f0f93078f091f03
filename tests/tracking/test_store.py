import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from stages.core.errors import PipelineError
from stages.params.tracking import TrackingParams
from stages.tracking import store
from stages.tracking.store import Stamp
from tests.fixtures.records import SETS, TINY


def setting(uri: str | None = None) -> TrackingParams:
    return TrackingParams(uri, "trt-pipeline")


def test_the_store_is_mlflows_variable_then_params_then_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert store.tracking_uri(setting(), tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    assert store.tracking_uri(setting("http://mlflow.example:5000"), tmp_path) == "http://mlflow.example:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://other:5000")
    assert store.tracking_uri(setting("http://mlflow.example:5000"), tmp_path) == "http://other:5000"


@pytest.mark.parametrize("name", ["per%20cent", "question?"])
def test_a_folder_that_no_address_can_hold_is_refused_unless_another_store_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(PipelineError) as caught:
        store.tracking_uri(setting(), tmp_path / name)
    assert (caught.value.code, caught.value.values["file"]) == ("store-address", str(tmp_path / name))
    assert store.tracking_uri(setting("http://other:5000"), tmp_path / name) == "http://other:5000"


@pytest.mark.parametrize("options", ["", "?timeout=5"])
def test_the_stamp_is_that_of_the_database(tmp_path: Path, options: str) -> None:
    database = tmp_path / "two words.db"
    uri = f"sqlite:///{database}{options}"
    assert (store.stamp(uri), store.gone(uri)) == (None, True)
    database.write_bytes(b"1234")
    assert store.stamp(uri) == Stamp(4, database.stat().st_mtime_ns)
    assert not store.gone(uri)


def test_a_write_that_is_still_in_the_log_of_the_database_is_seen(tmp_path: Path) -> None:
    """MLflow makes such a database of a folder of runs (`mlflow migrate-filestore`)."""
    place = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(place)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE runs (id)")
        database.commit()
        before = store.stamp(f"sqlite:///{place}")
        database.execute("INSERT INTO runs VALUES (1)")
        database.commit()
        assert store.stamp(f"sqlite:///{place}") != before


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "postgresql://host/mlflow", "databricks"])
def test_a_server_has_no_stamp_and_is_not_gone(uri: str) -> None:
    assert (store.stamp(uri), store.gone(uri)) == (None, False)


def test_a_digest_is_of_all_values_and_of_no_order() -> None:
    assert store.digest({"a": 1, "b": [2]}) == store.digest({"b": [2], "a": 1})
    assert len({store.digest(value) for value in (TINY, SETS, [TINY], [TINY, SETS], {"a": 1}, {"a": 2})}) == 6
    assert len(store.digest(TINY)) == 16


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("Max retries exceeded with url: /api (Caused by ResponseError('too many 500 error responses'))", "500"),
        ("API request to endpoint /api failed with error code 401 != 200. Response body: '<html>", "401, Unauthorized"),
        ("API request to endpoint /api failed with error code 403 != 200. Response body: ''", "403, Forbidden"),
        ("API request to endpoint /api failed with error code 404 != 200. Response body: ''", "404, Not Found"),
        ("the response body was not in a valid JSON format. Response body: '<html>hi</html>'", "no MLflow server"),
        ("API request to http://host failed with exception Exceeded 30 redirects.", "no MLflow server"),
    ],
)
def test_what_a_server_answers_is_told_by_its_status(answer: str, told: str) -> None:
    found = store.cause(RuntimeError(answer))
    assert told in found and "html" not in found and len(found) < 120


def test_the_lock_lies_beside_the_database_and_a_server_has_its_own(tmp_path: Path) -> None:
    with store.one_at_a_time(f"sqlite:///{tmp_path}/mlflow.db"):
        assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db.lock"]
    with store.one_at_a_time("http://127.0.0.1:9"):
        assert len(list(tmp_path.iterdir())) <= 1


def test_a_refused_connection_is_a_few_words() -> None:
    told = store.cause(OSError(f"HTTPConnectionPool: Max retries exceeded {'x' * 400}"))
    assert len(told) < 40 and "x" not in told
    assert len(store.cause(ValueError("y" * 999))) == 300
