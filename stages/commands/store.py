"""`make ui` asks where the MLflow store is."""

from pathlib import Path

from stages.params import load
from stages.params.tracking import TrackingParams
from stages.tracking.store import tracking_uri


def show() -> None:
    """Print its address."""
    print(tracking_uri(load.read(TrackingParams), Path()))
