import hashlib
import io
import random
import socket
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.data import archives, sources
from tests.fixtures.errors import named as of
from tests.fixtures.errors import refused
from tests.fixtures.models import Named

Photos = Callable[..., Path]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that fails is not tried again."""
    monkeypatch.setattr(archives, "RETRY_PAUSES_S", ())


def image_bytes(photo: Photos, tmp_path: Path, seed: int = 0) -> bytes:
    return photo(tmp_path / "made.png", seed).read_bytes()


def packed(members: dict[str, bytes], kind: str) -> bytes:
    content = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(fileobj=content, mode="w:gz" if kind == "tar.gz" else "w") as tar:
            for name, data in members.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return content.getvalue()


def pinned(server: Any, name: str, body: bytes) -> str:
    return f"{server.add(name, body)}#sha256={hashlib.sha256(body).hexdigest()}"


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar"])
@pytest.mark.parametrize("top", ["", "dataset/", "dataset/v1/"])
def test_labels_csv_is_found_whatever_folders_an_archive_is_packed_in(
    server: Any, photo: Photos, tmp_path: Path, named: Named, kind: str, top: str
) -> None:
    body = packed({f"{top}labels.csv": b"file,label\na.png,1\n", f"{top}a.png": image_bytes(photo, tmp_path)}, kind)
    assert named(pinned(server, f"photos.{kind}", body)) == [("a.png", 1)]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize("top", ["", "dataset/", "dataset/v1/"])
def test_class_folders_are_found_whatever_folders_an_archive_is_packed_in(
    server: Any, photo: Photos, tmp_path: Path, named: Named, kind: str, top: str
) -> None:
    body = packed({f"{top}{label}/a.png": image_bytes(photo, tmp_path) for label in (0, 1)}, kind)
    assert named(pinned(server, f"photos.{kind}", body)) == [("0/a.png", 0), ("1/a.png", 1)]


def test_an_archive_of_a_single_class_keeps_its_class(server: Any, photo: Photos, tmp_path: Path, named: Named) -> None:
    body = packed({"tench/a.png": image_bytes(photo, tmp_path)}, "zip")
    assert named(pinned(server, "photos.zip", body)) == [("tench/a.png", 0)]


def test_what_a_system_packs_beside_the_folder_is_none_of_it(
    server: Any, photo: Photos, tmp_path: Path, named: Named
) -> None:
    image = image_bytes(photo, tmp_path)
    members = {
        "dataset/1/a.png": image,
        "__MACOSX/dataset/1/._a.png": b"",
        "__MACOSX/labels.csv": b"",
        ".DS_Store": b"",
    }
    assert named(pinned(server, "photos.zip", packed(members, "zip"))) == [("1/a.png", 1)]


def test_an_unlabelled_archive_gives_its_images(
    server: Any, photo: Photos, tmp_path: Path, checkout: Path, work: Path
) -> None:
    image = image_bytes(photo, tmp_path)
    source = pinned(server, "photos.zip", packed({"top/a.png": image, "top/sub/b.png": image}, "zip"))
    assert [photo.name for photo in sources.unlabelled(source, checkout, work).images] == ["a.png", "sub/b.png"]


def test_a_download_without_a_known_length_is_read_to_its_end(server: Any, work: Path) -> None:
    server.pages["/a.bin"] = (200, {"Connection": "close"}, b"x" * 200_000)
    path = archives.download(f"{server.url}/a.bin", hashlib.sha256(b"x" * 200_000).hexdigest(), work)
    assert path.read_bytes() == b"x" * 200_000


def test_a_redirect_is_followed(server: Any, work: Path) -> None:
    server.pages["/old"] = (302, {"Location": server.add("new", b"content")}, b"")
    path = archives.download(f"{server.url}/old", hashlib.sha256(b"content").hexdigest(), work)
    assert path.read_bytes() == b"content"


def test_a_wrong_hash_shows_both(server: Any, named: Named) -> None:
    url, body = server.add("photos.zip", b"another file"), b"another file"
    error = refused(named, f"{url}#sha256={'0' * 64}")
    expected = ("download-hash", url, "0" * 64, hashlib.sha256(body).hexdigest())
    assert of(error, "url", "expected", "actual") == expected


def test_a_missing_page_is_named_with_its_status(server: Any, named: Named) -> None:
    error = refused(named, f"{server.url}/gone.zip#sha256={'0' * 64}")
    assert of(error, "url", "status") == ("download-failed", f"{server.url}/gone.zip", 404)


def test_a_refused_connection_is_named(closed_port: int, named: Named) -> None:
    url = f"http://127.0.0.1:{closed_port}/photos.zip"
    error = refused(named, f"{url}#sha256={'0' * 64}")
    assert of(error, "url", "status") == ("download-failed", url, None)
    assert "[Errno 111] Connection refused" in str(error)


def test_an_answer_that_broke_off_is_fetched_again(server: Any, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"x" * 1000
    url = server.add("a.bin", b"half")
    server.pages["/a.bin"] = (200, {"Content-Length": "1000", "Connection": "close"}, b"half")
    monkeypatch.setattr(archives, "RETRY_PAUSES_S", (7,))
    monkeypatch.setattr(archives.time, "sleep", lambda pause_s: server.add("a.bin", body) if pause_s == 7 else None)
    path = archives.download(url, hashlib.sha256(body).hexdigest(), work)
    assert path.read_bytes() == body
    assert [item.name for item in work.iterdir()] == ["a.bin"]


def test_a_file_that_is_not_the_expected_one_is_not_kept(server: Any, work: Path) -> None:
    refused(archives.download, server.add("a.bin", b"another"), "0" * 64, work)
    assert list(work.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/two words.zip",
        "http://127.0.0.1:9/größe.zip",
        "http://127.0.0.1:port/a.zip",
        "http://[::1/a.zip",
        "http:///a.zip",
    ],
)
def test_an_impossible_address_is_named(work: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert of(refused(archives.download, url, "0" * 64, work), "url") == ("download-failed", url)


@pytest.mark.parametrize(
    "answer",
    [
        b"220 this is no web server\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\nhalf",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf",
        b"",
    ],
    ids=["no HTTP", "half a chunk", "half a body", "silence"],
)
def test_an_answer_that_breaks_off_is_named(work: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def reply() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/a.zip"
        try:
            assert of(refused(archives.download, url, "0" * 64, work), "url") == ("download-failed", url)
        finally:
            thread.join()


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize("name", ["../escaped.png", "top/../../escaped.png", "/tmp/escaped-by-test.png"])
def test_a_member_outside_its_folder_is_refused_and_not_written(
    server: Any, named: Named, work: Path, tmp_path: Path, kind: str, name: str
) -> None:
    source = pinned(server, "photos.bin", packed({"0/a.png": b"", name: b"escaped"}, kind))
    assert of(refused(named, source), "file") == ("archive-outside", name)
    assert not list(tmp_path.rglob("*escaped*"))
    assert not Path("/tmp/escaped-by-test.png").exists()


def test_links_in_an_archive_are_not_followed(server: Any, named: Named, tmp_path: Path, photo: Photos) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        link = tarfile.TarInfo("0/passwd.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        photo(tmp_path / "a.png")
        tar.add(tmp_path / "a.png", "0/a.png")
        tar.add(tmp_path / "a.png", "1/a.png")
    assert named(pinned(server, "photos.tar.gz", content.getvalue())) == [("0/a.png", 0), ("1/a.png", 1)]


def damaged(body: bytes) -> bytes:
    """The same bytes, but for fifty inside the first member."""
    found = bytearray(body)
    found[5000:5050] = (byte ^ 0xFF for byte in body[5000:5050])
    return bytes(found)


def encrypted(body: bytes) -> bytes:
    """A zip whose members are marked as encrypted."""
    found = bytearray(body)
    found[6] |= 1
    found[body.index(b"PK\x01\x02") + 8] |= 1
    return bytes(found)


LONG = {f"{label}/a.png": bytes(random.Random(label).choices(range(9), k=100_000)) for label in (0, 1)}


@pytest.mark.parametrize(
    "body",
    [
        b"<html>no archive</html>",
        b"",
        damaged(packed(LONG, "zip")),
        damaged(packed(LONG, "tar.gz")),
        packed(LONG, "tar.gz")[:-2000],
        encrypted(packed(LONG, "zip")),
    ],
    ids=["html", "empty file", "damaged zip", "damaged tar.gz", "cut tar.gz", "encrypted zip"],
)
def test_an_archive_that_cannot_be_read_is_named(server: Any, named: Named, body: bytes) -> None:
    error = refused(named, pinned(server, "photos.bin", body))
    assert of(error, "file") == ("archive-unreadable", "photos.bin")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_empty_archive_holds_no_images(server: Any, named: Named, kind: str) -> None:
    assert refused(named, pinned(server, "photos.bin", packed({}, kind))).code == "source-empty"


def test_an_archive_may_have_any_name(server: Any, named: Named, photo: Photos, tmp_path: Path) -> None:
    image = image_bytes(photo, tmp_path)
    body = packed({"0/a.png": image, "1/a.png": image}, "zip")
    assert len(named(pinned(server, "unpacked", body))) == 2
