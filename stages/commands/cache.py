"""Whether DVC kept what the stages made: where its cache cannot be written it says so, and ends well all the same."""

import json
import subprocess
import sys
from pathlib import Path

from stages.commands import kept
from stages.core import errors

CACHE = Path(".dvc/cache")
STATUS = (sys.executable, "-m", "dvc", "status", "--json")


def unkept() -> str | None:
    """The stages whose results DVC did not keep although none failed, and what to do; None if it has all."""
    if not kept.anything_new():
        return None  # asking takes two seconds
    done = subprocess.run(STATUS, stdout=subprocess.PIPE, text=True, check=False)
    changed = json.loads(done.stdout or "{}")
    lost = [stage for stage, reasons in changed.items() if reasons != ["always changed"]]
    # Its free space is what counts, and a full disk has no other sign here.
    mend = (
        errors.disk_hint(OSError(0, "", str(CACHE))) or "mend what its lines above say, and run the same command again"
    )
    return f"DVC could not keep the results of {', '.join(lost)}: {mend}" if lost else None
