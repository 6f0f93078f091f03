"""What goes wrong in a run costs what needs it, and the next run mends it; one copy, in order."""

import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import psutil
import pytest

from stages.contracts.conversion import MANIFEST, folder
from stages.contracts.row import SUMMARY, Row
from stages.contracts.selection import SELECTION
from stages.core import files
from stages.reporting.report_data import PAGE
from tests.pipeline.project import AFTER, WORKER, Project, finished, stages_run
from tests.pipeline.project import no_leftovers as no_leftovers

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return finished(tmp_path_factory)[0]


def kill_child(project: Project, stage: str) -> threading.Thread:
    """Kill the process that a stage's parent started for the work, as the kernel does when memory runs out."""

    def watch() -> None:
        deadline = time.monotonic() + 400  # a busy machine takes minutes to come to the stage
        while time.monotonic() < deadline:
            for process in psutil.process_iter(["cmdline", "cwd"]):
                line = " ".join(process.info["cmdline"] or ())
                if stage in line and "python" in line and process.info["cwd"] == str(project.folder):
                    children = [child for child in process.children() if WORKER in " ".join(child.cmdline())]
                    if children:
                        children[0].send_signal(signal.SIGKILL)
                        return
            time.sleep(0.02)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_each_killed_worker_costs_its_own_row(project: Project) -> None:
    """One that converts, one that evaluates, and the baseline's while calls are timed."""
    project.edit(lambda values: values["tflite"].update(xnnpack=False))
    killed = {"convert": "tflite-int8", "evaluate": "tflite-fp32", "benchmark": "savedmodel-fp32"}
    killers = [kill_child(project, f"-m stages.{work}") for work in ("convert tflite-int8", "evaluate tflite-fp32")]
    killers.append(kill_child(project, "-m stages.benchmark"))
    done = project.repro()
    for killer in killers:
        killer.join()
    assert done.returncode == 1
    rows = project.rows()
    for stage, name in killed.items():
        status = rows[name].status
        assert (status.state, status.stage) == ("failed", stage)
        assert "SIGKILL, probably for lack of memory" in str(status.reason)
        assert f"| {name:<16} | failed" in done.stdout
    assert rows["tflite-int8"].accuracy is None and rows["tflite-fp32"].accuracy is None
    assert rows["onnxruntime-int8"].status.ok and rows["onnxruntime-int8"].speeds
    told = "\n".join(done.stderr.splitlines()[-3:])
    assert "  tflite-int8 could not be converted: its process was ended by" in told
    assert "  tflite-fp32 could not be evaluated: its process was ended by" in told


def test_the_next_run_retries_only_what_failed(project: Project) -> None:
    retried = ["convert@tflite-int8", "evaluate@tflite-int8", "evaluate@tflite-fp32"]
    assert sorted(project.repro_ok()) == sorted(["environment", *retried, "benchmark", *AFTER])
    assert all(row.status.state in ("ok", "skipped") for row in project.rows().values())


def test_a_run_killed_at_any_second_leaves_nothing_running_and_the_results_before_it(project: Project) -> None:
    project.edit(lambda values: values["calibration"].update(seed=1))
    second = random.uniform(0, 20)
    print(f"killed {second:.2f} s after the first stage began")
    with started(project, "-m stages.", wait_s=second) as process:
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.communicate()
    deadline = time.monotonic() + 60
    # Until they are reaped, too: DVC takes a lock of a dead process for that of a living one until then.
    while any(psutil.pid_exists(one.pid) for one in family) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert command_lines(project) == []
    checked = project.run("python", "-m", "stages", "check")
    assert checked.returncode == 0, checked.stderr
    assert "it was killed" in checked.stderr and "Ship " in checked.stdout
    assert not any(row.status.state == "failed" for row in project.rows().values())


def test_ctrl_c_ends_every_process_with_one_sentence(project: Project, heeded: None) -> None:
    with started(project, "-m stages.benchmark") as process:
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.splitlines()[-1] == (
        "error: interrupted: run the same command again, and it goes on where it stopped"
    )
    assert "Traceback" not in errors
    assert command_lines(project) == []


