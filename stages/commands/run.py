"""`make repro`: checks params.yaml, runs the pipeline, prints the table, and fails if any stage or variant did."""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress

import psutil

from stages.commands.lock import exclusive
from stages.core import errors, files
from stages.core.errors import PipelineError
from stages.core.git import git
from stages.core.process import end_with_parent
from stages.params import document
from stages.params.load import PARAMS

# The value of the key in its block, whatever comments stand between.
ENGINE = re.compile(r"^(execution:\n(?:(?:  .*|#.*|)\n)*?  engine:)[^\n#]*?((?:[ \t]+#.*)?)$", re.MULTILINE)


def set_engine(name: str) -> None:
    """Write execution.engine into params.yaml, which DVC and MLflow read, and leave every other line as it is."""
    text = PARAMS.read_text(encoding="utf-8")
    changed, places = ENGINE.subn(rf"\g<1> {name}\g<2>", text)
    if not places:
        raise PipelineError(
            f"{PARAMS} has no line for execution.engine: write `engine: {name}` there by hand",
            code="no-engine-line",
            file=str(PARAMS),
            key="execution.engine",
        )
    if changed != text:
        files.write_text(PARAMS, changed)
        print(f"execution.engine in {PARAMS} is {name} from now on")


def run(command: Sequence[str], engine: str | None = None) -> None:
    """Check params.yaml, run the command, print the table, and fail if any stage or variant did."""
    with exclusive(), tempfile.NamedTemporaryFile("r", encoding="utf-8") as collected:
        if engine:
            set_engine(engine)
        setting = document.check()
        environment = os.environ | {errors.COLLECT: collected.name}
        # Whoever kills this process kills what it started: DVC would run on beside the next `make repro`.
        process = subprocess.Popen(command, env=environment, preexec_fn=end_with_parent)
        # What tells the outcome takes a third of a second to import, while the pipeline starts.
        from stages.commands import outcome
        from stages.contracts.row import SUMMARY
        from stages.reporting.report_data import PAGE

        status = wait(process)
        messages = [json.loads(line) for line in collected]
    # A command that ended early may have left the table of an earlier run.
    failures = outcome.problems(setting) if status == 0 else [_unfinished(status)]
    if failures or messages:
        # Without a table a shared stage failed first, and what failed after it lacked its results.
        reasons = messages if SUMMARY.exists() else messages[:1]
        raise PipelineError("\n  ".join(filter(None, [*failures, *reasons, errors.disk_hint()])), code="run-failed")
    print(f"Next: open {PAGE}; `make ui` compares the runs in MLflow; edit {PARAMS} and run again to sweep.")


def _unfinished(status: int) -> str:
    """Why DVC stopped, where it can be told from here."""
    if not git("rev-parse", "--git-dir"):
        return (
            "DVC needs a git repository, and this folder is in none: clone the project, or run `git init && git add -A "
            "&& git commit -m start` and the same command again"
        )
    return f"the pipeline did not run to its end (exit status {status})"


def wait(process: "subprocess.Popen[bytes]") -> int:
    """Exit status; after Ctrl-C only once all its processes are gone, so that none outlives the lock."""
    try:
        return process.wait()
    except KeyboardInterrupt:
        with suppress(psutil.NoSuchProcess):
            _end(process, psutil.Process(process.pid).children(recursive=True))
        raise


def _end(dvc: "subprocess.Popen[bytes]", stage: list[psutil.Process]) -> None:
    """Wait until the stage, which has had the same Ctrl-C, is gone, and DVC with it."""
    if stage:
        dvc.kill()  # it ignores Ctrl-C while it waits for a stage, and would go on with the next one
    dvc.wait()
    for process in psutil.wait_procs(stage, timeout=20)[1]:
        process.kill()
