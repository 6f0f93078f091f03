"""Writes the code dependencies of every stage into dvc.yaml, from the imports: nobody types them."""

import difflib
import io
from pathlib import Path

from stages.commands.lock import exclusive
from stages.core import files
from stages.core.closure import PACKAGE, Imports
from stages.core.errors import PipelineError
from stages.core.shown import say

PIPELINE = Path("dvc.yaml")
# In a stage's `meta`: it keeps a receipt of what it did outside the checkout, under a key of its results. Run again by
# other code it would find that done, so that its code is no dependency.
RECEIPT = "receipt"


def written(text: str) -> str:
    """dvc.yaml with the `deps` below stages/ that the imports ask for; all else, comments too, stays as it is."""
    from ruamel.yaml import YAML  # keeps comments

    yaml = YAML()
    yaml.width = 1000
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    pipeline = yaml.load(text)
    imports = Imports()
    for name, stage in pipeline["stages"].items():
        code = [] if RECEIPT in stage.get("meta", {}) else imports.files(f"{PACKAGE}.{name}")
        _replace(stage["deps"], [path.as_posix() for path in code])
    out = io.StringIO()
    yaml.dump(pipeline, out)
    return out.getvalue()


def _replace(deps: list[str], code: list[str]) -> None:
    """Put these at the start, in place of those that begin with stages/."""
    for index in reversed(range(len(deps))):
        if deps[index].startswith(f"{PACKAGE}/"):
            del deps[index]
    for index, path in enumerate(code):
        deps.insert(index, path)


def difference() -> str:
    """What `make deps` would change in dvc.yaml, as a unified diff; empty if nothing."""
    before = PIPELINE.read_text(encoding="utf-8")
    return _between(before, written(before))


def _between(before: str, after: str) -> str:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), str(PIPELINE), "imports", lineterm="")
    return "\n".join(lines)


def main(check: bool) -> None:
    """Write dvc.yaml anew, or only compare; PipelineError if they differ then."""
    before = PIPELINE.read_text(encoding="utf-8")
    after = written(before)
    if check and (changed := _between(before, after)):
        raise PipelineError(
            f"{PIPELINE} has other code dependencies than the imports: run `make deps`\n{changed}",
            code="other-dependencies",
            file=str(PIPELINE),
        )
    if after != before:
        with exclusive():  # a run reads the file from time to time
            files.write_text(PIPELINE, after)
        say(f"{PIPELINE} has new code dependencies")
