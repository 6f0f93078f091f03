"""`make repro`: checks params.yaml, runs the pipeline, prints the table, and fails if any stage or variant did."""

import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence

from stages.commands import cache, kept, results, supervise
from stages.commands.lock import exclusive
from stages.contracts.row import SUMMARY
from stages.core import errors, files
from stages.core.errors import PipelineError
from stages.core.git import git
from stages.core.shown import say
from stages.params import document
from stages.params.document import Params
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
        say(f"execution.engine in {PARAMS} is {name} from now on")


def run(command: Sequence[str], engine: str | None = None) -> None:
    """Check params.yaml, run the command, print the table, and fail if any stage or variant did."""
    with exclusive():
        if engine:
            set_engine(engine)
        setting = document.check()
        kept.begin()
        try:
            _work(command, setting)
        except BaseException as error:
            # complete() has let go of the results before it, if this run has a whole table.
            kept.settle(_reason(error))
            _say_what_is_left()
            raise
    from stages.reporting.report_data import PAGE

    say(f"Next: open {PAGE}; `make ui` compares the runs in MLflow; edit {PARAMS} and run again to sweep.")


def _reason(error: BaseException) -> str:
    """In one line, without what follows from it."""
    if isinstance(error, KeyboardInterrupt):
        return "it was interrupted"
    return ": ".join(line.strip() for line in errors.describe(error).splitlines()[:2])


def _say_what_is_left() -> None:
    if kept.FAILED.exists():
        before = f"the results {results.made()}, are as they were"
        say(f"{before}; what this one left is in {kept.FAILED}", to=sys.stderr)


def _work(command: Sequence[str], setting: Params) -> None:
    status, messages = _pipeline(command)
    from stages.commands import outcome

    # A command that ended early may have left the table of an earlier run.
    if broken := _unfinished(status) if status else outcome.unfinished():
        # Without a table a shared stage failed first, and what failed after it lacked its results.
        raise _failed(broken, *(messages if SUMMARY.exists() else messages[:1]))
    lost = None if messages else cache.unkept()
    failures = [*outcome.problems(setting), *filter(None, [lost]), *messages]
    # A table of failures alone is no match for the results before it.
    if not (outcome.all_failed() and kept.has_page()):
        kept.complete()
    if failures:
        raise _failed(*failures)


def _pipeline(command: Sequence[str]) -> tuple[int, list[str]]:
    """Exit status of the command, and what its stages had to say."""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as collected:
        with supervise.started(_quick(command), os.environ | {errors.COLLECT: collected.name}) as process:
            # What tells the outcome takes a third of a second to import, while the pipeline starts.
            from stages.commands import outcome  # noqa: F401

            status = process.wait()
        return status, [json.loads(line) for line in collected]


def _quick(command: Sequence[str]) -> Sequence[str]:
    """DVC as `stages.commands.dvc` starts it; any other command as it is."""
    return [sys.executable, "-m", "stages.commands.dvc", *command[1:]] if command[0] == "dvc" else command


def _failed(*reasons: str) -> PipelineError:
    return PipelineError("\n  ".join(filter(None, [*reasons, errors.disk_hint()])), code="run-failed")


def _unfinished(status: int) -> str:
    """Why DVC stopped, where it can be told from here."""
    if not git("rev-parse", "--git-dir"):
        return (
            "DVC needs a git repository, and this folder is in none: clone the project, or run `git init && git add -A "
            "&& git commit -m start` and the same command again"
        )
    from stages.commands import dvc  # takes a while to import

    if unreadable := dvc.unreadable():
        return str(kept.damaged(unreadable, "DVC's lines above say why"))
    return f"the pipeline did not run to its end (exit status {status})"
