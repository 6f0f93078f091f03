"""Environments made of lock files: whole or not at all, once for all checkouts, and of that lock alone."""

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stages.contracts.environment import RuntimeEnvironment
from stages.core import gpu
from stages.runtimes import environments, host, installer, pythons, registry
from stages.runtimes.environments import STAMP, VARIABLE, Lock
from stages.runtimes.pythons import NoInterpreterError
from tests.fixtures.errors import assert_helps, refused
from tests.fixtures.locks import HERE, text
from tests.fixtures.locks import tiny_lock as tiny_lock
from tests.fixtures.records import CPU_MACHINE

ROOT = Path(__file__).parents[2]


def asked(lock: Lock, code: str) -> str:
    """What the environment's Python prints."""
    return pythons.ask(lock.interpreter, code)


def test_it_has_what_the_lock_pins_and_no_more(tiny_lock: Lock, capsys: pytest.CaptureFixture[str]) -> None:
    assert tiny_lock.made is None
    made = environments.make(tiny_lock)
    assert tiny_lock.made == made and made.minor == HERE
    assert asked(tiny_lock, "import tiny_runtime; print(tiny_runtime.ANSWER)") == "42"
    assert asked(tiny_lock, "import importlib.metadata as m; print([d.name for d in m.distributions()])") == (
        "['tiny-runtime']"
    )
    assert list(tiny_lock.folder.rglob("tiny_runtime.cpython-*.pyc"))  # else each worker would compile it
    assert "making the environment of tiny" in capsys.readouterr().out


def test_it_is_made_once_also_by_several_at_the_same_time(tiny_lock: Lock, capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadPoolExecutor() as threads:
        made = list(threads.map(lambda _: environments.make(tiny_lock), range(3)))
    assert made == [tiny_lock.made] * 3
    assert capsys.readouterr().out.count("making") == 1


def test_a_half_made_one_is_not_used_and_made_anew(tiny_lock: Lock) -> None:
    environments.make(tiny_lock)
    (tiny_lock.folder / STAMP).unlink()
    (tiny_lock.folder / "bin/python").unlink()
    assert tiny_lock.made is None
    environments.make(tiny_lock)
    assert asked(tiny_lock, "import tiny_runtime") == ""


def test_an_edited_lock_is_another_environment(tiny_lock: Lock) -> None:
    environments.make(tiny_lock)
    tiny_lock.path.write_text(tiny_lock.path.read_text() + "# edited\n")
    edited = Lock(tiny_lock.name, tiny_lock.path)
    assert edited.folder != tiny_lock.folder and edited.made is None and tiny_lock.made


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (text("0" * 64), "ash"),
        (text("0" * 64).replace("tiny-runtime", "no-such-package"), "no-such-package"),
        (text("0" * 64).partition(" \\")[0] + "\n", "hash"),
    ],
    ids=["another hash", "a package that nobody has", "no hash"],
)
def test_a_lock_that_cannot_be_installed_is_a_sentence_and_leaves_nothing(
    tiny_lock: Lock, changed: str, told: str
) -> None:
    tiny_lock.path.write_text(changed)
    error = refused(environments.make, tiny_lock)
    assert error.code == "environment-not-made" and error.values["file"] == str(tiny_lock.path)
    assert told in str(error) and "\n" not in str(error)
    assert_helps(error, "tiny.txt")
    assert [path for path in environments.place().iterdir() if path.is_dir()] == []


def test_a_full_disk_is_told_and_nothing_is_left(
    tiny_lock: Lock, tiny_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tiny_disk / "environments"))
    (tiny_disk / "filled").write_bytes(b"0" * 50_000)
    error = refused(environments.make, tiny_lock)
    assert "no space left" in str(error)
    assert list((tiny_disk / "environments").rglob("python*")) == []


