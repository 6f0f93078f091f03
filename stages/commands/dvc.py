"""`dvc`, as the runner starts it: after a stage it writes that stage's entry of dvc.lock, and leaves the others.

DVC itself reads and writes the whole file each time, with a parser in pure Python that keeps comments: 1.5 s once all
38 stages here stand in it. The bytes are the same.
"""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dvc import output
from dvc.cli import main
from dvc.dvcfile import Lockfile
from dvc.exceptions import DvcException
from dvc.schema import COMPILED_LOCKFILE_SCHEMA, COMPILED_MULTI_STAGE_SCHEMA
from dvc.stage import Stage, serialize
from dvc.utils import strictyaml
from dvc.utils.serialize import dumps_yaml

from stages.core import files

HEAD = "schema: '2.0'\nstages:\n"
# As DVC writes an entry. A formatter may have quoted its key, or have named a value that another entry repeats.
ENTRY = re.compile(r"^  ([\w@.-]+):\n(?:    .*\n|  - .*\n)*", re.MULTILINE)
NAMED = re.compile(r"[\s\[{,][&*]\w")
written_by_dvc = Lockfile.dump_stages


def dump_stages(lock: Lockfile, stages: Sequence[Stage], **how: Any) -> None:
    """What Lockfile.dump_stages of DVC does, which is asked itself where the file is not as it writes it."""
    path = Path(lock.path)
    entries = _entries(path)
    if entries is None:
        written_by_dvc(lock, stages, **how)
        return
    made = {stage.name: dumps_yaml({"stages": serialize.to_lockfile(stage, **how)}) for stage in stages}
    entries |= {name: text.partition("\n")[2] for name, text in made.items()}
    files.write_text(path, HEAD + "".join(entries.values()))
    lock.repo.scm_context.track_file(lock.relpath)


def _entries(path: Path) -> dict[str, str] | None:
    """By stage the text of its entry; None for a file that holds anything else, or is not to be replaced."""
    if not path.exists():
        return {}
    text = path.read_text(encoding="utf-8")
    entries = {entry[1]: entry[0] for entry in ENTRY.finditer(text)}
    known = text == HEAD + "".join(entries.values()) and not NAMED.search(text)
    return entries if known and not path.is_symlink() and os.access(path, os.W_OK) else None


def unreadable() -> Path | None:
    """The first of DVC's two files that it cannot read; one that is missing is none."""
    schemas = {"dvc.yaml": COMPILED_MULTI_STAGE_SCHEMA, "dvc.lock": COMPILED_LOCKFILE_SCHEMA}
    for name, known in schemas.items():
        try:
            if Path(name).exists():
                strictyaml.load(name, known)
        except (DvcException, OSError):
            return Path(name)
    return None


if __name__ == "__main__":
    Lockfile.dump_stages = dump_stages
    # What a run does without is an empty folder, and DVC would warn of it at each stage that reads it.
    output.logger.addFilter(lambda record: record.msg != "'%s' is empty.")
    sys.exit(main())
