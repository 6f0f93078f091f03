"""`make ui` asks where the MLflow store is."""

from pathlib import Path

from stages.commands import results
from stages.core.errors import PipelineError
from stages.params import load
from stages.params.tracking import TrackingParams
from stages.tracking import receipts
from stages.tracking.store import tracking_uri


def show() -> None:
    """Print its address."""
    with results.last():
        pass  # says which run was the last complete one
    print(_address())


def _address() -> str:
    """As params.yaml has it, or while that is wrong, where the last complete run is logged."""
    try:
        return tracking_uri(load.read(TrackingParams), Path())
    except PipelineError:
        if (logged := receipts.read(receipts.TrackReceipt, receipts.TRACK)) is None:
            raise
        return logged.uri
