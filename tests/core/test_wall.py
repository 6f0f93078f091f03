import ctypes
import multiprocessing.synchronize
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stages.core import isolate, wall
from tests.fixtures.errors import named, refused

pytestmark = pytest.mark.skipif(bool(wall.missing()), reason=f"this kernel keeps nobody from {wall.missing()}")
CONNECT = "import socket; socket.socket().connect"
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")


@pytest.fixture
def places() -> Iterator[tuple[Path, Path]]:
    """A folder to write to and one that is not, beside a server of this machine, all open to all users."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        inside, outside = Path(folder) / "inside", Path(folder) / "outside"
        for place in (inside, outside):
            place.mkdir()
            place.chmod(0o777)
            (place / "old").write_text("old")
            (place / "old").chmod(0o666)
        with socket.socket(socket.AF_UNIX) as local:
            local.bind(f"{folder}/server")
            Path(f"{folder}/server").chmod(0o666)
            local.listen()
            yield inside, outside


def run(*command: str) -> None:
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def through(link: Path, target: Path) -> None:
    link.symlink_to(target)
    link.write_text("new")


def outcomes(inside: Path, outside: Path, port: int) -> dict[str, bool]:
    """What this process can do."""
    deeds: dict[str, Callable[[], object]] = {
        "write inside": lambda: (inside / "new").write_text("new"),
        "make a folder inside": lambda: (inside / "folder").mkdir(),
        "move inside": lambda: (inside / "new").rename(inside / "folder/new"),
        "delete inside": lambda: (inside / "folder/new").unlink(),
        "write a temporary file": tempfile.mkstemp,
        "read outside": lambda: (outside / "old").read_text(),
        "write to no device": lambda: Path("/dev/null").write_text("new"),
        "share memory": lambda: multiprocessing.get_context("spawn").Lock().acquire(),
        "talk to itself": socket.socketpair,
        "write": lambda: (outside / "new").write_text("new"),
        "overwrite": lambda: (outside / "old").write_text("new"),
        "append": lambda: os.open(outside / "old", os.O_WRONLY | os.O_APPEND),
        "truncate": lambda: os.truncate(outside / "old", 0),
        "link out": lambda: os.link(inside / "old", outside / "linked"),
        "move out": lambda: (inside / "old").rename(outside / "moved"),
        "link symbolically": lambda: (outside / "symbolic").symlink_to("old"),
        "make a folder": lambda: (outside / "folder").mkdir(),
        "make a pipe": lambda: os.mkfifo(outside / "pipe"),
        "write through a link": lambda: through(inside / "link", outside / "old"),
        "delete": lambda: (outside / "old").unlink(),
        "let another write": lambda: run("touch", str(outside / "new")),
        "connect": lambda: socket.socket().connect(("127.0.0.1", port)),
        "send": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "ask a server of this machine": lambda: socket.socket(socket.AF_UNIX).connect(str(inside.parent / "server")),
        "tell a server of this machine": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
        "make a local socket, as CUDA does": lambda: socket.socket(socket.AF_UNIX),
        "name a thread, as CUDA does": lambda: Path("/proc/self/task").joinpath(f"{os.getpid()}/comm").write_text("x"),
        "let another connect": lambda: run(sys.executable, "-c", f"{CONNECT}(('127.0.0.1', {port}))"),
    }
    return {name: _can(deed) for name, deed in deeds.items()}


def _can(deed: Callable[[], object]) -> bool:
    try:
        deed()
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


ALLOWED = {
    "write inside", "make a folder inside", "move inside", "delete inside", "write a temporary file", "read outside",
    "write to no device", "share memory", "talk to itself", "make a local socket, as CUDA does",
    "name a thread, as CUDA does",
}  # fmt: skip


def assert_held(can: dict[str, bool], outside: Path) -> None:
    assert {name for name, could in can.items() if could} == ALLOWED
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("old", "old")]


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_a_process_behind_the_wall_writes_to_its_folders_alone_and_reaches_nobody(
    places: tuple[Path, Path], port: int
) -> None:
    inside, outside = places
    assert_held(isolate.walled([inside], outcomes, inside, outside, port), outside)


def as_nobody(inside: Path, outside: Path, port: int) -> dict[str, bool]:
    os.setgid(65534)
    os.setuid(65534)
    wall.stand([inside])
    tempfile.tempdir = str(inside)
    return outcomes(inside, outside, port)


@ROOT
def test_it_needs_no_rights(places: tuple[Path, Path], port: int) -> None:
    inside, outside = places
    assert_held(isolate.call(as_nobody, inside, outside, port), outside)


def test_without_it_all_of_that_is_possible(places: tuple[Path, Path], port: int) -> None:
    """So that the others can fail."""
    assert all(isolate.call(outcomes, *places, port).values())


def signals() -> bool:
    return _can(lambda: os.kill(os.getppid(), 0))


def test_no_signal_leaves_it() -> None:
    if wall._version() < wall.SCOPES[0]:
        pytest.skip("this Landlock knows no signals")
    assert isolate.call(signals)
    assert not isolate.walled([Path()], signals)


@pytest.mark.parametrize(
    ("version", "filters", "lacks"),
    [
        (7, True, ()),
        (3, True, ()),
        (2, True, ("cutting files short",)),
        (0, True, ("writing files",)),
        (-1, False, ("writing files", "the network")),
    ],
)
def test_what_the_system_lacks_is_told(
    monkeypatch: pytest.MonkeyPatch, version: int, filters: bool, lacks: tuple[str, ...]
) -> None:
    monkeypatch.setattr(wall, "_version", lambda: version)
    monkeypatch.setattr(wall, "_filters", lambda: filters)
    assert wall.missing() == lacks


def test_a_wall_that_the_kernel_refuses_is_a_sentence() -> None:
    ctypes.set_errno(7)
    assert named(refused(wall._done, -1), "reason") == ("wall", "Argument list too long")
