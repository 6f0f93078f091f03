"""docs/tutorials/your-own-model.md, followed to the letter: its commands are typed and its keys set, in their order."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.contracts import codec
from stages.contracts.row import SUMMARY, Summary

REPOSITORY = Path(__file__).parents[2]
TUTORIAL = REPOSITORY / "docs/tutorials/your-own-model.md"
LONGEST_SECONDS = 900


def blocks() -> Iterator[tuple[str, str]]:
    """Language and text of each code block."""
    yield from re.findall(r"^```(\w+)\n(.*?)^```$", TUTORIAL.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def set_keys(values: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict):
            set_keys(values[key], value)
        else:
            assert key in values, f"params.yaml has no key {key}"
            values[key] = value


def run(command: str, folder: Path) -> str:
    done = subprocess.run(["bash", "-ec", command], cwd=folder, capture_output=True, text=True, timeout=LONGEST_SECONDS)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def rows_that_ran(table: str) -> int:
    """On a busy machine the status says so."""
    return len(re.findall(r"\| ok\b", table))


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of this checkout as it is, changes included, with this environment as its own."""
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(folder)], check=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, folder / name)
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *who, "commit", "-qam", "as it is", "--allow-empty"], cwd=folder, check=True)
    environment = folder / ".venv"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin/python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (environment / "bin/python").chmod(0o755)
    (environment / "bin/dvc").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dvc "$@"\n')
    (environment / "bin/dvc").chmod(0o755)
    # What make takes for an environment that is ready; never older than its lock file.
    for marker in ("python", "uv", "runs"):
        (environment / marker).touch()
    return folder


@pytest.mark.tutorial
def test_the_tutorial_works_as_it_is_written(clone: Path) -> None:
    tables = []
    for language, text in blocks():
        if language == "console":
            tables.append(run(text, clone))
        elif language == "yaml":
            values = yaml.safe_load((clone / "params.yaml").read_text(encoding="utf-8"))
            set_keys(values, yaml.safe_load(text))
            (clone / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    demo, _, brought, trained, simulated = tables
    assert rows_that_ran(demo) == 8
    assert rows_that_ran(brought) == 3
    assert rows_that_ran(trained) == 2
    assert rows_that_ran(simulated) == 3
    first = codec.read(Summary, clone / "demo" / SUMMARY)
    assert first.evaluation.images == 1000
    assert first.calibration.images == 100
    accuracies = [row.accuracy for row in first.rows if row.status.ok]
    assert all(made and made.top1.value >= 0.975 for made in accuracies)
    assert all(made and made.averages.macro_f1 >= 0.97 and made.averages.ece <= 0.05 for made in accuracies)
    last = codec.read(Summary, clone / SUMMARY)
    trained_here = last.model.training
    assert trained_here and trained_here.backbone == "small"
    assert last.model.input_shape == (28, 28, 1)
    assert last.evaluation.images == 250
    assert all(row.accuracy and row.accuracy.top1.value >= 0.9 for row in last.rows)
    assert [row.variant.qat for row in last.rows] == [False, False, True]
    assert last.qat and last.qat.training and last.qat.training.train_images == trained_here.train_images
    # 60 s on two quiet cores; what a slow machine takes is none of this test's business.
    assert first.model.training and first.model.training.runs[0].best_epoch >= 6
