import base64
import hashlib
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from stages.contracts.pins import Pin
from stages.core.errors import PipelineError
from stages.data import wheels
from tests.fixtures.errors import named, refused


@pytest.fixture(autouse=True)
def plain_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """pip as on a machine without any configuration."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "pip-cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def make_wheel(path: Path, members: dict[str, bytes], name: str = "tiny_weights", version: str = "1.0") -> Path:
    """A small but real wheel."""
    info = f"{name}-{version}.dist-info"
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    tags = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    content = members | {f"{info}/METADATA": about, f"{info}/WHEEL": tags}
    lines = [
        f"{member},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}"
        for member, data in content.items()
    ]
    content[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in content.items():
            archive.writestr(member, data)
    return path


@pytest.fixture
def index(server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A package index with one wheel; returns the wheel's digest."""

    def publish(project: str = "tiny-weights", file: str = "tiny_weights-1.0-py3-none-any.whl", **about: str) -> str:
        body = make_wheel(tmp_path / file, {"tiny/weights.h5": b"weights"}, **about).read_bytes()
        server.add(f"files/{file}", body)
        link = f'<!DOCTYPE html><a href="/files/{file}">{file}</a>'.encode()
        server.pages[f"/simple/{project}/"] = (200, {"Content-Type": "text/html"}, link)
        monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple/")
        return hashlib.sha256(body).hexdigest()

    return publish


def refusal(into: Path, *pinned: Pin) -> PipelineError:
    error = refused(wheels.fetch, into, *pinned)
    assert "\n" not in str(error)
    assert error.values["wheels"] == [str(pin) for pin in pinned]
    return error


def fetched(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*")) if folder.exists() else []


def test_a_wheel_is_written_as_in_requirements() -> None:
    assert Pin.parse("tiny==1.0#sha256=abc") == Pin("tiny", "1.0", "abc")
    assert str(Pin("tiny", "1.0", "abc")) == "tiny==1.0"


def test_a_wheel_comes_from_the_index(index: Any, tmp_path: Path) -> None:
    (path,) = wheels.fetch(tmp_path / "into", Pin("tiny-weights", "1.0", index()))
    assert path == tmp_path / "into/tiny_weights-1.0-py3-none-any.whl"
    assert "tiny/weights.h5" in wheels.members(path)


@pytest.mark.parametrize(
    ("name", "version"), [("Tiny-Weights", "1.0"), ("tiny.weights", "1.0"), ("tiny_weights", "1.0.0")]
)
def test_a_name_is_found_however_the_user_spells_it(index: Any, tmp_path: Path, name: str, version: str) -> None:
    (path,) = wheels.fetch(tmp_path / "into", Pin(name, version, index()))
    assert path.name == "tiny_weights-1.0-py3-none-any.whl"


def test_a_wheel_of_another_hash_is_not_kept(index: Any, tmp_path: Path) -> None:
    digest = index()
    error = refusal(tmp_path / "into", Pin("tiny-weights", "1.0", "0" * 64))
    assert error.code == "wheel-hash" and digest in str(error)
    assert fetched(tmp_path / "into") == []


def test_no_connection_is_told_apart(closed_port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{closed_port}/simple/")
    assert refusal(tmp_path / "into", Pin("tiny-weights", "1.0", "0" * 64)).code == "wheel-offline"


def test_a_version_that_the_index_lacks_is_named(index: Any, tmp_path: Path) -> None:
    digest = index()
    error = refusal(tmp_path / "into", Pin("tiny-weights", "2.0", digest))
    assert error.code == "wheel-missing" and "No matching distribution" in str(error)


def test_pip_told_to_use_no_index_gives_its_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    error = refusal(tmp_path / "into", Pin("tiny-weights", "1.0", "0" * 64))
    assert error.code == "wheel-missing" and "No matching distribution" in str(error)


def test_a_published_file_that_is_no_wheel_is_refused(index: Any, server: Any, tmp_path: Path) -> None:
    index()
    body = b"no zip at all"
    server.add("files/tiny_weights-1.0-py3-none-any.whl", body)
    error = refusal(tmp_path / "into", Pin("tiny-weights", "1.0", hashlib.sha256(body).hexdigest()))
    assert error.code == "wheel-missing" and "invalid" in str(error)


def test_members_are_extracted_flat_and_in_the_requested_order(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "tiny.whl", {"a/b/one.txt": b"1", "two.txt": b"2"})
    found = wheels.extract(wheel, ["two.txt", "a/b/one.txt"], tmp_path)
    assert found == [tmp_path / "two.txt", tmp_path / "one.txt"]
    assert [path.read_bytes() for path in found] == [b"2", b"1"]


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "tiny.whl", {"one.txt": b"1"})
    error = refused(wheels.extract, wheel, ["one.txt", "three.txt"], tmp_path)
    assert named(error, "file") == ("wheel-damaged", str(wheel))
    assert "three.txt" in str(error)


def damage(wheel: Path, how: str) -> None:
    content = bytearray(wheel.read_bytes())
    if how == "cut short":
        del content[len(content) // 2 :]
    elif how == "bytes changed":
        content[200:300] = bytes(100)
    else:
        content[:] = b"no zip"
    wheel.write_bytes(content)


@pytest.mark.parametrize("how", ["cut short", "bytes changed", "no zip"])
def test_a_damaged_wheel_says_to_fetch_it_again(tmp_path: Path, how: str) -> None:
    text = "".join(map(str, range(20_000))).encode()
    wheel = make_wheel(tmp_path / "tiny.whl", {"long.txt": text})
    damage(wheel, how)
    error = refused(wheels.extract, wheel, ["long.txt"], tmp_path)
    assert named(error, "file") == ("wheel-damaged", str(wheel))
    assert not (tmp_path / "long.txt").exists()


@pytest.mark.parametrize("how", ["cut short", "no zip", "missing"])
def test_listing_a_wheel_that_cannot_be_read_names_it(tmp_path: Path, how: str) -> None:
    wheel = make_wheel(tmp_path / "tiny.whl", {"one.txt": b"1"})
    wheel.unlink() if how == "missing" else damage(wheel, how)
    assert named(refused(wheels.members, wheel), "file") == ("wheel-damaged", str(wheel))
