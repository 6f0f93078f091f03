"""A runtime whose environment is not the pipeline's: ONNX Runtime, on a CPU."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from stages.contracts.environment import Discovery, Machine
from stages.contracts.timing import Memory
from stages.contracts.variant import Variant
from stages.core import gpu
from stages.runtimes import client, elsewhere, environments, host, pythons, registry
from stages.runtimes.client import Client
from stages.runtimes.environments import VARIABLE, Lock
from tests.fixtures import away
from tests.fixtures.errors import refused
from tests.fixtures.tiny import save_tiny_onnx

SHAPE = (16, 12, 3)


@pytest.fixture(scope="module")
def own() -> Lock:
    found = environments.lock("onnxruntime")
    assert found
    environments.make(found)
    return found


def test_its_workers_run_there_and_hear_nothing_of_this_environment(own: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    with Client("onnxruntime") as asked:
        python, number = asked.hello.python, asked.hello.pid
        assert own.made and python == own.made.python
        assert Path(f"/proc/{number}/exe").resolve() == own.interpreter.resolve()
        environment = Path(f"/proc/{number}/environ").read_text().split("\0")
    assert "PYTHONHOME=/nowhere" not in environment
    assert f"PYTHONPATH={client.CHECKOUT}{os.pathsep}{client.CHECKOUT}" in environment


def test_it_is_described_as_what_its_environment_has(own: Lock) -> None:
    found = host.describe(None, ["onnxruntime-int8"]).runtime("onnxruntime")
    assert own.made
    assert (found.python, found.lock) == (own.made.minor, own.sha256)
    assert found.versions["onnxruntime"] == own.versions(own.made.python)["onnxruntime"]
    assert found.unavailable == {"fp32": None, "int8": None}


def test_what_it_found_is_kept_until_its_code_changes(own: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = host.describe_machine(None)
    first = elsewhere.discover("onnxruntime", own, machine)
    monkeypatch.setattr(elsewhere, "Client", None)  # nobody is asked
    assert elsewhere.discover("onnxruntime", own, machine) == first
    more = replace(registry.description("onnxruntime"), precisions=("fp32", "fp16", "int8"))
    monkeypatch.setattr(registry, "description", lambda runtime: more)
    with pytest.raises(TypeError):
        elsewhere.discover("onnxruntime", own, machine)


def test_a_worker_that_does_not_come_up_says_how_to_look(own: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PROGRAM", ("-c", "import no_such_library"))
    with Client("onnxruntime") as asked:
        error = refused(asked.ask, "memory", None, Memory)
    assert "exit status 1 before it was up" in str(error) and "env check" in str(error)


def test_a_missing_lock_costs_its_own_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "folder", lambda runtime: tmp_path)
    found = host.describe(None, ["tflite-int8", "onnxruntime-int8"])
    assert "cannot be read" in str(found.runtime("onnxruntime").failed)
    assert found.runtime("tflite").failed is None


def test_what_no_variant_asks_for_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "environments"))
    found = host.describe(None, ["tflite-int8"]).runtime("onnxruntime")
    assert not (tmp_path / "environments").exists()
    assert all(reason and "no variant of it is listed" in reason for reason in found.unavailable.values())


@pytest.mark.parametrize(("pythons", "failed"), [("3.99", False), ("3.12, 3.13, 3.11", True)])
def test_an_environment_that_cannot_be_made_costs_its_own_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pythons: str, failed: bool
) -> None:
    """Skipped where a Python is missing, which is no fault of theirs; else failed."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "environments"))
    monkeypatch.setattr(registry, "folder", lambda runtime: tmp_path)
    (tmp_path / "locks").mkdir()
    (tmp_path / f"locks/{environments.lock('onnxruntime').name}.txt").write_text(  # type: ignore[union-attr]
        f"# Python {pythons}\nonnxruntime==99 \\\n    --hash=sha256:{'0' * 64}\n"
    )
    monkeypatch.setenv("UV_NO_INDEX", "1")
    found = host.describe(None, ["tflite-int8", "onnxruntime-int8"])
    broken = found.runtime("onnxruntime")
    assert bool(broken.failed) == failed
    assert "onnxruntime" in str(broken.failed) if failed else "Python 3.99" in str(broken.unavailable["int8"])
    assert found.runtime("tflite").unavailable["int8"] is None


def test_a_session_there_answers_as_the_model_does(own: Lock, tmp_path: Path) -> None:
    answer = save_tiny_onnx(tmp_path, SHAPE, 6)
    away.assert_answers("onnxruntime", tmp_path, SHAPE, answer, 1e-5)


@pytest.mark.parametrize("runtime", ["tftrt", "tensorrt"])
@pytest.mark.parametrize("edition", ["{}", "{}_11"])
def test_without_a_gpu_what_needs_one_is_skipped_and_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str, edition: str
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "environments"))
    monkeypatch.setattr(gpu, "present", lambda: False)
    monkeypatch.setattr(host, "_nvidia", lambda: (None, (), "its driver does not answer"))
    named = edition.format(runtime)
    found = host.describe(None, [f"{named}-fp16"]).runtime(named)
    assert {*found.unavailable.values()} == {"no NVIDIA GPU (its driver does not answer)"}
    assert (found.failed, found.lock) == (None, None)
    assert not (tmp_path / "environments").exists()


def test_with_a_gpu_and_without_its_python_a_row_is_skipped_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "environments"))
    monkeypatch.setattr(gpu, "present", lambda: True)
    monkeypatch.setattr(pythons, "_candidates", lambda version: iter(()))
    found = host.describe(None, ["tftrt-fp16"]).runtime("tftrt")
    assert found.failed is None
    (reason,) = {*found.unavailable.values()}
    assert "tftrt needs Python 3.10, and none was found" in str(reason)
    assert ".venv/bin/uv python install 3.10" in str(reason)


def test_two_editions_of_a_runtime_are_described_side_by_side(own: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()

    def discover(edition: str, lock: Lock, machine: Machine) -> tuple[str, Discovery]:
        asked.append(f"{edition} {lock.path.stem}")
        return "3.12", Discovery({"onnxruntime": "1"}, {"fp32": None, "int8": None})

    monkeypatch.setattr(gpu, "present", lambda: False)
    monkeypatch.setattr(elsewhere, "discover", discover)
    found = host.describe(None, ["onnxruntime-int8", "onnxruntime_1_23-int8"])
    assert asked == ["onnxruntime onnxruntime", "onnxruntime_1_23 onnxruntime_1_23"]
    one, other = found.runtime("onnxruntime"), found.runtime("onnxruntime_1_23")
    assert one.lock == own.sha256 != other.lock
    assert found.unavailable(Variant.parse("onnxruntime_1_23-int8")) is None
