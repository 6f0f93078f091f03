"""What `make` installs, and with which Python: locks that are whole for each Python, and a sentence where none fits."""

import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import tomllib
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from stages.runtimes import environments

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# In the order in which they are taken.
PYTHONS = ("3.12", "3.13", "3.11")


@pytest.mark.parametrize("lock", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_lock_files_have_hashes_and_name_no_index(lock: Path) -> None:
    lines = lock.read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith((" ", "#"))]
    assert pins and all("==" in line and line.endswith("\\") for line in pins)
    assert not [line for line in lines if "index-url" in line or "://" in line]


def test_what_builds_a_package_is_in_a_lock_of_its_own() -> None:
    """uv builds with no other, by its hashes; those of runtimes' locks too."""
    build, base = ((ROOT / f"requirements/{name}.txt").read_text() for name in ("build", "base"))
    setuptools, stub = build.split("wheel-stub==")  # the latter is of TensorRT 11
    assert setuptools.startswith("setuptools==") and setuptools in base and stub
    assert "--build-constraints requirements/build.txt" in (ROOT / "Makefile").read_text()
    assert environments.BUILDERS == ROOT / "requirements/build.txt"


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", ["base", "cluster", "dev"])
def test_a_lock_has_one_version_of_every_package_for_each_python(name: str, python: str) -> None:
    """And it is one that pyproject.toml asks for."""
    platform = {"sys_platform": "linux", "platform_machine": "x86_64"}
    where = {"python_version": python, "python_full_version": f"{python}.1"} | platform
    lines = environments.PINNED.findall((ROOT / f"requirements/{name}.txt").read_text())
    pinned = [(package, version) for package, version, marker in lines if not marker or Marker(marker).evaluate(where)]
    assert [package for package, times in Counter(package for package, _ in pinned).items() if times > 1] == []
    assert "tensorflow-cpu" in dict(pinned) and "tensorflow" not in dict(pinned)  # two in one folder
    assert python in SpecifierSet(PROJECT["requires-python"])
    extra = [] if name == "base" else PROJECT["optional-dependencies"][name]
    asked = [Requirement(line) for line in [*PROJECT["dependencies"], *extra]]
    needed = [one for one in asked if not one.marker or one.marker.evaluate(where)]
    found = dict(pinned) | {PROJECT["name"]: PROJECT["version"]}
    assert [str(one) for one in needed if not one.specifier.contains(found[canonicalize_name(one.name)])] == []


def interpreter(path: Path, version: str, works: bool = True) -> None:
    """One of that version, as far as `make` asks; an environment that it makes knows which one it was."""
    does = f'case "$1" in -c) [ "$3" = {version} ];; -m) mkdir -p "$3" && echo {path.name} > "$3/of";; esac'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{does if works else 'exit 127'}\n")
    path.chmod(0o755)


def made(place: Path) -> "subprocess.CompletedProcess[str]":
    """What `make` does about an environment, where no other tools than these are to be had."""
    (place / "bin").mkdir(exist_ok=True)
    for tool in ("sh", "rm", "mkdir", "touch"):
        (place / "bin" / tool).symlink_to(str(shutil.which(tool)))
    variables = {"PATH": str(place / "bin"), "PYENV_ROOT": str(place / "pyenv of mine")}
    command = [str(shutil.which("make")), "-s", "-f", ROOT / "Makefile", "VENV=made", "made/python"]
    return subprocess.run(command, cwd=place, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("versions", "taken"),
    [
        (("3.11", "3.12", "3.13", "3.14"), "python3.12"),
        (("3.10", "3.11", "3.13"), "python3.13"),
        (("3.9", "3.11"), "python3.11"),
    ],
)
def test_make_takes_the_best_python_that_is_on_the_path(tmp_path: Path, versions: tuple[str, ...], taken: str) -> None:
    for version in versions:
        interpreter(tmp_path / f"bin/python{version}", version)
    assert made(tmp_path).returncode == 0
    assert (tmp_path / "made/of").read_text().strip() == taken


def test_make_looks_behind_a_shim_that_fails(tmp_path: Path) -> None:
    interpreter(tmp_path / "bin/python3.12", "3.12", works=False)
    interpreter(tmp_path / "pyenv of mine/versions/3.12.7/bin/python", "3.12")
    interpreter(tmp_path / "bin/python3.13", "3.13")
    assert made(tmp_path).returncode == 0
    assert (tmp_path / "made/of").read_text().strip() == "python"


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.14"])
def test_with_another_python_the_first_line_says_what_to_do(tmp_path: Path, version: str) -> None:
    interpreter(tmp_path / "bin/python3", version)
    interpreter(tmp_path / f"bin/python{version}", version)
    done = made(tmp_path)
    assert done.returncode != 0 and done.stdout == ""
    assert done.stderr.splitlines()[0] == (
        "error: Python 3.12, 3.13 or 3.11 is needed, and none was found: install one, or uv, which brings one, and run "
        "the same command again"
    )
    assert not (tmp_path / "made").exists()
