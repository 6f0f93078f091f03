"""The last complete results for who reads them, and of which run they are, where a later one failed or is at work."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.commands import kept
from stages.commands.lock import exclusive
from stages.contracts.selection import SELECTION
from stages.core.errors import PipelineError
from stages.core.shown import say


@contextmanager
def last() -> Iterator[str]:
    """In the block the current folder is where those results lie; yields what has been said of them, if anything."""
    here = Path.cwd()
    at_work = _at_work()
    if at_work and kept.RESULTS.exists():
        os.chdir(kept.RESULTS)
    try:
        yield told(at_work, here)
    finally:
        os.chdir(here)


def told(at_work: kept.Attempt | None = None, checkout: Path = Path()) -> str:
    """Say of which run the results are, where it is not the last; returns that it is not, or nothing."""
    if at_work:
        later = f"a run has been at work since {at_work.began}"
    elif failed := kept.read(checkout / kept.FAILED / "run.json") or kept.read(checkout / kept.MARK):
        later = f"the run of {failed.began} did not complete ({failed.reason})"
    else:
        return ""
    before = f"these are the results {made()}" if SELECTION.exists() else "none was before it"
    say(f"{later}: {before}", to=sys.stderr)
    return later


def made() -> str:
    """Of which run the results here are. Git brings no page, and dates what it brings by itself."""
    if kept.has_page(Path()):
        return f"of the run before, of {kept.minute(SELECTION.stat().st_mtime)}"
    return "that came with the checkout, of a run elsewhere"


def _at_work() -> kept.Attempt | None:
    """The run that works now; what one left that was killed is mended before."""
    if not kept.MARK.exists():
        return None
    try:
        with exclusive():
            kept.settle()
    except PipelineError as error:
        if error.code != "checkout-busy":
            raise
        return kept.read(kept.MARK)
    return None
