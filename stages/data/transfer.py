"""A download over HTTP that ends: bounds on its size, its slowness, its redirects and the disk it fills."""

import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from stages.core.errors import PipelineError

if TYPE_CHECKING:
    import requests

GB = 10**9
MAX_BYTES = 50 * GB
# Left on the disk for everything else, or half of what is free where that is less.
RESERVE_BYTES = GB
MAX_REDIRECTS = 5
# Given up below so many bytes a second for so long, from the first moment: a redirect and a header count as nothing.
MIN_BYTES_S = 1000
PATIENCE_S = 30.0
CHUNK = 1 << 16
# More than any file has, and as many as Python reads at once.
LENGTH_DIGITS = 18


@dataclass
class Transfer:
    """What a thread fetches, while another one watches how far it is."""

    url: str
    target: Path
    received: int = 0
    expected: int | None = None
    error: Exception | None = None
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Fetch; a failure is kept for whoever waits."""
        try:
            self._fetch()
        except Exception as error:
            self.error = error

    def _fetch(self) -> None:
        import requests

        # As the server has the file: requests would decompress it, and its hash would be another.
        headers = {"Accept-Encoding": "identity"}
        with requests.Session() as session, self.target.open("wb") as file:
            session.max_redirects = MAX_REDIRECTS
            with session.get(self.url, headers=headers, stream=True, timeout=2 * PATIENCE_S) as response:
                response.raise_for_status()
                self.expected = _length(response)
                most = room(self.target)
                self._refuse_more_than(most, self.expected or 0)
                while not self.stopped.is_set() and (piece := _piece(response)):
                    self.received += len(piece)
                    self._refuse_more_than(most, self.received)
                    file.write(piece)

    def _refuse_more_than(self, most: int, size: int) -> None:
        if size > most:
            raise PipelineError(
                f"{self.url} has more than the {most / GB:.3g} GB that may be downloaded here: free some space, or "
                "fetch a smaller part of it yourself",
                code="download-too-large",
                url=self.url,
                bytes=size,
            )


def room(place: Path) -> int:
    """How many bytes may be written at a place: never all that its disk has left."""
    free = shutil.disk_usage(place.parent).free
    return min(MAX_BYTES, max(free - RESERVE_BYTES, free // 2))


def fetch(url: str, target: Path, clock: Callable[[], float] = time.monotonic) -> None:
    """Write what `url` answers into `target`, with a bar on a terminal.

    PipelineError for one that is too large or too slow; what requests raises passes.
    """
    from tqdm import tqdm

    transfer = Transfer(url, target)
    # A thread of its own, since a server that sends a byte at a time keeps every call busy for ever.
    thread = threading.Thread(target=transfer.run, daemon=True)
    thread.start()
    since, before = clock(), 0
    with tqdm(unit="B", unit_scale=True, disable=not sys.stderr.isatty()) as bar:
        while thread.is_alive():
            thread.join(0.2)
            bar.total = transfer.expected
            bar.update(transfer.received - bar.n)
            if clock() - since > PATIENCE_S:
                if thread.is_alive() and transfer.received - before < MIN_BYTES_S * PATIENCE_S:
                    transfer.stopped.set()
                    raise _slow(url)
                since, before = clock(), transfer.received
    if transfer.error:
        raise transfer.error


def _slow(url: str) -> PipelineError:
    return PipelineError(
        f"{url} sent less than {MIN_BYTES_S:,} bytes a second for {PATIENCE_S:.0f} seconds, and was given up: try "
        "again, or fetch the file yourself",
        code="download-slow",
        url=url,
    )


def _length(response: "requests.Response") -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() and len(text) <= LENGTH_DIGITS else None


def _piece(response: "requests.Response") -> bytes:
    """What has come, without waiting for more."""
    import requests
    import urllib3

    try:
        piece: bytes = response.raw.read1(CHUNK, decode_content=False)
        return piece
    except urllib3.exceptions.HTTPError as error:
        raise requests.exceptions.ChunkedEncodingError(error) from error
