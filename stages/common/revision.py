"""Results as another git revision has them: the summary from git, predictions from DVC's cache."""

import json
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from stages.common import paths, predictions
from stages.common.errors import PipelineError
from stages.common.predictions import Prediction


def summary_at(revision: str) -> dict[str, Any]:
    """summary.json of that commit, tag or branch; PipelineError where it has none."""
    named = f"{revision}:./{paths.SUMMARY}"
    shown = subprocess.run(["git", "show", named], capture_output=True, text=True, check=False)
    if shown.returncode:
        why = shown.stderr.strip().removeprefix("fatal: ")
        raise PipelineError(f"git knows no {paths.SUMMARY} at {revision} ({why}): name a commit that holds results")
    return dict(json.loads(shown.stdout))


@cache
def predictions_at(revision: str, variant: str) -> list[Prediction]:
    """One variant's predictions there; empty where DVC's cache does not hold them."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "predictions.csv"
        named = [".", str(paths.record(variant, "predictions.csv")), "--rev", revision, "--out", str(copy)]
        subprocess.run([sys.executable, "-m", "dvc", "get", "--quiet", *named], capture_output=True, check=False)
        return predictions.read(copy)
