"""Archives by URL: downloaded, checked against their hash and unpacked."""

import re
import time
from collections.abc import Callable
from pathlib import Path

from stages.core.errors import PipelineError
from stages.data import transfer
from stages.data.census import Census, of_system, walk
from stages.data.unpack import unpack

# Pauses before a connection that failed is tried once more.
RETRY_PAUSES_S: tuple[float, ...] = (1, 5)


def fetch(source: str, work: Path, is_class: Callable[[str], bool]) -> Path:
    """Folder where the images of URL#sha256=DIGEST start; `is_class` tells a folder of one class from a wrapper."""
    url, _, digest = source.partition("#sha256=")
    (work / "download").mkdir()
    return _top(unpack(download(url, digest, work / "download"), work / "unpacked"), is_class)


def _top(folder: Path, is_class: Callable[[str], bool]) -> Path:
    """Where an archive's images start: at its labels.csv, or below folders that wrap all and name no class."""
    tables = sorted(path for path in walk(folder, Census()) if path.name == "labels.csv")
    if tables:
        return tables[0].parent
    while len(inside := _inside(folder)) == 1 and inside[0].is_dir() and not is_class(inside[0].name):
        folder = inside[0]
    return folder


def _inside(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not of_system(path.name)]


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


def _retrying(url: str, output_file: str, _: object) -> None:
    """For pooch: a download begun anew where the connection fails. A page that is missing stays missing."""
    import requests

    for pause_s in RETRY_PAUSES_S:
        try:
            return transfer.fetch(url, Path(output_file))
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
            time.sleep(pause_s)
    return transfer.fetch(url, Path(output_file))


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
