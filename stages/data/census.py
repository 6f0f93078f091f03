"""What lies below a folder of images: the images, and what is left out and why, so that the counts add up."""

import heapq
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..contracts.images import AGAIN, HIDDEN
from ..core.errors import PipelineError, describe
from .decode import SUFFIXES, is_image

IRREGULAR = "no regular file"
# Folders that these make beside the user's, in lower case; the others of theirs begin with a dot.
OF_SYSTEMS = {
    *("@eadir", "#recycle", "#snapshot", "@tmp", "@sharesnap"),  # Synology
    *("@recycle", "@recently-snapshot", "@transcode"),  # QNAP
    "~snapshot",  # NetApp
    *("$recycle.bin", "system volume information", "found.000"),  # Windows
    "lost+found",  # Linux
    *("__macosx", "network trash folder", "temporary items", "thevolumesettingsfolder"),  # macOS, and its servers
    "_gsdata_",  # GoodSync
}


@dataclass
class Census:
    """Image files in a stable order; of the others how many by kind (a suffix, or a word), and the first of each.

    `again` has the names of folders that count under another name.
    """

    images: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    again: list[str] = field(default_factory=list)

    def leave_out(self, kind: str, name: str, count: int = 1) -> None:
        """So many files of a kind, such as this."""
        if count:
            kind, name = (text.encode("utf-8", "backslashreplace").decode() for text in (kind, name))
            self.left_out[kind] += count
            self.first.setdefault(kind, name)

    def leave_out_again(self, name: str) -> None:
        """A folder of this name that counts under another one."""
        self.again.append(name)
        self.leave_out(AGAIN, name)


def census(folder: Path, but: Path | None = None) -> Census:
    """Of all files below `folder` but this one, behind links too, each folder once.

    PipelineError for a folder that cannot be read.
    """
    found = Census()
    for path in walk(folder, found):
        if path == but:
            continue
        if (kind := _kind(path)) is None:
            found.images.append(_told(path))
        else:
            found.leave_out(kind, path.relative_to(folder).as_posix())
    found.images.sort()
    return found


def _told(path: Path) -> Path:
    """The path; PipelineError where no record and no table could hold its name."""
    name = os.fsencode(path).decode("utf-8", "backslashreplace")
    if name != str(path):
        raise PipelineError(
            f"the name of the image {name} is not in UTF-8: give it another one", code="name-not-utf8", file=name
        )
    return path


def of_system(name: str) -> bool:
    """Whether a file or folder of this name is none of the user's."""
    return name.startswith(".") or name.lower() in OF_SYSTEMS


def walk(folder: Path, found: Census) -> Iterator[Path]:
    """All files below `folder` but those of systems, which `found` counts, behind links too, each folder once.

    It counts under its own name, or else under that of the link nearest the top: a link takes over no class.
    """
    waiting, seen = [(0, folder)], set[tuple[int, int]]()
    while waiting:
        _, path = heapq.heappop(waiting)
        yield from _walk(path, folder, found, seen, waiting)


def _walk(
    folder: Path, root: Path, found: Census, seen: set[tuple[int, int]], waiting: list[tuple[int, Path]]
) -> Iterator[Path]:
    """The files of a folder that is not yet `seen`; links to folders wait, each with its depth."""
    if (identity := _identity(folder)) in seen:
        found.leave_out_again(folder.relative_to(root).as_posix())
        return
    seen.add(identity)
    for entry in sorted(_entries(folder), key=lambda entry: entry.name):
        path = folder / entry.name
        if of_system(entry.name):
            _leave_out_hidden(path, root, found)
        elif not _is_folder(entry):
            yield path
        elif entry.is_symlink():
            heapq.heappush(waiting, (len(path.parts), path))
        else:
            yield from _walk(path, root, found, seen, waiting)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise PipelineError(
            f"the folder {folder} cannot be read ({describe(error)}): allow it, or move it elsewhere",
            code="folder-unreadable",
            file=str(folder),
        ) from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is or leads to one; for a link Path asks, since DirEntry fails of one to itself or into a file."""
    return Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()


def _leave_out_hidden(path: Path, root: Path, found: Census) -> None:
    """A hidden file, or all that a hidden folder or one of a system holds."""
    inside = [item for item in path.rglob("*") if item.is_file()] if path.is_dir() else [path]
    if inside:
        found.leave_out(HIDDEN, min(inside).relative_to(root).as_posix(), len(inside))


def _identity(folder: Path) -> tuple[int, int]:
    """The same for a folder and every link to it."""
    state = folder.stat()
    return state.st_dev, state.st_ino


def _kind(path: Path) -> str | None:
    """Why a file is no image; None for one that is, or that by its name should be and will be told if it is damaged."""
    if not path.exists():
        return "dead link"
    if not path.is_file():
        return IRREGULAR
    suffix = path.suffix.lower()
    return None if suffix in SUFFIXES or is_image(path) else suffix or "without a suffix"
