"""Whether a user's file or folder has changed, told without reading it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from stages.contracts.environment import Sources
from stages.core import errors, files
from stages.data.census import Census, walk


def digests(sources: Mapping[str, str | None], checkout: Path) -> Sources:
    """Of each source of params.yaml, by the field's name; what is no local file is pinned by its own text."""
    return Sources(**{name: source and _digest(source, checkout) for name, source in sources.items()})


def watched(source: str, checkout: Path) -> Path:
    """The place of a file or folder of the user's; the command that asks fails at its end if it has changed since."""
    errors.remember(source, lambda: _digest(source, checkout), _digest(source, checkout))
    return files.resolve(source, checkout)


def _digest(source: str, checkout: Path) -> str:
    path = files.resolve(source, checkout)
    return stat_digest(path) if path.exists() else f"not a local file: {hashlib.sha256(source.encode()).hexdigest()}"


def stat_digest(path: Path) -> str:
    """Digest of names, sizes and modification times of a file, or of all files in a folder but hidden ones.

    As `make` does, it trusts the clock of the file system: reading 50,000 images at every start would take minutes.
    """
    inside = sorted(item for item in walk(path, Census()) if item.exists()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for item in inside:
        state = item.stat()
        told = f"{item.relative_to(path)} {state.st_size} {state.st_mtime_ns}\n"
        digest.update(told.encode("utf-8", "surrogateescape"))  # a name may be any bytes
    return digest.hexdigest()
