"""How the last run ended, as its records tell: the table, the choice, and what failed."""

from pathlib import Path

from stages.cluster.adopt import SWEEP_RECORD
from stages.contracts import codec
from stages.contracts.environment import ENVIRONMENT
from stages.contracts.images import IMAGES
from stages.contracts.model import DOWNLOAD, MODEL, ONNX_RECORD
from stages.contracts.row import SUMMARY, Summary
from stages.contracts.selection import SELECTION, Selection
from stages.contracts.timing import TIMING
from stages.contracts.training import QAT_RECORD, TRAIN
from stages.core import files
from stages.core.errors import PipelineError
from stages.params import load
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


def problems(setting: Params) -> list[str]:
    """Print the table and say what failed; without a summary, which shared stage failed."""
    missing = [stage for stage, record in SHARED.items() if not record.exists()]
    if missing:
        return [f"the stage `{missing[0]}` failed, so there is no table"]
    print("\n" + SUMMARY_TABLE.read_text(encoding="utf-8"))
    chosen = codec.read(Selection, SELECTION)
    if chosen.params != load.digest() or not _of_these_figures(chosen):
        return ["the stage `select` failed, so the choice is an earlier one"]
    print(chosen.sentence + "\n")
    return _of_rows(codec.read(Summary, SUMMARY)) + _of_mlflow(setting)


def _of_rows(summary: Summary) -> list[str]:
    failed = [row.name for row in summary.here if row.status.state == "failed"]
    return [f"{', '.join(failed)} failed, as the table says"] if failed else []


def _of_mlflow(setting: Params) -> list[str]:
    untracked = not runs.already_logged(setting, Path())
    unregistered = not receipts.REGISTER.exists()
    return ["the stage `track` failed, so MLflow lacks this run"] * untracked + [
        "the stage `register` failed, so the champion is what it was"
    ] * unregistered


def current_choice() -> Selection:
    """selection.json; PipelineError if there is none, or none for today's params.yaml."""
    if not (SELECTION.exists() and SUMMARY.exists()):
        raise PipelineError("there are no results to check yet: run `make repro` first", code="no-results")
    chosen = codec.read(Selection, SELECTION)
    if chosen.params != load.digest():
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


def _of_these_figures(chosen: Selection) -> bool:
    return chosen.figures in ("", files.sha256(SUMMARY))
