import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stages import track as stage
from stages.contracts import codec
from stages.core import errors
from stages.core.errors import PipelineError
from stages.params import document
from stages.tracking import champion, receipts, runs
from stages.tracking.receipts import REGISTER, TRACK, RegisterReceipt, TrackReceipt
from stages.tracking.store import stamp
from tests.fixtures.errors import assert_helps
from tests.fixtures.records import Results
from tests.tracking.logged import NAMES, Logged, Track

Look = Callable[[], Logged]
ROOT = Path(stage.__file__).parents[1]
ALL = 1 + len(NAMES)
# The stage in a process of its own; the exit status tells whether it imported MLflow.
ALONE = "import sys; from stages import track; track.main(); sys.exit('mlflow' in sys.modules)"


def alone(checkout: Path) -> "subprocess.Popen[bytes]":
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", ALONE, "--checkout", str(checkout)], env=environment)


def receipt() -> TrackReceipt:
    return codec.read(TrackReceipt, TRACK)


def touch(store: Logged) -> None:
    """Somebody else logs a run of their own."""
    store.client.create_run(store.client.create_experiment("another"))


def test_it_names_the_run_and_the_state_of_the_store(track: Track, logged: Look, main_checkout: Path) -> None:
    track()
    uri = f"sqlite:///{main_checkout}/mlflow.db"
    own = receipt()
    assert (own.run, own.uri, own.database) == (logged().parent.info.run_id, uri, stamp(uri))
    assert runs.already_logged(document.check(), main_checkout)


def test_a_second_run_asks_nobody_and_adds_nothing(
    track: Track, logged: Look, main_checkout: Path, asked: list[str]
) -> None:
    track()
    before = TRACK.read_bytes()
    asked.clear()
    track()
    assert asked == []
    assert alone(main_checkout).wait(60) == 0
    assert TRACK.read_bytes() == before
    assert len(logged().runs) == ALL


def test_a_lost_receipt_is_made_anew_of_what_the_store_holds(track: Track, logged: Look) -> None:
    track()
    before = receipt()
    TRACK.unlink()
    track()
    assert (receipt().key, receipt().run) == (before.key, before.run)
    assert len(logged().runs) == ALL


def test_a_store_that_somebody_else_wrote_to_is_asked_once(track: Track, logged: Look, asked: list[str]) -> None:
    track()
    before = receipt()
    touch(logged())
    asked.clear()
    track()
    assert asked == [before.uri]
    assert receipt() == receipts.tracked(before.key, before.uri) != before
    assert receipt().run == before.run
    track()
    assert asked == [before.uri]
    assert len(logged().runs) == ALL


def test_a_run_that_somebody_deleted_is_logged_again(track: Track, logged: Look, main_checkout: Path) -> None:
    track()
    before = logged()
    before.client.delete_run(before.parent.info.run_id)
    assert not runs.already_logged(document.check(), main_checkout)
    track()
    after = logged()
    assert after.parent.info.run_id != before.parent.info.run_id
    assert set(after.children()) == set(NAMES)


def test_a_receipt_does_not_hide_a_store_that_is_gone(
    finished: Results, logged: Look, main_checkout: Path, migrated: Path
) -> None:
    """In processes of their own: one that has a database open goes on with it after it was removed."""
    assert alone(main_checkout).wait(120) == 1
    before, database = receipt(), main_checkout / "mlflow.db"
    database.unlink()
    assert not runs.already_logged(document.check(), main_checkout)
    assert not database.exists()  # to look at it made no new one
    shutil.copy(migrated, database)
    assert alone(main_checkout).wait(120) == 1
    assert receipt().run != before.run
    assert len(logged().runs) == ALL


@pytest.mark.parametrize("text", ["{", "[]", "no run", "another schema"])
def test_a_damaged_receipt_is_none(track: Track, logged: Look, text: str) -> None:
    track()
    before = TRACK.read_bytes()
    values = json.loads(before)
    texts = {
        "no run": {name: value for name, value in values.items() if name != "run"},
        "another schema": values | {"schema": 0},
    }
    TRACK.write_text(json.dumps(texts[text]) if text in texts else text)
    track()
    assert TRACK.read_bytes() == before
    assert len(logged().runs) == ALL