def test_the_next_run_goes_on_there_and_an_unreachable_server_loses_nothing(project: Project) -> None:
    before = len(project.runs("pipeline"))
    done = project.repro(MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.returncode == 1
    # What was finished comes from DVC's cache, which does not hold what a sweep keeps for itself.
    assert sorted(stages_run(done.stdout)) == sorted(["environment", "sweep", "benchmark", *AFTER[:-1]])
    assert project.rows()["tflite-int8"].status.ok
    assert "could not log to MLflow at http://127.0.0.1:9" in done.stderr
    assert "nothing is lost" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(project.runs("pipeline")) == before
    assert project.repro_ok() == ["environment", "track", "register"]
    assert len(project.runs("pipeline")) == before + 1


@contextmanager
def started(project: Project, stage: str, wait_s: float = 1) -> Iterator["subprocess.Popen[str]"]:
    """A run in which the stage works."""
    command = ("python", "-m", "stages", "run", "dvc", "repro", "--ignore-errors")
    # A group of its own, as a terminal gives it: Ctrl-C goes to all of the group at once.
    with subprocess.Popen(
        command, cwd=project.folder, env=project.environment, start_new_session=True, stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 120
        while not any(stage in line for line in command_lines(project)) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(wait_s)  # into its work
        yield process


def command_lines(project: Project) -> list[str]:
    """Of every process that works in the project's folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        if process.info["cwd"] == str(project.folder):
            found.append(" ".join(process.info["cmdline"] or ()))
    return found


def test_a_failed_shared_stage_leaves_the_results_before_it(project: Project) -> None:
    results = [
        project.folder / name for name in (SUMMARY, SELECTION, PAGE, folder("tflite-int8") / MANIFEST, "dvc.lock")
    ]
    before = [path.read_bytes() for path in results]
    project.edit(lambda values: values["evaluation"].update(source="nowhere"))
    done = project.repro()
    assert done.returncode == 1
    *_, verdict, reason = done.stderr.splitlines()
    assert verdict == "error: the stage `download` failed, so there is no table"
    assert reason.startswith(f"  there is no folder {project.folder}/nowhere (named in params.yaml as nowhere)")
    assert "| variant" not in done.stdout
    assert [path.read_bytes() for path in results] == before
    photo = next((project.folder / "photos").glob("*.[jp]*g"))
    for verb in (["check"], ["predict", str(photo)], ["export", "--to", "served"], ["store"]):
        read = project.run("python", "-m", "stages", *verb)
        assert read.returncode == 0, read.stderr
        assert "did not complete (the stage `download` failed" in read.stderr
    project.edit(lambda values: values["evaluation"].update(source="photos"))
    assert project.repro_ok() == ["environment"]


def test_a_wrong_parameter_stops_before_anything_runs(project: Project) -> None:
    project.edit(lambda values: values["benchmark"].update(min_sample=5))
    done = project.repro()
    project.edit(lambda values: values["benchmark"].pop("min_sample"))
    assert done.returncode == 1
    assert "params.yaml: `benchmark.min_sample` is not a known key; did you mean `min_samples`?" in done.stderr
    assert stages_run(done.stdout) == []


def test_two_runs_at_once_are_refused(project: Project) -> None:
    with filelock.FileLock(project.folder / ".make-repro.lock"):
        done = project.repro()
    assert done.returncode == 1
    assert "another `make repro` is running in this checkout" in done.stderr


def test_what_variants_share_costs_only_those_that_use_it(project: Project, tmp_path: Path) -> None:
    """Without calibration images, and with an exporter to ONNX that crashes."""
    before = project.rows()
    project.edit(lambda values: values["calibration"].update(source="nowhere"))
    for made in ("models/onnx", ".dvc/cache"):  # what was exported once comes from the cache
        shutil.rmtree(project.folder / made)
    files.write_text(tmp_path / "tf2onnx/__init__.py", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    done = project.repro(PYTHONPATH=f"{tmp_path}:{project.environment['PYTHONPATH']}")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    rows = project.rows()
    for name, reason in (
        ("tflite-int8", "images: the calibration set: "),
        ("onnxruntime-int8", "to_onnx: its "),
    ):
        status = rows[name].status
        assert (status.state, status.stage) == ("failed", "convert") and str(status.reason).startswith(reason)
        assert f"| {name:<16} | failed" in done.stdout
    assert "SIGSEGV" in str(rows["onnxruntime-int8"].status.reason)
    for name in ("savedmodel-fp32", "tflite-fp32"):
        assert rows[name].status.ok and rows[name].speeds
        assert figures(rows[name]) == figures(before[name])


def figures(row: Row) -> tuple[Any, ...]:
    """What another run of the same gives again, but for how close it is to the SavedModel on images of calibration."""
    assert row.accuracy and row.conversion and row.conversion.proof
    facts = {name: fact for name, fact in row.conversion.proof.facts.items() if not name.startswith("compared")}
    return row.accuracy.top1, row.accuracy.top5, row.conversion.sha256, facts
