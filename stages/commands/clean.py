"""`make clean`: removes results and fetched data, unless a run is at work on them."""

import shutil
from pathlib import Path

from stages.commands import kept
from stages.commands.lock import exclusive
from stages.core.git import git
from stages.core.shown import say

# What stages write, of which git knows a few files: those stay.
MADE = ("data/model", "data/evaluation", "data/calibration", "data/train", "models", "reports")


def clean(demo: Path | None) -> None:
    """Remove what the pipeline made here, or a whole checkout of a demo; PipelineError while a run is at work there."""
    if demo is None:
        with exclusive():
            git("clean", "-fdXq", *MADE)
            kept.complete()
        say(
            "removed data, models and results; the tracked summaries, .venv, .dvc/cache, mlflow.db and mlartifacts stay"
        )
    elif demo.exists():
        with exclusive(demo):
            shutil.rmtree(demo)
