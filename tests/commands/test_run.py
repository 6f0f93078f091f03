"""What `make repro` does around the pipeline."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.commands import run as command
from stages.commands.lock import exclusive
from stages.core.errors import PipelineError
from stages.params import document
from stages.params.load import PARAMS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("engine", ["ray", "local"])
def test_the_engine_is_set_in_its_one_line(checkout: Path, capsys: pytest.CaptureFixture[str], engine: str) -> None:
    before = PARAMS.read_text()
    command.set_engine(engine)
    assert document.check().execution.engine == engine
    assert PARAMS.read_text() == before.replace("\n  engine: local\n", f"\n  engine: {engine}\n")
    assert bool(capsys.readouterr().out) == (engine == "ray")


@pytest.mark.parametrize(
    ("line", "after"),
    [('engine: "local"', "engine: ray"), ("engine:", "engine: ray"), ("engine: local  # a", "engine: ray  # a")],
)
def test_an_engine_is_set_however_it_was_written(checkout: Path, line: str, after: str) -> None:
    before = PARAMS.read_text()
    PARAMS.write_text(before.replace("\n  engine: local\n", f"\n  {line}\n"))
    command.set_engine("ray")
    assert PARAMS.read_text() == before.replace("\n  engine: local\n", f"\n  {after}\n")


def test_an_engine_that_cannot_be_set_is_told(checkout: Path) -> None:
    PARAMS.write_text("execution: {engine: local}\n")
    with pytest.raises(PipelineError) as caught:
        command.set_engine("ray")
    assert (caught.value.code, caught.value.values["key"]) == ("no-engine-line", "execution.engine")


def test_a_second_pipeline_in_a_checkout_is_refused(checkout: Path) -> None:
    with exclusive(), pytest.raises(PipelineError) as caught, exclusive():
        pass
    assert caught.value.code == "checkout-busy"


def test_a_lock_ends_with_the_process_that_held_it(checkout: Path) -> None:
    code = "import os; from stages.commands.lock import exclusive; exclusive().__enter__(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], check=False, env=os.environ | {"PYTHONPATH": str(ROOT)})
    with exclusive():
        pass


@pytest.mark.parametrize("repository", [False, True])
def test_a_folder_without_git_is_told_what_dvc_needs(checkout: Path, repository: bool) -> None:
    if repository:
        subprocess.run(["git", "init", "-q"], check=True)
    with pytest.raises(PipelineError) as caught:
        command.run([sys.executable, "-c", "raise SystemExit(3)"])
    assert ("git init" in str(caught.value)) != repository
    assert ("exit status 3" in str(caught.value)) == repository
