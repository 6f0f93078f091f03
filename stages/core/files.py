"""Files written whole or not at all, their digests, and the paths that users write."""

import csv
import glob
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from .errors import PipelineError, describe
from .process import lives

Row = TypeVar("Row")

# What a cell begins with that a spreadsheet would run; and the sign that keeps it from doing so.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'")  # noqa: RUF001
NUMBER = re.compile(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?")


def write_text(path: Path, text: str) -> None:
    """Write in UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write whole or not at all."""
    with _beside(path) as beside:
        beside.write_bytes(content)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A file beside, which takes the name `path` when the block ends: a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield beside
        beside.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk does not say where
        raise
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON with its keys in the order given; NaN is refused."""
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        told = f"{path} cannot be written as JSON ({error}): make each of its figures a finite number or null"
        raise PipelineError(told, code="json-not-finite", file=str(path)) from None
    write_text(path, text + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]], for_people: bool = False) -> None:
    """Write a table with its header, row by row as they come, lines ended by a newline alone.

    `for_people`: a spreadsheet may open it, so that no name in it may be a formula; `name_in` is the inverse.
    """
    with _beside(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        if for_people:
            # Names alone may hold a carriage return, which csv takes for the end of a line where nothing quotes it.
            quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
            for row in rows:
                cells = [_inert(cell) for cell in row]
                (quoted if any("\r" in str(cell) for cell in cells) else writer).writerow(cells)
        else:
            writer.writerows(rows)


def _inert(cell: object) -> object:
    formula = isinstance(cell, str) and cell.startswith(FORMULA) and not NUMBER.fullmatch(cell)
    return f"'{cell}" if formula else cell


def name_in(cell: str) -> str:
    """The name that `write_csv` put into a cell of a table for people."""
    return cell.removeprefix("'") if cell.startswith(tuple(f"'{sign}" for sign in FORMULA)) else cell


def read_csv(path: Path, *columns: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and rows of a table of the user's that has these columns; what a row leaves out is empty."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, restval="")
            if not set(columns) <= set(rows.fieldnames or ()):
                told = f"{path} needs the columns {' and '.join(columns)} in its first line"
                raise PipelineError(told, code="table-columns", file=str(path), columns=columns)
            for row in rows:
                yield rows.line_num, row
    except (UnicodeDecodeError, csv.Error) as error:
        told = f"{path} is not a CSV file in UTF-8 ({error}): save it as one"
        raise PipelineError(told, code="table-not-csv", file=str(path)) from None


def parse_csv(path: Path, parse: Callable[[dict[str, str]], Row], what: str) -> Iterator[Row]:
    """Rows, one by one, of a table that another stage wrote; a missing or damaged one says what to run again."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                yield parse(row)
    except FileNotFoundError:
        raise _missing(path, "table-missing") from None
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        told = f"{path} is no table of {what} ({describe(error)})"
        raise PipelineError(f"{told}: delete it and run `make repro`", code="table-damaged", file=str(path)) from None


def _missing(path: Path, code: str) -> PipelineError:
    return PipelineError(f"{path} is missing: run `make repro`, which writes it", code=code, file=str(path))


def read_json(path: Path) -> Any:
    """Read a record that another stage wrote; a missing or damaged one names the stage to run again."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _missing(path, "json-missing") from None
    except ValueError as error:
        told = f"{path} is not valid JSON ({error}): delete it and run `make repro`"
        raise PipelineError(told, code="json-damaged", file=str(path)) from None


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Fill a temporary folder that takes the name `target` only when the block ends without an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for stale in _left_by_killed(target):
        shutil.rmtree(stale)
    mark = f".{target.name}.{os.getpid()}."
    with tempfile.TemporaryDirectory(prefix=mark, suffix=".tmp", dir=target.parent) as beside:
        folder = Path(beside) / "new"
        folder.mkdir()
        yield folder
        shutil.rmtree(target, ignore_errors=True)
        folder.replace(target)


def _left_by_killed(target: Path) -> Iterator[Path]:
    """What `new_directory` filled for this name in a process that is gone: a user's own folder may be called alike."""
    for beside in target.parent.glob(f".{glob.escape(target.name)}.*.*.tmp"):
        process = beside.name[len(target.name) + 2 :].split(".")[0]
        if process.isdecimal() and not lives(int(process)):
            yield beside


def text_of(path: Path) -> str | None:
    """What a small file says, as those in which Linux tells of itself; None where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def sha256(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def combine(digests: list[str]) -> str:
    """One digest of many, in the order given."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of every file below `folder`, by its path inside it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def tree_digest(folder: Path) -> str:
    """One digest of the names and contents of all files below `folder`."""
    return combine([f"{name} {sha256(folder / name)}" for name in sizes(folder)])


def digest(path: Path) -> str:
    """Digest of a file, or of all in a folder."""
    return tree_digest(path) if path.is_dir() else sha256(path)


def resolve(source: str, checkout: Path) -> Path:
    """A path that the user wrote in params.yaml: `~` is expanded, a relative one starts at the main checkout.

    Queued experiments run in a copy elsewhere, so the current folder would be the wrong start.
    """
    try:
        return checkout / Path(source).expanduser()
    except RuntimeError:
        raise PipelineError(
            f"{source} is in the home folder of an unknown user: write the whole path",
            code="path-unknown-user",
            source=source,
        ) from None
