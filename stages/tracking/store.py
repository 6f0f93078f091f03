"""The MLflow store that `track` and `register` write to: where it is, how to reach it, what to say if it is down."""

import hashlib
import logging
import os
import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from stages.core import errors
from stages.core.errors import PipelineError
from stages.params.tracking import TrackingParams

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"
# How MLflow's client tells the status of an answer, of one that it asked for again too.
STATUS = re.compile(r"failed with error code (\d{3})|too many (\d{3}) error responses")
MEANINGS = {
    "401": ", Unauthorized, and wants a login: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    "403": ", Forbidden: ask whoever runs it for the permission",
    "404": ", Not Found, as no MLflow server does",
}
NO_MLFLOW = ("not in a valid JSON format", "Exceeded 30 redirects")


def tracking_uri(setting: TrackingParams, checkout: Path) -> str:
    """MLflow's own variable first, then params.yaml, then a database in the main checkout."""
    named = os.environ.get("MLFLOW_TRACKING_URI") or setting.uri
    place = checkout.resolve()
    if not named and set("?%") & set(str(place)):
        raise PipelineError(
            f"{place} has a ? or % in its name, which no database address can hold: set tracking.uri, or rename the "
            "folder",
            code="store-address",
            file=str(place),
        )
    return named or f"{SQLITE}{place}/mlflow.db"


def connect(uri: str) -> "MlflowClient":
    """MLflow's client for that store, quiet; importing it takes two seconds."""
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it announces every table it creates
    # Fail after seconds, not minutes: the next run logs what is missing.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    # With a server it would print two lines for every run.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    return mlflow.MlflowClient(uri)


@dataclass(frozen=True)
class Stamp:
    """Size and modification time of a database, its write-ahead log included: whoever logs something changes them."""

    size: int
    mtime_ns: int


def database(uri: str) -> Path | None:
    """The file of a SQLite store; None for a server."""
    return Path(uri.removeprefix(SQLITE).partition("?")[0]) if uri.startswith(SQLITE) else None


def stamp(uri: str) -> Stamp | None:
    """The state of a local store; None for a server, and where the file is missing."""
    file = database(uri)
    if file is None or not file.is_file():
        return None
    places = (file, file.with_name(f"{file.name}-wal"))
    states = [place.stat() for place in places if place.exists()]
    return Stamp(sum(state.st_size for state in states), max(state.st_mtime_ns for state in states))


def gone(uri: str) -> bool:
    """Whether it is a local store whose file is missing: MLflow's client would make a new one."""
    return database(uri) is not None and stamp(uri) is None


def one_at_a_time(uri: str) -> AbstractContextManager[object]:
    """Two first uses of a SQLite store would migrate it at once, and one of them would die.

    The lock lies beside the database, since several checkouts may use one. A server has locks of its own.
    """
    import filelock

    file = database(uri)
    return filelock.FileLock(f"{file}.lock") if file else nullcontext()


def cause(error: Exception) -> str:
    """In a few words: urllib3 tells a refused connection in 400 characters, and a server sends a whole page."""
    told = str(error)
    if status := STATUS.search(told):
        return f"it answers {(code := status[status.lastindex or 0])}{MEANINGS.get(code, '')}"
    if any(sign in told for sign in NO_MLFLOW):
        return "what answers there is no MLflow server"
    return "no server answers there" if "Max retries exceeded" in told else errors.describe(error)[:300]


def digest(value: object) -> str:
    """Sixteen hex digits of the SHA-256 of a record, or of plain values, as JSON."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:16]
