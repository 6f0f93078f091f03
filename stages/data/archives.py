"""Archives by URL: downloaded, checked against their hash and unpacked."""

import gzip
import lzma
import re
import shutil
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any

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
TIMEOUT_S = 60
# Pauses before a connection that failed is tried once more.
RETRY_PAUSES_S: tuple[float, ...] = (1, 5)


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
    """Fetch a file into `work`, with a bar on a terminal; PipelineError if it is not the file expected."""
    import pooch
    import requests

    name = re.sub(r"[^\w.-]", "_", url.split("?")[0].rpartition("/")[2]).strip(".") or "download"
    pooch.get_logger().setLevel("WARNING")
    try:
        return Path(pooch.retrieve(url, f"sha256:{sha256}", fname=name, path=work, downloader=_retrying))
    except (requests.RequestException, ValueError) as error:
        actual = re.search(r"but got (\w{64})", str(error))
        raise (_other_hash(url, sha256, actual[1]) if actual else _unreachable(url, error)) from None


def _retrying(url: str, output_file: str, pooch_: Any) -> None:
    """Pooch's download over HTTP, begun anew where the connection fails. A page that is missing stays missing."""
    import pooch
    import requests

    # As the server has the file: requests would decompress it, and its hash would be another.
    headers = {"Accept-Encoding": "identity"}
    get = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=TIMEOUT_S, headers=headers)
    for pause_s in RETRY_PAUSES_S:
        try:
            get(url, output_file, pooch_)
            return
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
            time.sleep(pause_s)
    get(url, output_file, pooch_)


def _other_hash(url: str, expected: str, actual: str) -> PipelineError:
    return PipelineError(
        f"{url} has the sha256 {actual}, but params.yaml asks for {expected}: correct one of them",
        code="download-hash",
        url=url,
        expected=expected,
        actual=actual,
    )


def _unreachable(url: str, error: Exception) -> PipelineError:
    """With what the server said, or else the innermost reason: requests wraps it three times."""
    response = getattr(error, "response", None)
    cause: BaseException = error
    while cause.__context__:
        cause = cause.__context__
    return PipelineError(
        f"could not download {url} ({cause if response is None else response.reason}): check the address and the "
        "connection",
        code="download-failed",
        url=url,
        status=None if response is None else response.status_code,
    )


def _unpack(archive: Path, target: Path) -> Path:
    """Unpack regular files only; PipelineError for an archive that is damaged, encrypted or reaches outside."""
    target.mkdir()
    try:
        _unpack_zip(archive, target) if zipfile.is_zipfile(archive) else _unpack_tar(archive, target)
    except UNREADABLE as error:
        raise PipelineError(
            f"{archive.name} is not a readable zip or tar archive ({' '.join(str(error).split())}): fetch or "
            "pack it again",
            code="archive-unreadable",
            file=archive.name,
        ) from None
    return target


def _unpack_zip(archive: Path, target: Path) -> None:
    with zipfile.ZipFile(archive) as packed:
        for item in (item for item in packed.infolist() if not item.is_dir()):
            with packed.open(item) as content:
                _write_member(item.filename, content, target)


def _unpack_tar(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in (member for member in tar if member.isreg()):
            _write_member(member.name, tar.extractfile(member), target)
        while tar.fileobj and tar.fileobj.read(1 << 20):
            pass  # the checksum of a compressed archive stands at its end, after the last member


def _write_member(name: str, content: IO[bytes] | None, target: Path) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise PipelineError(
            f"the archive holds {name!r}, which would be written outside its folder: pack it again",
            code="archive-outside",
            file=name,
        )
    (target / path).parent.mkdir(parents=True, exist_ok=True)
    if content is not None:
        with (target / path).open("wb") as file:
            shutil.copyfileobj(content, file)
