"""The chosen variant as a folder that TensorFlow Serving and Triton load, with the words that go with it."""

import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from stages.contracts import codec, conversion, labels
from stages.contracts.conversion import MANIFEST
from stages.contracts.row import SUMMARY, Summary
from stages.contracts.selection import SELECTION, Selection
from stages.core import files
from stages.core.errors import PipelineError
from stages.runtimes.client import Client
from stages.runtimes.contract import Interface
from stages.serving import readme, tf_serving, triton
from stages.serving.served import Served, copy_files
from stages.serving.winner import Winner

# Inside an export: what was exported, and which files belong to it.
RECORD = "export.json"


@dataclass(frozen=True)
class ExportRecord:
    """What an export is of, and the bytes of each of its files: one that was changed is nobody's to overwrite."""

    SCHEMA: ClassVar[int] = 1

    model: str
    variant: str
    sentence: str
    files: dict[str, int]


def exportable() -> Winner:
    """Read the records; PipelineError if no variant was chosen beyond doubt, or no server takes the one that was."""
    chosen = codec.read(Selection, SELECTION)
    if chosen.outcome != "selected":
        raise PipelineError(
            f"there is no choice to export ({chosen.outcome}): `make check` has the reasons; change `budget` in "
            "params.yaml or bring more images, and run `make repro`",
            code="no-choice",
            outcome=chosen.outcome,
        )
    winner = Winner.of(chosen, codec.read(Summary, SUMMARY))
    if not tf_serving.takes(winner) and not triton.takes(winner):
        raise PipelineError(
            f"{winner.name} was built by {winner.tensorrt}, which no server takes: list variants of "
            "tensorrt or tensorrt_11 in `variants`, and run `make repro`",
            code="no-server",
            variant=winner.name,
            tensorrt=winner.tensorrt,
        )
    return winner


def write(target: Path, champion: str | None = None) -> list[str]:
    """Export the chosen variant into the folder `target`; returns what to tell the user.

    `champion` is the variant that the registry has, which may be one that measurements cannot tell from the choice.
    """
    winner, target = exportable(), target.resolve()
    _refuse_foreign(target)
    try:
        with files.new_directory(target) as folder:
            _fill(folder, winner)
    except OSError as error:
        raise PipelineError(
            f"the export could not be written to {target} ({error.strerror or error}): make room there, or name a "
            "folder that can be written with TO=FOLDER",
            code="export-not-written",
            file=str(target),
        ) from None
    return readme.messages(winner, target, champion)


def _refuse_foreign(target: Path) -> None:
    """PipelineError unless there is nothing, an empty folder, or an export that nobody has changed."""
    if not target.exists() or _is_export(target) or (target.is_dir() and not any(target.iterdir())):
        return
    raise PipelineError(
        f"{target} is not an export, or was changed since it was written: move it away, or name another folder with "
        "TO=FOLDER",
        code="no-export",
        file=str(target),
    )


def _is_export(target: Path) -> bool:
    with suppress(PipelineError, OSError):
        return codec.read(ExportRecord, target / RECORD).files == _contents(target)
    return False


def _contents(folder: Path) -> dict[str, int]:
    return {name: size for name, size in files.sizes(folder).items() if name != RECORD}


def _fill(folder: Path, winner: Winner) -> None:
    """Everything in an export; its record comes last."""
    staged = folder / "model"
    _copy(winner, staged)
    served = Served(winner, labels.read().names, describe(winner.row.variant.edition, staged))
    files.write_text(folder / "labels.txt", served.class_lines)
    if tf_serving.takes(winner):
        tf_serving.fill(folder / tf_serving.FOLDER, served, staged)
    if triton.takes(winner):
        triton.fill(folder / triton.FOLDER, served, staged)
    shutil.rmtree(staged)
    files.write_json(folder / "preprocessing.json", asdict(winner.model.preprocessing) | served.tensors)
    files.write_text(folder / "README.txt", readme.text(served))
    record = ExportRecord(served.name, winner.name, winner.chosen.sentence, _contents(folder))
    codec.write(record, folder / RECORD)


def _copy(winner: Winner, target: Path) -> None:
    """Copy the variant's files; PipelineError if they are not those that were measured."""
    source = conversion.folder(winner.name)
    copy_files(source, target, files.sizes(source).keys() - {MANIFEST})
    if files.tree_digest(target) != winner.conversion.sha256:
        raise PipelineError(
            f"{source} is not what was measured: run `make repro`, which converts it anew",
            code="not-measured",
            file=str(source),
        )


def describe(edition: str, folder: Path) -> Interface:
    """The model's tensors and engines, as its runtime's own process tells."""
    with Client(edition) as client:
        return client.ask("describe", str(folder), Interface)
