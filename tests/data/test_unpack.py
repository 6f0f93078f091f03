import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from stages.data import unpack
from stages.data.unpack import MB
from tests.fixtures.errors import named, refused

Pack = Callable[[dict[str, bytes]], Path]


def zipped(place: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return place


def tarred(opened: IO[bytes], members: dict[str, bytes]) -> None:
    with opened, tarfile.open(fileobj=opened, mode="w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


@pytest.fixture(params=["zip", "tar", "gz", "bz2", "xz"])
def pack(request: pytest.FixtureRequest, tmp_path: Path) -> Pack:
    place = tmp_path / f"set.{request.param}"
    openers = {"tar": open, "gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}

    def make(members: dict[str, bytes]) -> Path:
        if request.param == "zip":
            return zipped(place, members)
        tarred(openers[request.param](place, "wb"), members)
        return place

    return make


def written(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_every_kind_of_archive_is_unpacked(pack: Pack, tmp_path: Path) -> None:
    folder = unpack.unpack(pack({"red/a.png": b"a", "red/b.png": b"", "c.png": b"ccc"}), tmp_path / "new")
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}
    assert found == {"red/a.png": b"a", "red/b.png": b"", "c.png": b"ccc"}


def test_a_small_file_that_stands_for_a_large_one_is_refused_before_it_is_written(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack({"a.png": b"a", "bomb.png": bytes(2 * MB)})
    monkeypatch.setattr(unpack, "RATIO_FROM_BYTES", MB)
    monkeypatch.setattr(unpack, "MAX_RATIO", 0)
    error = refused(unpack.unpack, archive, tmp_path / "new")
    assert named(error, "file", "member") == ("archive-too-large", archive.name, "bomb.png")
    assert written(tmp_path / "new") == 1


def test_many_members_add_up(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "RATIO_FROM_BYTES", MB)
    monkeypatch.setattr(unpack, "MAX_RATIO", 0)
    archive = pack({f"{number}.png": bytes(MB // 2) for number in range(3)})
    error = refused(unpack.unpack, archive, tmp_path / "new")
    assert named(error, "member") == ("archive-too-large", "2.png")
    assert written(tmp_path / "new") == MB


def test_the_number_of_members_is_bounded(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MAX_MEMBERS", 2)
    error = refused(unpack.unpack, pack({f"{number}.png": b"" for number in range(3)}), tmp_path / "new")
    assert named(error, "member") == ("archive-too-large", "2.png") and "2 members" in str(error)


def test_the_size_of_a_member_is_bounded(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack({"a.png": b"a", "b.png": bytes(200_000)})
    monkeypatch.setattr(unpack, "MAX_MEMBER_BYTES", 150_000)
    assert named(refused(unpack.unpack, archive, tmp_path / "new"), "member") == ("archive-too-large", "b.png")


def test_an_archive_never_takes_the_whole_disk(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "room", lambda target: 5)
    error = refused(unpack.unpack, pack({"a.png": b"12345", "b.png": b"6"}), tmp_path / "new")
    assert named(error, "member") == ("archive-too-large", "b.png") and "its disk has room for" in str(error)


def test_what_stands_behind_the_last_member_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "RATIO_FROM_BYTES", MB)
    with gzip.open(tmp_path / "a.tar.gz", "wb") as file:
        file.write(bytes(50 * MB))
    assert named(refused(unpack.unpack, tmp_path / "a.tar.gz", tmp_path / "new")) == ("archive-too-large",)


def test_a_header_that_memory_would_not_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MAX_MEMBER_BYTES", 10 * MB)
    entry = tarfile.TarInfo("././@PaxHeader")
    entry.type, entry.size = tarfile.XHDTYPE, 2 * MB
    with gzip.open(tmp_path / "a.tar.gz", "wb") as file:
        file.write(entry.tobuf() + bytes(2 * MB))
    assert refused(unpack.unpack, tmp_path / "a.tar.gz", tmp_path / "new").code == "archive-too-large"


def test_a_damaged_bz2_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tar.bz2").write_bytes(b"BZh9" + b"damaged" * 100)
    assert refused(unpack.unpack, tmp_path / "a.tar.bz2", tmp_path / "new").code == "archive-unreadable"