def test_what_register_saw_holds_for_track_too(track: Track, logged: Look, asked: list[str]) -> None:
    track()
    own = receipt()
    touch(logged())
    codec.write(RegisterReceipt("selected", own.uri, "a key", own.run, database=stamp(own.uri)), REGISTER)
    asked.clear()
    track()
    assert (asked, receipt()) == ([], own)


def test_what_dvc_knows_of_a_store_changes_once_with_the_store(track: Track, logged: Look) -> None:
    """Else the run after the one that saw it would find another change."""
    track()
    uri = receipt().uri
    assert receipts.state(uri) == receipts.StoreState()
    touch(logged())
    changed = receipts.state(uri)
    assert changed.track is not None
    codec.write(changed, receipts.STORE)
    track()
    assert receipts.state(uri) == changed
    elsewhere = receipts.state(f"{uri}.copy")
    assert elsewhere.track not in (None, changed.track)


@pytest.mark.parametrize("other", ["run", "uri", "database"])
def test_a_receipt_of_register_for_anything_else_does_not(
    track: Track, logged: Look, asked: list[str], other: str
) -> None:
    track()
    own = receipt()
    touch(logged())
    seen = RegisterReceipt("selected", own.uri, "a key", own.run, database=stamp(own.uri))
    values = {"run": "another", "uri": "http://elsewhere", "database": own.database}
    codec.write(replace(seen, **{other: values[other]}), REGISTER)
    asked.clear()
    track()
    assert asked == [own.uri]


def test_a_server_is_asked_every_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    codec.write(TrackReceipt("a key", "http://127.0.0.1:9", "a run", None), TRACK)
    runs_asked: list[str] = []

    def holds(uri: str, run: str) -> bool:
        runs_asked.append(run)
        return len(runs_asked) < 3

    monkeypatch.setattr(receipts, "holds_run", holds)
    found = [receipts.tracked("a key", "http://127.0.0.1:9") for _ in range(3)]
    assert [one is not None for one in found] == [True, True, False]
    assert runs_asked == ["a run"] * 3


def test_a_store_with_a_login_is_kept_and_known_without_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(receipts, "holds_run", lambda uri, run: "user:word@" in uri)
    uri = "http://user:word@127.0.0.1:9"
    champion.leave(uri, "the experiment a")
    codec.write(TrackReceipt("a key", "http://***@127.0.0.1:9", "a run", None), TRACK)
    assert receipts.tracked("a key", uri) is not None and champion.tracked_run(uri) == "a run"
    assert receipts.state(uri) == receipts.StoreState()
    assert codec.read(RegisterReceipt, REGISTER).uri == "http://***@127.0.0.1:9"
    assert "word" not in "".join(path.read_text() for path in Path("reports").iterdir()) + capsys.readouterr().out


def test_two_processes_at_once_log_everything_once(finished: Results, main_checkout: Path, logged: Look) -> None:
    """On a database that both find empty."""
    (main_checkout / "mlflow.db").unlink()
    both = [alone(main_checkout), alone(main_checkout)]
    assert [process.wait(120) for process in both] == [1, 1]  # both needed MLflow, and neither failed
    store = logged()
    assert len(store.runs) == ALL
    assert {run.info.status for run in store.runs} == {"FINISHED"}
    assert receipt().run == store.parent.info.run_id


def test_a_store_that_does_not_answer_is_one_sentence_and_leaves_no_receipt(
    track: Track, edit: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    edit(("tracking.uri", "http://127.0.0.1:9"))
    codec.write(TrackReceipt("old", "old", "old", None), TRACK)
    with pytest.raises(SystemExit) as end:
        errors.run(track)
    assert end.value.code == 1
    message = capsys.readouterr().err
    assert (message.count("\n"), "http://127.0.0.1:9" in message) == (1, True)
    assert not TRACK.exists()


def test_a_database_that_is_none_is_refused(track: Track, main_checkout: Path) -> None:
    (main_checkout / "mlflow.db").write_text("no database")
    with pytest.raises(PipelineError) as caught:
        track()
    assert caught.value.code == "not-logged"
    assert_helps(caught.value, f"{main_checkout}/mlflow.db")
