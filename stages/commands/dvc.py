"""`dvc`, as the runner starts it: after a stage it writes that stage's entry of dvc.lock, and leaves the others.

DVC itself reads and writes the whole file each time, with a parser in pure Python that keeps comments: 1.5 s for the
38 stages here, a fifth of a run. The bytes are the same.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dvc.cli import main
from dvc.dvcfile import Lockfile
from dvc.exceptions import DvcException
from dvc.schema import COMPILED_LOCKFILE_SCHEMA, COMPILED_MULTI_STAGE_SCHEMA
from dvc.stage import Stage, serialize
from dvc.utils import strictyaml
from dvc.utils.serialize import dumps_yaml

from stages.core import files

HEAD = "schema: '2.0'\nstages:\n"
ENTRY = re.compile(r"^  (?! )(.+):\n(?:    .*\n|  - .*\n)*", re.MULTILINE)

written_by_dvc = Lockfile.dump_stages


def dump_stages(lock: Lockfile, stages: Sequence[Stage], **how: Any) -> None:
    """What Lockfile.dump_stages of DVC does, which is asked itself where the file holds anything but stages."""
    path = Path(lock.path)
    text = path.read_text(encoding="utf-8") if path.exists() else HEAD
    entries = {entry[1]: entry[0] for entry in ENTRY.finditer(text)}
    if text != HEAD + "".join(entries.values()):
        written_by_dvc(lock, stages, **how)
        return
    made = {stage.name: dumps_yaml({"stages": serialize.to_lockfile(stage, **how)}) for stage in stages}
    entries |= {name: text.partition("\n")[2] for name, text in made.items()}
    files.write_text(path, HEAD + "".join(entries.values()))
    lock.repo.scm_context.track_file(lock.relpath)


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
    sys.exit(main())
