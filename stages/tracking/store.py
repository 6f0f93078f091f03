"""The MLflow store that `track` and `register` write to: where it is, how to reach it, what to say if it is down."""

import fcntl
import hashlib
import json
import logging
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from stages.core import errors, files
from stages.core.errors import PipelineError
from stages.params.document import Params


def tracking_uri(setting: Params, checkout: Path) -> str:
    """MLflow's own variable first, then params.yaml, then a database in the main checkout."""
    named = os.environ.get("MLFLOW_TRACKING_URI") or setting.tracking.uri
    if not named and set("?%") & set(str(checkout.resolve())):
        raise PipelineError(
            f"{checkout.resolve()} has a ? or % in its name, which no database address can hold: rename it"
        )
    return named or f"sqlite:///{checkout.resolve()}/mlflow.db"


def connect(uri: str) -> Any:
    """MLflow's client for that store, quiet."""
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it announces every table it creates
    # Fail after seconds, not minutes: the next run logs what is missing.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    # With a server it would print two lines for every run.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    return mlflow.MlflowClient(uri)


def recorded(receipt: Path, key: str, uri: str) -> dict[str, Any] | None:
    """The receipt if it is for these results and this store; a damaged one is none."""
    with suppress(PipelineError):
        found = files.read_json(receipt)
        if isinstance(found, dict) and found.get("key") == key and found.get("uri") == uri:
            return found
    return None


def holds(uri: str, query: str, values: Sequence[str], ask: Callable[[Any], bool]) -> bool:
    """Whether the store still has what a receipt says.

    A local database answers `query` in a millisecond; a server is asked by MLflow's client, whose import takes seconds.
    """
    database = re.match(r"sqlite:///(.*)", uri)
    if not database:
        from mlflow.exceptions import MlflowException

        with suppress(MlflowException):
            return ask(connect(uri))
        return False
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{quote(database[1])}?mode=ro", uri=True)) as found:
        return found.execute(query, values).fetchone() is not None
    return False


@contextmanager
def one_at_a_time(checkout: Path) -> Iterator[None]:
    """Two first uses of a SQLite store would migrate it at once, and one of them would die."""
    with (checkout / "mlflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def cause(error: Exception) -> str:
    """urllib3 tells a refused connection in 400 characters."""
    return "no server answers there" if "Max retries exceeded" in str(error) else errors.describe(error)[:300]


def digest(value: Any) -> str:
    """Sixteen hex digits of the SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
