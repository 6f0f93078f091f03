import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stages.data import archives, transfer
from tests.fixtures.errors import named, refused


class Dripping(http.server.BaseHTTPRequestHandler):
    """A byte now and then, in the headers or in the body, for ever."""

    ended = threading.Event()

    def do_GET(self) -> None:
        self.wfile.write(
            b"HTTP/1.1 200 OK\r\n" + (b"X-" if self.path == "/headers" else b"Content-Length: 1000000\r\n\r\n")
        )
        while not self.ended.wait(0.05):
            self.wfile.write(b"x")

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def dripping(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    Dripping.ended.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dripping) as listener:
        threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.server_port}"
        Dripping.ended.set()
        listener.shutdown()


@pytest.mark.parametrize("where", ["headers", "body"])
def test_a_server_that_drips_is_given_up(
    dripping: str, work: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(transfer, "PATIENCE_S", 0.5)
    error = refused(archives.download, f"{dripping}/{where}", "0" * 64, work)
    assert named(error, "url") == ("download-slow", f"{dripping}/{where}")
    assert list(work.iterdir()) == []


def test_a_download_that_is_larger_than_the_disk_allows_is_not_begun(
    server: Any, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "room", lambda place: 100)
    server.pages["/long"] = (200, {"Content-Length": "101"}, b"")
    server.pages["/endless"] = (200, {"Connection": "close", "Content-Length": ""}, b"x" * 100_000)
    for name in ("long", "endless"):
        error = refused(archives.download, f"{server.url}/{name}", "0" * 64, work)
        assert named(error, "url") == ("download-too-large", f"{server.url}/{name}")
    assert list(work.iterdir()) == []


@pytest.mark.parametrize(
    ("told", "length"), [("101", 101), ("9" * 5000, None), ("9" * 19, None), ("-1", None), (None, None)]
)
def test_a_length_that_no_file_has_is_none(told: str | None, length: int | None) -> None:
    headers = {"Content-Length": told} if told else {}
    assert transfer._length(SimpleNamespace(headers=headers)) == length  # type: ignore[arg-type]


def test_redirects_in_a_circle_or_elsewhere_end(server: Any, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "RETRY_PAUSES_S", ())
    server.pages["/circle"] = (302, {"Location": f"{server.url}/circle"}, b"")
    server.pages["/file"] = (302, {"Location": "file:///etc/passwd"}, b"")
    for name in ("circle", "file"):
        assert refused(archives.download, f"{server.url}/{name}", "0" * 64, work).code == "download-failed"


def test_a_compressed_file_stays_as_the_server_has_it(server: Any, work: Path) -> None:
    body = b"\x1f\x8b" + bytes(1000)
    server.pages["/a.gz"] = (200, {"Content-Encoding": "gzip"}, body)
    assert archives.download(f"{server.url}/a.gz", hashlib.sha256(body).hexdigest(), work).read_bytes() == body


@pytest.mark.parametrize(("free", "room"), [(10**12, 50 * 10**9), (3 * 10**9, 2 * 10**9), (10**9, 5 * 10**8), (0, 0)])
def test_a_disk_is_never_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, room: int) -> None:
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda place: SimpleNamespace(free=free))
    assert transfer.room(tmp_path / "a") == room
