"""Archives by URL: downloaded, checked against their hash and unpacked."""

import gzip
import hashlib
import http.client
import lzma
import re
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from stages.core.errors import PipelineError

# What a damaged or encrypted archive raises.
UNREADABLE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
)


def fetch(source: str, work: Path, is_class: Callable[[str], bool]) -> Path:
    """Folder where the images of URL#sha256=DIGEST start; `is_class` tells a folder of one class from a wrapper."""
    url, _, digest = source.partition("#sha256=")
    (work / "download").mkdir()
    return _top(_unpack(download(url, digest, work / "download"), work / "unpacked"), is_class)


def _top(folder: Path, is_class: Callable[[str], bool]) -> Path:
    """Where an archive's images start: at its labels.csv, or below folders that wrap all and name no class."""
    tables = sorted(folder.rglob("labels.csv"))
    if tables:
        return tables[0].parent
    while len(inside := list(folder.iterdir())) == 1 and inside[0].is_dir() and not is_class(inside[0].name):
        folder = inside[0]
    return folder


def download(url: str, sha256: str, work: Path) -> Path:
    """Fetch a file into `work`, with a bar when a person watches; PipelineError if it is not the file expected."""
    name = re.sub(r"[^\w.-]", "_", url.split("?")[0].rpartition("/")[2]).strip(".") or "download"
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, (work / name).open("wb") as file:
            for piece in _pieces(answer, int(answer.headers.get("Content-Length") or 0), name):
                digest.update(piece)
                file.write(piece)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as error:
        raise PipelineError(
            f"could not download {url} ({getattr(error, 'reason', error)}): check the address and the connection"
        ) from None
    if digest.hexdigest() != sha256:
        raise PipelineError(
            f"{url} has the sha256 {digest.hexdigest()}, but params.yaml asks for {sha256}: correct one of them"
        )
    return work / name


def _pieces(answer: IO[bytes], total: int, name: str) -> Iterator[bytes]:
    # disable=None: a bar on a terminal, silence in a pipe.
    with tqdm(desc=name, total=total or None, unit="B", unit_scale=True, disable=None) as bar:
        while piece := answer.read(1 << 16):
            bar.update(len(piece))
            yield piece


def _unpack(archive: Path, target: Path) -> Path:
    """Unpack regular files only; PipelineError for an archive that is damaged, encrypted or reaches outside."""
    target.mkdir()
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                for item in (item for item in packed.infolist() if not item.is_dir()):
                    with packed.open(item) as content:
                        _write_member(item.filename, content, target)
        else:
            with tarfile.open(archive) as tar:
                for member in (member for member in tar if member.isreg()):
                    _write_member(member.name, tar.extractfile(member), target)
                while tar.fileobj and tar.fileobj.read(1 << 20):
                    pass  # the checksum of a compressed archive stands at its end, after the last member
    except UNREADABLE as error:
        raise PipelineError(
            f"{archive.name} is not a readable zip or tar archive ({error}): fetch or pack it again"
        ) from None
    return target


def _write_member(name: str, content: IO[bytes] | None, target: Path) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise PipelineError(f"the archive holds {name!r}, which would be written outside its folder: pack it again")
    (target / path).parent.mkdir(parents=True, exist_ok=True)
    if content is not None:
        with (target / path).open("wb") as file:
            shutil.copyfileobj(content, file)
