"""Results as another git revision has them: the records from git, predictions from DVC's cache."""

import subprocess
import sys
import tempfile
from pathlib import Path

from stages.commands import kept
from stages.contracts import codec, predictions
from stages.contracts.codec import Kind
from stages.contracts.evaluation import predictions_path
from stages.contracts.predictions import Predictions
from stages.core.errors import PipelineError
from stages.core.git import git


def record_at(kind: type[Kind], revision: str, path: Path) -> Kind:
    """A record of that commit, tag or branch; PipelineError where it has none, or one of another schema."""
    place = str(kept.checkout())
    commit = git("-C", place, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}").strip()
    text = commit and git("-C", place, "show", f"{commit}:./{path}")
    if not text:
        what = f"no {path} at {revision}" if commit else f"no revision {revision!r}"
        raise PipelineError(
            f"git knows {what}: name a commit, tag or branch that holds results",
            code="no-such-revision",
            revision=revision,
        )
    try:
        return codec.decode(kind, text.encode(), str(path))
    except PipelineError as error:
        reason = "another version of this pipeline made it" if error.code == "record-schema" else "it is damaged"
        raise PipelineError(
            f"{path} at {revision} cannot be read, as {reason} ({error.values.get('field', error.code)}): name a "
            "newer one",
            code="revision-unreadable",
            revision=revision,
            file=str(path),
        ) from None


def predictions_at(revision: str, variant: str) -> Predictions:
    """One variant's predictions there; empty where DVC's cache does not hold them."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "predictions.csv"
        named = [".", str(predictions_path(variant)), "--rev", revision, "--out", str(copy)]
        command = [sys.executable, "-m", "dvc", "get", "--quiet", *named]
        subprocess.run(command, cwd=kept.checkout(), capture_output=True, check=False)
        try:
            return predictions.read(copy)
        except PipelineError:
            raise PipelineError(
                f"the predictions of {variant} at {revision} are damaged: name another commit",
                code="revision-unreadable",
                revision=revision,
                variant=variant,
            ) from None
