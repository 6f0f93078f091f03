"""The commands behind the Makefile: `python -m stages run COMMAND | check | store | predict IMAGE | export | deps`."""

import argparse
import fcntl
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from stages import select, track
from stages.commands import dependencies
from stages.commands.revision import predictions_at, record_at
from stages.contracts import labels, paths, predictions
from stages.contracts.predictions import Predictions, top_k
from stages.contracts.preprocessing import Preprocessing
from stages.core import errors, files
from stages.core.errors import PipelineError
from stages.data import batches
from stages.params import document
from stages.params.document import Params
from stages.reporting import table
from stages.runtimes import Manifest
from stages.runtimes.contract import infer
from stages.runtimes.registry import VALID
from stages.selection import regression
from stages.serving import export
from stages.tracking import store

# The value of the key in its block, whatever comments stand between.
ENGINE = re.compile(r"^(execution:\n(?:(?:  .*|#.*|)\n)*?  engine:)[^\n#]*?((?:[ \t]+#.*)?)$", re.MULTILINE)
LOCK = Path(".make-repro.lock")
# What each stage that all variants share leaves behind, in the order they run.
SHARED = {
    "environment": paths.ENVIRONMENT,
    "download": paths.DOWNLOAD,
    "images": paths.IMAGES,
    "train": paths.TRAIN,
    "save": paths.MODEL,
    "qat": paths.QAT_RECORD,
    "to_onnx": paths.ONNX_RECORD,
    "sweep": paths.SWEEP_RECORD,
    "benchmark": paths.BENCHMARK,
    "summarize": paths.SUMMARY,
    "select": paths.SELECTION,
    "report": paths.PAGE,
}
# How `check` ended, so that a CI job can tell; 1 is an error, 2 a wrong command line.
STATUS = {select.SELECTED: 0, select.CANNOT_TELL: 3, select.NOTHING: 4}
REGRESSION = 5


@contextmanager
def exclusive() -> Iterator[None]:
    """Hold this checkout: two pipelines in one folder would overwrite each other's files."""
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PipelineError(
                "another `make repro` is running in this checkout: wait until it ends, or use a second checkout"
            ) from None
        yield


def set_engine(name: str) -> None:
    """Write execution.engine into params.yaml, which DVC and MLflow read, and leave every other line as it is."""
    text = paths.PARAMS.read_text(encoding="utf-8")
    changed, found = ENGINE.subn(rf"\g<1> {name}\g<2>", text)
    if not found:
        raise PipelineError(f"{paths.PARAMS} has no line for execution.engine: write `engine: {name}` there by hand")
    if changed != text:
        files.write_text(paths.PARAMS, changed)
        print(f"execution.engine in {paths.PARAMS} is {name} from now on")


def run(command: Sequence[str], engine: str | None = None) -> None:
    """Check params.yaml, run the command, print the table, and fail if any stage or variant did."""
    with exclusive(), tempfile.NamedTemporaryFile("r", encoding="utf-8") as collected:
        if engine:
            set_engine(engine)
        setting = document.load()
        environment = os.environ | {errors.COLLECT: collected.name}
        status = _wait(subprocess.Popen(command, env=environment))
        messages = [json.loads(line) for line in collected]
    # A command that ended early may have left the table of an earlier run.
    problems = verdict(setting) if status == 0 else [f"the pipeline did not run to its end (exit status {status})"]
    if problems or messages:
        # Without a table a shared stage failed first, and what failed after it lacked its results.
        reasons = messages if paths.SUMMARY.exists() else messages[:1]
        raise PipelineError("\n  ".join(filter(None, [*problems, *reasons, errors.disk_hint()])))
    print(f"Next: open {paths.PAGE}; `make ui` compares the runs in MLflow; edit params.yaml and run again to sweep.")


def _wait(process: "subprocess.Popen[bytes]") -> int:
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


def verdict(setting: Params) -> list[str]:
    """Print the table and say what failed; without a summary, which shared stage failed."""
    missing = [stage for stage, record in SHARED.items() if not record.exists()]
    if missing:
        return [f"the stage `{missing[0]}` failed, so there is no table"]
    print("\n" + paths.SUMMARY_TABLE.read_text(encoding="utf-8"))
    chosen = files.read_json(paths.SELECTION)
    if chosen["params"] != select.fingerprint(setting):
        return ["the stage `select` failed, so the choice is an earlier one"]
    print(chosen["sentence"] + "\n")
    summary = files.read_json(paths.SUMMARY)
    failed = [row["variant"] for row in summary["rows"] if row["status"] == "failed"]
    problems = [f"{', '.join(failed)} failed, as the table says"] if failed else []
    if not track.already_logged(track.run_key(setting, summary), store.tracking_uri(setting, Path())):
        problems.append("the stage `track` failed, so MLflow lacks this run")
    if not paths.REGISTER.exists():
        problems.append("the stage `register` failed, so the champion is what it was")
    return problems


