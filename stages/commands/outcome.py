"""How the last run ended, as its records tell: the table, the choice, and what failed."""

import sys
from pathlib import Path

from stages.cluster import adopt
from stages.cluster.adopt import SWEEP_RECORD
from stages.commands.results import made
from stages.contracts import codec
from stages.contracts.environment import ENVIRONMENT
from stages.contracts.images import IMAGES
from stages.contracts.model import DOWNLOAD, MODEL, ONNX_RECORD
from stages.contracts.row import SUMMARY, Summary
from stages.contracts.selection import SELECTION, Selection
from stages.contracts.timing import TIMING, Timing
from stages.contracts.training import QAT_RECORD, TRAIN
from stages.core import files
from stages.core.errors import PipelineError
from stages.core.shown import say
from stages.params import document, load
from stages.params.document import Params
from stages.reporting.report_data import PAGE
from stages.reporting.table import SUMMARY_TABLE
from stages.tracking import receipts, runs

# What each stage that all variants share leaves behind, in the order they run.
SHARED = {
    "environment": ENVIRONMENT,
    "download": DOWNLOAD,
    "images": IMAGES,
    "train": TRAIN,
    "save": MODEL,
    "qat": QAT_RECORD,
    "to_onnx": ONNX_RECORD,
    "sweep": SWEEP_RECORD,
    "benchmark": TIMING,
    "summarize": SUMMARY,
    "select": SELECTION,
    "report": PAGE,
}


def unfinished() -> str | None:
    """Which stage that all variants need failed, so that there is no whole table; None if none did."""
    missing = [stage for stage, record in SHARED.items() if not record.exists()]
    if needed := missing or _came_to_nothing():
        return f"the stage `{needed[0]}` failed, so there is no table"
    chosen = codec.read(Selection, SELECTION)
    current = chosen.params == load.digest() and _of_these_figures(chosen)
    return None if current else "the stage `select` failed, so the choice is an earlier one"


def _came_to_nothing() -> list[str]:
    """Stages that all variants need, and whose records say that they were ended: the rows have that reason alone."""
    ended = {"sweep": adopt.read().came_to_nothing, "benchmark": codec.read(Timing, TIMING).came_to_nothing}
    return [stage for stage, nothing in ended.items() if nothing]


def problems(setting: Params) -> list[str]:
    """Print the table and the choice, and say what failed of a run that has them."""
    say("\n" + SUMMARY_TABLE.read_text(encoding="utf-8"))
    say(codec.read(Selection, SELECTION).sentence + "\n")
    return _of_rows(codec.read(Summary, SUMMARY)) + _of_mlflow(setting)


def all_failed() -> bool:
    """Whether the table has reasons alone, and no variant to choose."""
    states = {row.status.state for row in codec.read(Summary, SUMMARY).here}
    return "failed" in states and "ok" not in states


def _of_rows(summary: Summary) -> list[str]:
    failed = [row.name for row in summary.here if row.status.state == "failed"]
    return [f"{', '.join(failed)} failed, as the table says"] if failed else []


def _of_mlflow(setting: Params) -> list[str]:
    untracked = not runs.already_logged(setting, Path())
    unregistered = not receipts.REGISTER.exists()
    return ["the stage `track` failed, so MLflow lacks this run"] * untracked + [
        "the stage `register` failed, so the champion is what it was"
    ] * unregistered


def current_choice(excused: bool = False) -> Selection:
    """selection.json; PipelineError if there is none, or none for today's params.yaml.

    With `excused` it may be for others: `make repro` was tried with today's, and failed.
    """
    if not (SELECTION.exists() and SUMMARY.exists()):
        raise PipelineError("there are no results to check yet: run `make repro` first", code="no-results")
    chosen = codec.read(Selection, SELECTION)
    if not excused and _readable() and chosen.params != load.digest():
        raise PipelineError(
            f"params.yaml has changed since {SELECTION} was made: run `make repro` first",
            code="params-changed",
            file=str(SELECTION),
        )
    if not _of_these_figures(chosen):
        raise PipelineError(
            f"{SUMMARY} has changed since {SELECTION} was made of it: run `make repro` first",
            code="figures-changed",
            file=str(SELECTION),
        )
    return chosen


def winner() -> str | None:
    """The variant that was chosen among these figures; None where none was."""
    chosen = codec.read(Selection, SELECTION) if SELECTION.exists() and SUMMARY.exists() else None
    return chosen.winner if chosen and _of_these_figures(chosen) else None


def _readable() -> bool:
    """Whether params.yaml asks for results at all; one that is wrong is told, and hides none."""
    try:
        document.check()
    except PipelineError as error:
        say(f"{error}\nThese are the results {made()}.", to=sys.stderr)
        return False
    return True


def _of_these_figures(chosen: Selection) -> bool:
    return chosen.figures in ("", files.sha256(SUMMARY))