def test_an_interpreter_that_is_missing_is_a_sentence(tiny_lock: Lock) -> None:
    tiny_lock.path.write_text(text("0" * 64, "3.99, 3.98"))
    error = refused(environments.make, tiny_lock)
    assert isinstance(error, NoInterpreterError)
    assert_helps(error, "Python 3.99")
    assert "tiny needs Python 3.99 or 3.98" in str(error) and "uv python install 3.99" in str(error)
    assert not tiny_lock.folder.exists()


@pytest.mark.parametrize("content", [None, b"\xff\xfe"], ids=["missing", "damaged"])
def test_a_lock_that_cannot_be_read_is_a_sentence(tiny_lock: Lock, content: bytes | None) -> None:
    tiny_lock.path.unlink() if content is None else tiny_lock.path.write_bytes(content)
    error = refused(environments.make, tiny_lock)
    assert error.code == "lock-unreadable"
    assert_helps(error, "tiny.txt")


def test_a_file_that_has_its_name_is_in_nobodys_way(tiny_lock: Lock) -> None:
    tiny_lock.folder.parent.mkdir()
    tiny_lock.folder.write_text("a file")
    environments.make(tiny_lock)
    assert asked(tiny_lock, "import tiny_runtime") == ""


@pytest.mark.parametrize("named", ["environments", "~nobody-of-that-name/x"])
def test_a_place_must_be_a_whole_path(monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.setenv(VARIABLE, named)
    error = refused(environments.place)
    assert error.code == "environments-place"
    assert_helps(error, named)


def test_what_a_shell_sets_for_its_python_misleads_no_search(
    tiny_lock: Lock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('hello')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    assert environments.make(tiny_lock).minor == HERE
    assert not {"PYTHONPATH", "PYTHONHOME"} & environments.cleaned().keys()


def test_a_lock_that_names_no_python_is_refused(tiny_lock: Lock) -> None:
    tiny_lock.path.write_text("tiny-runtime==1.0\n")
    error = refused(environments.make, tiny_lock)
    assert error.code == "lock-python"
    assert_helps(error, "tiny.txt")


def test_a_lock_that_was_cut_off_makes_no_empty_environment(tiny_lock: Lock) -> None:
    tiny_lock.path.write_text(f"# Python {HERE}\n")
    error = refused(environments.make, tiny_lock)
    assert error.code == "lock-empty" and not tiny_lock.folder.exists()


@pytest.mark.parametrize(
    ("edition", "present"), [("onnxruntime_9", False), ("onnxruntime_9", True), ("tflite_9", False)]
)
def test_a_version_without_a_lock_is_never_measured_with_the_usual_library(
    monkeypatch: pytest.MonkeyPatch, edition: str, present: bool
) -> None:
    monkeypatch.setattr(gpu, "present", lambda: present)
    error = refused(environments.lock, edition)
    assert (error.code, error.values["edition"]) == ("no-lock", edition)
    found = host._runtime(edition, CPU_MACHINE, True)
    assert found.failed is None and all("needs here" in str(why) for why in found.unavailable.values())


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_a_shim_that_fails_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pyenv's are for a version that is installed and not chosen."""
    script(tmp_path / "shims/python3.99", "exit 127")
    found = script(tmp_path / "pyenv/versions/3.99.1/bin/python3.99", "echo 3.99")
    script(tmp_path / "pyenv/versions/3.9.1/bin/python3.9", "echo 3.9")
    monkeypatch.setenv("PATH", f"{tmp_path}/shims")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    assert pythons.find(["3.98", "3.99"], "tiny") == found
    assert pythons.find([HERE], "tiny") == Path(sys.executable)


def locks() -> list[Path]:
    return sorted(ROOT.glob("stages/runtimes/*/locks/*.txt"))


@pytest.mark.parametrize("path", locks(), ids=lambda path: path.stem)
def test_every_lock_is_whole(path: Path) -> None:
    """Compiled from what stands beside it, with hashes, and with the Pillow that decodes for all others."""
    wanted = path.with_suffix(".in").read_text()
    assert wanted.splitlines()[0] == path.read_text().splitlines()[0]
    entries = re.split(r"\n(?=\S)", path.read_text().strip())[1:]
    assert entries and all("--hash=sha256:" in entry for entry in entries)
    pillow = re.compile(r"^pillow==([\d.]+)", re.MULTILINE)
    base = pillow.search((ROOT / "requirements/base.txt").read_text())
    assert base and pillow.findall(path.read_text()) == [base[1]]


def test_what_a_lock_pins_depends_on_the_python() -> None:
    own = Lock("onnxruntime", ROOT / "stages/runtimes/onnxruntime/locks/onnxruntime.txt")
    assert own.versions("3.11.9")["numpy"] != own.versions("3.12.1")["numpy"]
    assert "colorama" not in own.versions("3.12.1") and own.versions("3.12.1")["onnxruntime"]


@pytest.mark.parametrize(
    ("edition", "without", "with_one"),
    [
        ("tflite", None, None),
        ("savedmodel", None, "savedmodel-gpu"),
        ("tftrt", None, "tftrt"),
        ("onnxruntime", "onnxruntime", "onnxruntime-gpu"),
        ("onnxruntime_1_23", "onnxruntime_1_23", "onnxruntime_1_23-gpu"),
        ("tensorrt", None, "tensorrt"),
        ("tensorrt_rtx", None, "tensorrt_rtx"),
    ],
)
def test_the_lock_depends_on_whether_there_is_a_gpu(
    monkeypatch: pytest.MonkeyPatch, edition: str, without: str | None, with_one: str | None
) -> None:
    for there, name in ((False, without), (True, with_one)):
        monkeypatch.setattr(gpu, "present", lambda there=there: there)
        found = environments.lock(edition)
        assert (found and found.name) == name
        assert found is None or (found.path.is_file() and found.path.stem == name)


def test_every_lock_is_that_of_an_edition_and_of_its_runtime() -> None:
    assert [lock.path for _, lock in environments.locks()] == sorted(
        locks(), key=lambda path: [*registry.RUNTIMES].index(path.parts[-3])
    )
    assert {path.stem.partition("-")[0] for path in locks()} <= {*registry.editions()}
    assert all(lock.name.startswith(runtime) for runtime, lock in environments.locks())


def test_what_a_builder_says_is_told_without_its_traceback() -> None:
    """As of TensorRT's libraries, where NVIDIA's index is out of reach."""
    told = """error: Failed to build `libs==1`
  cause: Call to `wheel_stub.buildapi.build_wheel` failed (exit status: 1)

         [stderr]
         Traceback (most recent call last):
           File "/usr/lib/python3.12/urllib/request.py", line 1347, in do_open
             raise URLError(err)
                   ^^^^^^^^
         urllib.error.URLError: <urlopen error [Errno -2] Name or service not known>

         During handling of the above exception, another exception occurred:

         *********
         This is a special placeholder package."""
    assert installer.reason(told) == (
        "error: Failed to build `libs==1`; cause: Call to `wheel_stub.buildapi.build_wheel` failed (exit status: 1); "
        "urllib.error.URLError: <urlopen error [Errno -2] Name or service not known>; This is a special placeholder "
        "package."
    )


def test_what_was_measured_on_another_machine_has_its_lock_here_too() -> None:
    path = ROOT / "stages/runtimes/onnxruntime/locks/onnxruntime_1_23-gpu.txt"
    digest = Lock("any", path).sha256
    found = environments.measured(RuntimeEnvironment("onnxruntime_1_23", "3.12", {}, {}, lock=digest))
    assert found == Lock("onnxruntime_1_23-gpu", path)
    assert environments.measured(RuntimeEnvironment("tflite", "3.12", {}, {})) is None
    error = refused(environments.measured, RuntimeEnvironment("onnxruntime", "3.12", {}, {}, lock="of an edited one"))
    assert error.code == "lock-changed"
    assert_helps(error, "onnxruntime")