def check(against: str | None) -> int:
    """Print the choice, and what got worse since the revision `against` if one is named; returns the exit status."""
    chosen = _current_choice()
    summary = files.read_json(paths.SUMMARY)
    print(table.title(summary))
    best = "chosen" if chosen["outcome"] == select.SELECTED else "within budget"
    for name, judged in chosen["variants"].items():
        print(f"  {name}: {judged['reason'] or best}")
    print(chosen["sentence"])
    return max(STATUS[chosen["outcome"]], _compared(against, summary, chosen) if against is not None else 0)


def _current_choice() -> select.Record:
    """selection.json; PipelineError if there is none, or none for today's params.yaml."""
    setting = document.load()
    if not (paths.SELECTION.exists() and paths.SUMMARY.exists()):
        raise PipelineError("there are no results to check yet: run `make repro` first")
    chosen: select.Record = files.read_json(paths.SELECTION)
    if not isinstance(chosen, dict) or chosen.get("params") != select.fingerprint(setting):
        raise PipelineError(f"{paths.PARAMS} has changed since {paths.SELECTION} was made: run `make repro` first")
    return chosen


def _compared(revision: str, summary: select.Record, chosen: select.Record) -> int:
    """Print what got worse since then, and what cannot be told; returns the exit status."""

    def here(variant: str) -> Predictions:
        return predictions.read(paths.record(variant, "predictions.csv"))

    old, before = record_at(revision, paths.SUMMARY), record_at(revision, paths.SELECTION)
    try:
        ships = regression.Chosen(before["winner"], chosen["winner"])
        found = regression.compare(old, summary, ships, partial(predictions_at, revision), here)
    except (LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise PipelineError(
            f"the results at {revision} cannot be read ({errors.describe(error)}), as another version of this pipeline "
            "made them: name a newer one"
        ) from None
    for note in found.notes:
        print(f"  {note}")
    if found.unknown:
        print(f"Cannot tell: {'; '.join(found.unknown)}.")
    worse = f"Worse than {revision}: {'; '.join(found.regressions)}." if found.regressions else ""
    print(worse or f"Nothing that was compared is worse than {revision} beyond noise.")
    return REGRESSION if found.regressions else STATUS[select.CANNOT_TELL] if found.unknown else 0


def predict(names: Sequence[str], variant: str | None) -> None:
    """Print the five best classes of each image, as one converted variant sees it."""
    manifest = _converted(variant)
    preprocessing = Preprocessing.from_json(files.read_json(paths.MODEL)["preprocessing"])
    classes = labels.read()
    inputs = [batches.load(Path(name), preprocessing) for name in names]
    session = manifest.load()
    for name, image in zip(names, inputs, strict=True):
        probabilities = infer(session, image[np.newaxis])
        print(f"{name} ({manifest.variant})")
        for index in top_k(probabilities)[0]:
            print(f"  {probabilities[0, index]:7.2%}  {classes.names[index]}")


def _converted(variant: str | None) -> Manifest:
    """The variant asked for, or the first that has a model; PipelineError lists those that have."""
    if variant is not None and variant not in VALID:
        raise PipelineError(f"unknown variant {variant!r}; valid variants are {', '.join(VALID)}")
    ready = [name for name in VALID if (paths.model(name) / paths.MANIFEST).exists()]
    ready = [name for name in ready if Manifest.read(name).status == "ok"]
    if not ready:
        raise PipelineError("no variant is converted yet: run `make repro` first")
    if variant is not None and variant not in ready:
        raise PipelineError(f"{variant} is not converted here; converted are {', '.join(ready)}")
    return Manifest.read(variant or ready[0])


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(prog="python -m stages", description=__doc__)
    commands = parser.add_subparsers(dest="verb", required=True)
    checker = commands.add_parser("check", help="print the choice; the exit status tells how it ended")
    checker.add_argument("--against", metavar="REV", help="fail on what got worse since that git revision")
    commands.add_parser("store", help="print the address of the MLflow store")
    runner = commands.add_parser("run", help="run a pipeline command, then print the table and the verdict")
    runner.add_argument("--engine", choices=("local", "ray"), help="set execution.engine in params.yaml first")
    runner.add_argument("command", nargs=argparse.REMAINDER)
    predictor = commands.add_parser("predict", help="classify images with a converted variant")
    predictor.add_argument("--variant")
    predictor.add_argument("images", nargs="+")
    exporter = commands.add_parser("export", help="write the chosen variant for TensorFlow Serving and Triton")
    exporter.add_argument("--to", type=Path, required=True)
    dependent = commands.add_parser("deps", help="write the code dependencies of dvc.yaml from the imports")
    dependent.add_argument("--check", action="store_true", help="only compare; the exit status is 1 if they differ")
    arguments = parser.parse_args()
    if arguments.verb == "check":
        raise SystemExit(check(arguments.against))
    if arguments.verb == "store":
        print(store.tracking_uri(document.load(), Path()))
    elif arguments.verb == "run":
        run(arguments.command, arguments.engine)
    elif arguments.verb == "deps":
        dependencies.main(arguments.check)
    elif arguments.verb == "export":
        _current_choice()
        print("\n".join(export.write(arguments.to)))
    else:
        predict(arguments.images, arguments.variant or None)


if __name__ == "__main__":
    errors.run(main)
