"""What was made of a lock on this machine, of any: its Python runs all that a worker does. None is made for it."""

import subprocess
from pathlib import Path

import pytest

from stages.contracts.environment import Discovery
from stages.core import gpu
from stages.runtimes import environments
from stages.runtimes.client import Client
from stages.runtimes.environments import Lock
from tests.fixtures import away
from tests.fixtures.records import CPU_MACHINE
from tests.fixtures.tiny import save_tiny

ROOT = Path(__file__).parents[2]
SHAPE = (16, 12, 3)
# What a worker of that runtime may import.
IMPORTS = """
import importlib, pkgutil, sys
for package in ("stages.core", "stages.contracts", "stages.runtimes.shared", "stages.runtimes." + sys.argv[1]):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if ".tests" not in module.name:
            importlib.import_module(module.name)
from stages.runtimes import predict, probe, timer, worker
import psutil, tqdm, stages.data.batches
"""


def made(name: str) -> Lock:
    """Skips where it is not there."""
    (lock,) = (lock for _, lock in environments.locks() if lock.name == name)
    if lock.made is None:
        pytest.skip(f"there is no environment {name}: `python -m stages env make {name}` makes it")
    return lock


@pytest.mark.parametrize(("runtime", "name"), [(runtime, lock.name) for runtime, lock in environments.locks()])
def test_all_that_a_worker_may_import_is_there(runtime: str, name: str) -> None:
    own = made(name)
    command = [str(own.interpreter), "-c", IMPORTS, runtime]
    variables = environments.variables(runtime, own.interpreter, ROOT)
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["tftrt", "savedmodel-gpu"])
def test_a_saved_model_of_this_tensorflow_answers_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """On the CPU: TF-TRT's engines need a GPU, and it says so."""
    made(name)
    monkeypatch.setattr(gpu, "present", lambda: True)
    runtime = name.partition("-")[0]
    answer = save_tiny(tmp_path, SHAPE, 6)
    (tmp_path / "batch_sizes.json").write_text("[1, 4]")
    away.assert_answers(runtime, tmp_path, SHAPE, answer, 1e-6)


@pytest.mark.parametrize("name", ["tftrt", "tensorrt", "tensorrt_rtx"])
def test_without_a_gpu_it_says_so_in_its_own_python_too(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    made(name)
    monkeypatch.setattr(gpu, "present", lambda: True)
    with Client(name) as client:
        found = client.ask("discover", CPU_MACHINE, Discovery)
    assert {*found.unavailable.values()} == {f"no NVIDIA GPU ({CPU_MACHINE.gpu_missing})"}
