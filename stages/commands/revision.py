"""Results as another git revision has them: the records from git, predictions from DVC's cache."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from stages.contracts import paths, predictions
from stages.contracts.predictions import Predictions
from stages.core.errors import PipelineError


def record_at(revision: str, path: Path) -> dict[str, Any]:
    """A JSON record of that commit, tag or branch; PipelineError where it has none."""
    commit = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}").strip()
    text = commit and git("show", f"{commit}:./{path}")
    if not text:
        what = f"no {path} at {revision}" if commit else f"no revision {revision!r}"
        raise PipelineError(f"git knows {what}: name a commit, tag or branch that holds results")
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise PipelineError(f"{path} at {revision} is damaged ({error}): name another commit") from None


def git(*arguments: str) -> str:
    """What it prints; empty where it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return "" if done.returncode else done.stdout


def predictions_at(revision: str, variant: str) -> Predictions:
    """One variant's predictions there; empty where DVC's cache does not hold them."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "predictions.csv"
        named = [".", str(paths.record(variant, "predictions.csv")), "--rev", revision, "--out", str(copy)]
        subprocess.run([sys.executable, "-m", "dvc", "get", "--quiet", *named], capture_output=True, check=False)
        try:
            return predictions.read(copy)
        except PipelineError:
            raise PipelineError(
                f"the predictions of {variant} at {revision} are damaged: name another commit"
            ) from None
