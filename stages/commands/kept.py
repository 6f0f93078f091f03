"""The last complete results, which survive a run that fails or is killed: they are kept apart while it works.

`begin` links all results into a folder of their own, where no stage writes. A run that gives a whole table lets go of
them; after any other they come back, at its end or by the next command. What DVC finished stays in its cache.
"""

import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import ClassVar

import yaml

from stages.contracts import codec
from stages.contracts.row import SUMMARY
from stages.contracts.selection import SELECTION
from stages.core import errors, files
from stages.core.errors import PipelineError
from stages.runtimes import registry

FOLDER = Path(".kept")
RESULTS = FOLDER / "results"
# What a failed run left of reports and of DVC's record, until the next run begins.
FAILED = FOLDER / "failed"
# Here while a run works, and after one that was killed.
MARK = FOLDER / "running.json"
PIPELINE, LOCK = Path("dvc.yaml"), Path("dvc.lock")
VARIANT = "${item.variant}"
KILLED = "it was killed"


@dataclass(frozen=True)
class Attempt:
    """A run that is not complete: when it began, and why it will never be."""

    SCHEMA: ClassVar[int] = 1

    began: str
    reason: str = KILLED


def begin() -> None:
    """Keep the results that are there, as a run is about to make others; bring back those that a killed one left."""
    settle()
    _remove(FAILED)
    _remove(RESULTS)
    if _whole():
        with files.new_directory(RESULTS) as folder:
            for path in filter(_there, outputs()):
                _link(path, folder / path)
    codec.write(Attempt(minute(datetime.now().timestamp())), MARK)


def _whole() -> bool:
    """Whether the results here are those of a run that had its table; one that failed before may have left some."""
    return SUMMARY.exists() and SELECTION.exists() and (not MARK.exists() or has_page(Path()))


def has_page(folder: Path = RESULTS) -> bool:
    """Whether all of a run is there, and not the summaries alone that git brings."""
    from stages.reporting.report_data import PAGE  # takes a while to import

    return (folder / PAGE).exists()


def complete() -> None:
    """The run has given all results: let go of those before."""
    MARK.unlink(missing_ok=True)
    _remove(FOLDER)


def settle(reason: str = KILLED) -> None:
    """Bring the kept results back where a run did not complete. Stopped at any moment, the next call goes on."""
    if not MARK.exists():
        return
    attempt = replace(read(MARK) or Attempt("an unknown time"), reason=reason)
    if not RESULTS.exists():
        codec.write(attempt, MARK)
        return
    for path in outputs():
        for half in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
            _remove(half)
        if _stamps(RESULTS / path) != _stamps(path) or _there(RESULTS / path) != _there(path):
            _bring_back(path)
    codec.write(attempt, FAILED / "run.json")
    MARK.unlink()
    _remove(RESULTS)


def _bring_back(path: Path) -> None:
    """Put the kept one in place of what is there now, of which the small files are left apart."""
    if path == LOCK or path.parts[0] == SUMMARY.parts[0]:
        _move(path, FAILED / path)
    _remove(path)
    if _there(RESULTS / path):
        back = FOLDER / "back"
        _remove(back)
        _link(RESULTS / path, back)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(back, path)


def _move(path: Path, target: Path) -> None:
    if _there(path):
        _remove(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)


def checkout() -> Path:
    """Where git and DVC are asked: the current folder, or that around it while kept results are read in theirs."""
    here = Path.cwd()
    return here.parents[len(RESULTS.parts) - 1] if here.parts[-len(RESULTS.parts) :] == RESULTS.parts else here


def anything_new() -> bool:
    """Whether a stage that does not always run has written since `begin`."""
    return any(_stamps(RESULTS / path) != _stamps(path) for path in outputs(always=False))


def outputs(always: bool = True) -> Iterator[Path]:
    """DVC's record, and all that stages write, but for what one of them keeps for its own next run.

    Without `always` not that of stages that run each time, of which the record is one.
    """
    if always:
        yield LOCK
    try:
        pipeline = yaml.load(PIPELINE.read_text(encoding="utf-8"), yaml.CSafeLoader)
        stages = [stage for stage in pipeline["stages"].values() if always or not stage.get("always_changed")]
        paths = [path for stage in stages for out in stage["outs"] for path in _paths(out)]
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise damaged(PIPELINE, str(error)) from None
    except (TypeError, AttributeError, LookupError):
        raise damaged(PIPELINE, "it has no stages with outs") from None
    yield from paths


def damaged(path: Path, reason: str) -> PipelineError:
    """The error of a file that DVC cannot read: an editor, a merge, or a full disk left it so."""
    or_delete = ", or delete it, as what DVC's cache has is not made anew" if path == LOCK else ""
    return PipelineError(
        f"{path} cannot be read ({' '.join(reason.split())[:200]}): get the last commit's by `git checkout {path}`"
        f"{or_delete}",
        code="dvc-file-damaged",
        file=str(path),
    )


def _paths(out: str | dict[str, dict[str, bool]]) -> Iterator[Path]:
    pattern, flags = (out, {}) if isinstance(out, str) else next(iter(out.items()))
    if flags.get("persist") and flags.get("cache", True):
        return
    for name in registry.valid() if VARIANT in pattern else [""]:
        yield Path(pattern.replace(VARIANT, name))


def _link(source: Path, target: Path) -> None:
    """The same file under a second name: who replaces the first leaves the second, and no space is used."""
    if source.is_dir() and not source.is_symlink():
        target.mkdir(parents=True)
        for child in source.iterdir():
            _link(child, target / child.name)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.name == LOCK.name:
        shutil.copy2(source, target)  # DVC writes into its own file
        return
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if errors.is_full(error):
            raise
        shutil.copy2(source, target, follow_symlinks=False)  # on another disk, or one without links


def _stamps(path: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of change of a file, or of all below a folder, which links share; empty if there is none."""
    below = [path, *path.rglob("*")] if _there(path) else []
    found = {one.relative_to(path): one.lstat() for one in below if one.is_symlink() or not one.is_dir()}
    return {name: (status.st_size, status.st_mtime_ns) for name, status in found.items()}


def _there(path: Path) -> bool:
    return os.path.lexists(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def read(path: Path) -> Attempt | None:
    """The run of which that file tells, if any."""
    with suppress(PipelineError):
        return codec.read(Attempt, path)
    return None


def minute(seconds: float) -> str:
    """A time of this machine's, for people."""
    return datetime.fromtimestamp(seconds).isoformat(" ", "minutes")
