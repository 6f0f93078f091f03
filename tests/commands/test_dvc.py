"""DVC as the runner starts it leaves the dvc.lock that DVC itself would, byte by byte."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
STAGES = {
    "first": {"cmd": "echo 1 > one", "params": ["values"], "outs": ["one"]},
    "each": {"foreach": ["a", "b"], "do": {"cmd": "cp one ${item}", "deps": ["one"], "outs": ["${item}"]}},
}
VALUES = {"none": None, "words": "word " * 40, "text": "é: 日本", "list": [1, [1e-5, None]], "empty": {}, "on": "on"}


def repro(module: str, folder: Path) -> str:
    command = [sys.executable, "-m", module, "repro"]
    done = subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return (folder / "dvc.lock").read_text()


def as_it_is(text: str) -> str:
    return text


def with_datasets(text: str) -> str:
    return text + "datasets: []\n"


def quoted(text: str) -> str:
    """As a formatter writes keys."""
    return text.replace("  first:\n", '  "first":\n')


def anchored(text: str) -> str:
    """A value of the first entry that a later one repeats."""
    return text.replace("    cmd: cp one a\n", "    cmd: &copy cp one a\n").replace(
        "    cmd: cp one b\n", "    cmd: *copy\n"
    )


@pytest.mark.parametrize("edit", [as_it_is, with_datasets, quoted, anchored])
def test_the_lock_file_is_the_one_that_dvc_writes(tmp_path: Path, edit: Callable[[str], str]) -> None:
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"values": VALUES}))
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    lock = tmp_path / "dvc.lock"
    for values in (VALUES, VALUES | {"none": "a value"}):  # all stages are new, then one is another
        before = edit(lock.read_text()) if lock.exists() else None
        (tmp_path / "params.yaml").write_text(yaml.safe_dump({"values": values}))
        written = []
        for module in ("dvc", "stages.commands.dvc"):
            lock.write_text(before) if before else lock.unlink(missing_ok=True)
            written.append(repro(module, tmp_path))
        assert written[0] == written[1] != before


def test_a_linked_lock_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"values": VALUES}))
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    before = repro("stages.commands.dvc", tmp_path)
    lock = (tmp_path / "dvc.lock").rename(tmp_path / "elsewhere")
    (tmp_path / "dvc.lock").symlink_to(lock.name)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"values": VALUES | {"none": "a value"}}))
    assert repro("stages.commands.dvc", tmp_path) == lock.read_text() != before
