"""What `make clean` removes, and when it does not."""

import subprocess
from pathlib import Path

import pytest

from stages.commands import clean, kept
from stages.commands.lock import LOCK, exclusive
from tests.fixtures.errors import refused


@pytest.fixture
def made(checkout: Path) -> Path:
    """A checkout in which stages have written, and the user has."""
    subprocess.run(["git", "init", "-q"], check=True)
    for name in ("models", "data"):
        Path(name).mkdir(exist_ok=True)
        Path(name, ".gitignore").write_text("/*\n!/.gitignore\n")
    for name in ("models/tflite-int8/model.tflite", "data/train/a.png", "data/mine/a.png", ".kept/running.json"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("x")
    return checkout


def test_results_go_and_what_is_the_users_stays(made: Path) -> None:
    clean.clean(None)
    assert [name for name in ("models/tflite-int8", "data/train", "data/mine") if Path(name).exists()] == ["data/mine"]
    assert not kept.FOLDER.exists()


def test_nothing_goes_under_a_run(made: Path) -> None:
    with exclusive():
        assert refused(clean.clean, None).code == "checkout-busy"
        assert refused(clean.clean, made).code == "checkout-busy"
    assert Path("models/tflite-int8/model.tflite").exists()


def test_a_demo_goes_whole(made: Path) -> None:
    clean.clean(Path("models"))
    assert not Path("models").exists()
    clean.clean(Path("models"))


def test_a_lock_that_is_a_link_leads_nowhere(checkout: Path) -> None:
    Path("precious").write_text("mine")
    LOCK.symlink_to("precious")
    assert refused(clean.clean, None).code == "lock-link"
    assert Path("precious").read_text() == "mine"
