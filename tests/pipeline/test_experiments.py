"""Experiments, other runtimes, remotes and the MLflow UI, in one copy and in order."""

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.models import free_port, wait_for
from tests.pipeline.project import ROOT, Project, finished, stages_run
from tests.pipeline.project import no_leftovers as no_leftovers

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return finished(tmp_path_factory)[0]


def test_results_travel_by_a_dvc_remote(project: Project, tmp_path: Path) -> None:
    project.ok("dvc", "remote", "add", "--default", "store", str(tmp_path))
    project.ok("dvc", "push")
    shutil.rmtree(project.folder / ".dvc/cache")
    shutil.rmtree(project.folder / "models/tflite-int8")
    project.ok("dvc", "pull", "--force")
    assert (project.folder / "models/tflite-int8/model.tflite").exists()
    assert project.repro_ok() == ["environment", "track", "register"]


def test_a_queued_experiment_logs_to_the_same_store(project: Project) -> None:
    project.ok("git", "add", "-A")
    project.ok("git", "commit", "-qm", "before the sweep")
    project.ok("dvc", "exp", "run", "--queue", "-S", "select.objective=size", "-n", "smallest")
    project.ok("dvc", "exp", "run", "--run-all")
    newest = project.runs("pipeline")[-1]
    assert newest.data.tags["dvc.experiment"] == "smallest"
    assert newest.data.params["select.objective"] == "size"
    assert newest.data.params["evaluation.source"] == "photos"
    assert "smallest" in project.ok("dvc", "exp", "show", "--csv")


def test_an_experiment_replaces_the_list_of_variants(project: Project) -> None:
    project.ok("dvc", "exp", "run", "-S", "variants=[savedmodel-fp32,tflite-int8]")
    assert list(project.rows()) == ["savedmodel-fp32", "tflite-int8"]
    assert project.runs("pipeline")[-1].data.params["variants"] == "savedmodel-fp32,tflite-int8"


def test_the_mlflow_ui_compares_the_variants(project: Project, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on the PATH (Debian: apt install chromium)")
    experiment = project.runs("variant")[-1].info.experiment_id
    runs = [run.info.run_id for run in project.runs("variant") if run.data.tags["status"] == "ok"][:3]
    query = f"runs={json.dumps(runs)}&experiments={json.dumps([experiment])}".replace('"', "%22").replace(" ", "")
    port = free_port()
    store = f"sqlite:///{project.folder}/mlflow.db"
    server = subprocess.Popen(
        ["mlflow", "ui", "--backend-store-uri", store, "--host", "127.0.0.1", "--port", str(port)],
        cwd=project.folder, env=project.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server)
        page = f"http://127.0.0.1:{port}/#/compare-runs?{query}"
        quiet = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
        options = [
            *quiet.split(),
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={tmp_path}/profile",
        ]
        budget = ["--virtual-time-budget=60000", "--timeout=60000", "--window-size=1600,1400"]
        browse = [chromium, *options, *budget]
        dom = subprocess.run([*browse, "--dump-dom", page], check=True, capture_output=True, text=True, timeout=180)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
    for variant in ("savedmodel-fp32", "tflite-fp32", "tflite-int8"):
        assert variant in dom.stdout
    assert "p50_ms" in dom.stdout


def test_a_runtime_from_a_folder_elsewhere_is_one_entry(project: Project, tmp_path: Path) -> None:
    """Its row stands in the table, and nothing of the others is converted or evaluated again."""
    shutil.copytree(ROOT / "tests/fixtures/toy", tmp_path / "toy")
    registry = project.folder / "stages/runtimes/registry.py"
    registry.write_text(registry.read_text().replace("RUNTIMES = {\n", 'RUNTIMES = {\n    "toy": "toy",\n'))
    # The toy is the largest: its code, from elsewhere, could not travel with a champion.
    project.edit(lambda values: values["select"].update(objective="size"))
    project.edit(lambda values: values["variants"].append("toy-fp32"))
    path = os.pathsep.join([project.environment["PYTHONPATH"], str(tmp_path)])
    done = project.repro(PYTHONPATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    own = {"convert@toy-fp32", "evaluate@toy-fp32"}
    assert {stage for stage in stages_run(done.stdout) if "@" in stage} == own
    row = project.rows()["toy-fp32"]
    assert row.status.ok and row.accuracy and row.accuracy.top1.images == 6 and len(row.speeds) == 2
    assert row.conversion and row.conversion.proof
    facts = row.conversion.proof.facts
    assert (facts["chunk"], facts["compared_images"], facts["compared_agreement"]) == (8, 8, 1)
    assert re.search(r"^\| toy-fp32 +\| ok ", done.stdout, re.MULTILINE)
    options = tmp_path / "toy/options.py"
    options.write_text(options.read_text().replace("= 8", "= 4"))
    project.ok("dvc", "repro", "-q", "environment", PYTHONPATH=path)
    changed = json.loads(project.ok("dvc", "status", "--json", PYTHONPATH=path))
    assert {stage for stage in changed if "@" in stage} == own
