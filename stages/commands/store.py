"""`make ui` asks where the MLflow store is."""

from pathlib import Path

from stages.commands import results
from stages.core.errors import PipelineError
from stages.core.shown import has_secret, say
from stages.params import load
from stages.params.tracking import TrackingParams
from stages.tracking import receipts
from stages.tracking.store import tracking_uri


def show() -> None:
    """Print its address; PipelineError for a database whose address holds a password, which no command may show."""
    with results.last():
        pass  # says which run was the last complete one
    uri = _address()
    if has_secret(uri) and not uri.startswith("http"):
        raise PipelineError(
            f"{uri} holds a password, which the list of processes would show: set MLFLOW_BACKEND_STORE_URI to it, and "
            "run `mlflow ui`",
            code="store-password",
        )
    say(uri)


def _address() -> str:
    """As params.yaml has it, or while that is wrong, where the last complete run is logged."""
    try:
        return tracking_uri(load.read(TrackingParams), Path())
    except PipelineError:
        if (logged := receipts.read(receipts.TrackReceipt, receipts.TRACK)) is None:
            raise
        return logged.uri
