"""Unpacks zip and tar archives within a budget, counted while it writes: a small file may stand for a full disk."""

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, cast

from stages.core.errors import PipelineError
from stages.data.transfer import room

MB = 10**6
# An archive may unpack to so many times its size, or to so much if that is more.
MAX_RATIO = 200
RATIO_FROM_BYTES = 100 * MB
MAX_MEMBERS = 1_000_000
MAX_MEMBER_BYTES = 1000 * MB
CHUNK = 1 << 20
# What a damaged or encrypted archive raises.
UNREADABLE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    NotImplementedError,
)


class Budget:
    """What an archive may still unpack to."""

    def __init__(self, archive: Path, target: Path) -> None:
        """Of its size on this disk, and of the space where it is unpacked."""
        self._name = archive.name
        ratio = max(RATIO_FROM_BYTES, MAX_RATIO * archive.stat().st_size)
        space = room(target)
        self._left, self._limit = min(
            (ratio, f"{ratio // MB:,} MB, more than an archive of its size should hold"),
            (space, f"{space // MB:,} MB, more than its disk has room for"),
        )
        self._members = 0

    def member(self, name: str, size: int) -> None:
        """Count a member of this declared size, before anything of it is written."""
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise self._over(name, f"{MAX_MEMBERS:,} members")
        if size > MAX_MEMBER_BYTES:
            raise self._over(name, f"{MAX_MEMBER_BYTES // MB:,} MB in one member")
        if size > self._left:
            raise self._over(name, self._limit)

    def spend(self, name: str, size: int) -> None:
        """Count bytes that the archive gave."""
        self._left -= size
        if self._left < 0:
            raise self._over(name, self._limit)

    def copy(self, name: str, content: IO[bytes], path: Path) -> None:
        """Write a member to `path`, as far as it goes."""
        written = 0
        with path.open("wb") as file:
            while piece := content.read(CHUNK):
                written += len(piece)
                self.spend(name, len(piece))
                if written > MAX_MEMBER_BYTES:
                    raise self._over(name, f"{MAX_MEMBER_BYTES // MB:,} MB in one member")
                file.write(piece)

    def _over(self, name: str, limit: str) -> PipelineError:
        return PipelineError(
            f"{self._name} would unpack to more than {limit}, at its member {name!r}: check where it is from, or "
            "unpack it yourself and name the folder",
            code="archive-too-large",
            file=self._name,
            member=name,
        )


class _Counted:
    """A decompressed stream whose every byte counts, also headers and what stands behind the last member."""

    def __init__(self, stream: IO[bytes], budget: Budget) -> None:
        self._stream, self._budget = stream, budget
        self.tell, self.close = stream.tell, stream.close

    def read(self, size: int = -1) -> bytes:
        """As the stream does, but never more than a piece that memory holds."""
        if not 0 <= size <= MAX_MEMBER_BYTES // 10:
            self._budget.member("(a header)", MAX_MEMBER_BYTES + 1)
        return self._stream.read(size)

    def seek(self, place: int) -> int:
        """Past a member, which is decompressed for that; up to a block pads one."""
        self._budget.spend("(what is passed over)", max(0, place - self.tell() - tarfile.BLOCKSIZE))
        return self._stream.seek(place)


def unpack(archive: Path, target: Path) -> Path:
    """Unpack regular files into the new folder `target`.

    PipelineError for an archive that is too large, damaged or encrypted, or that reaches outside.
    """
    target.mkdir()
    budget = Budget(archive, target)
    try:
        _zip(archive, target, budget) if zipfile.is_zipfile(archive) else _tar(archive, target, budget)
    except UNREADABLE as error:
        raise _unreadable(archive, error) from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise _unreadable(archive, error) from None  # of bz2
    return target


def _unreadable(archive: Path, error: Exception) -> PipelineError:
    return PipelineError(
        f"{archive.name} is not a readable zip or tar archive ({' '.join(str(error).split())}): fetch or pack it again",
        code="archive-unreadable",
        file=archive.name,
    )


def _zip(archive: Path, target: Path, budget: Budget) -> None:
    with zipfile.ZipFile(archive) as packed:
        for item in packed.infolist():
            budget.member(item.filename, item.file_size)
            if not item.is_dir():
                with packed.open(item) as content:
                    budget.copy(item.filename, content, _inside(item.filename, target))


def _tar(archive: Path, target: Path, budget: Budget) -> None:
    counted = cast(IO[bytes], _Counted(stream := _stream(archive), budget))
    with stream, tarfile.TarFile(fileobj=counted) as tar:
        for member in tar:
            budget.member(member.name, member.size)
            if member.isreg() and (content := tar.extractfile(member)):
                budget.copy(member.name, content, _inside(member.name, target))
            vars(tar)["members"].clear()  # it would keep all that it has seen
        while piece := stream.read(CHUNK):  # the checksum of a compressed archive stands at its end
            budget.spend("(its end)", len(piece))


def _stream(archive: Path) -> IO[bytes]:
    """What the file holds once it is decompressed."""
    with archive.open("rb") as file:
        begins = file.read(6)
    if begins.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.open(archive))
    if begins.startswith(b"BZh"):
        return cast(IO[bytes], bz2.open(archive))
    return cast(IO[bytes], lzma.open(archive)) if begins.startswith(b"\xfd7zXZ") else archive.open("rb")


def _inside(name: str, target: Path) -> Path:
    """The path of a member below `target`, in a folder that exists."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise PipelineError(
            f"the archive holds {name!r}, which would be written outside its folder: pack it again",
            code="archive-outside",
            file=name,
        )
    (target / path).parent.mkdir(parents=True, exist_ok=True)
    return target / path
