"""The whole pipeline in a copy of this checkout: real DVC, real conversions, a real MLflow store.

The tests of this module share one copy and run in order, as a user's afternoon would: a first run, a second that has
nothing to do, edits, faults and their repair.
"""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock
import psutil
import pytest
import yaml
from PIL import Image

from stages.contracts import codec
from stages.contracts.environment import ENVIRONMENT, FINGERPRINTS
from stages.contracts.row import HERE, SUMMARY, Row, Speed, Summary
from stages.contracts.selection import SELECTION, Selection
from tests.fixtures.models import free_port, wait_for

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
WEIGHTS = SHARED / "keras/models/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5"
VARIANTS = ["savedmodel-fp32", "tftrt-fp16", "tflite-fp32", "tflite-int8", "onnxruntime-int8"]
# Logs every process that imports TensorFlow, by a hook that Python itself runs at the start of each.
COUNT_IMPORTS = """
import os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow.python":
            with open(os.environ["TF_IMPORT_LOG"], "a") as log:
                log.write(f"{os.getpid()}\\n")
sys.meta_path.insert(0, Finder())
"""


class Project:
    """A copy of the checkout in which commands run."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment | environment, capture_output=True, text=True, timeout=600
        )

    def ok(self, *command: str, **environment: str) -> str:
        done = self.run(*command, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def repro(self, **environment: str) -> subprocess.CompletedProcess[str]:
        """What `make repro` runs."""
        return self.run("python", "-m", "stages", "run", "dvc", "repro", "--ignore-errors", **environment)

    def repro_ok(self) -> list[str]:
        """Run the pipeline; the stages that ran."""
        done = self.repro()
        assert done.returncode == 0, done.stdout + done.stderr
        return stages_run(done.stdout)

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        path = self.folder / "params.yaml"
        values = yaml.safe_load(path.read_text())
        change(values)
        path.write_text(yaml.safe_dump(values, sort_keys=False))

    def summary(self) -> Summary:
        return codec.read(Summary, self.folder / SUMMARY)

    def rows(self) -> dict[str, Row]:
        return {row.name: row for row in self.summary().here}

    def runs(self, level: str, experiment: str = "trt-pipeline") -> list[Any]:
        import mlflow

        client = mlflow.MlflowClient(f"sqlite:///{self.folder}/mlflow.db")
        found = client.get_experiment_by_name(experiment)
        assert found is not None
        query = f"tags.level = '{level}'"
        return list(client.search_runs([found.experiment_id], query, order_by=["attributes.start_time ASC"]))


# The module that converts, evaluates and times in a process of its own.
WORKER = "stages.runtimes.worker"
# What follows every new measurement.
AFTER = ["summarize", "select", "report", "track", "register"]


def stages_run(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def photographs(folder: Path, count: int) -> None:
    """Some of the real photographs where they exist, else pictures of noise."""
    folder.mkdir()
    shared = SHARED / "photos/labels.csv"
    if shared.exists():
        with shared.open(newline="") as file:
            chosen = [(row["file"], row["label"]) for row in csv.DictReader(file)][:: 400 // count][:count]
        for name, _ in chosen:
            shutil.copy(shared.parent / name, folder)
    else:
        chosen = [(f"{index}.png", str(index)) for index in range(count)]
        for index, (name, _) in enumerate(chosen):
            Image.effect_noise((300, 280), 40 + index).convert("RGB").save(folder / name)
    (folder / "labels.csv").write_text("file,label\n" + "".join(f"{name},{label}\n" for name, label in chosen))


def weights(target: Path) -> None:
    """The real MobileNetV2 weights where they exist, else random ones."""
    if WEIGHTS.exists():
        shutil.copy(WEIGHTS, target)
        return
    code = f"import tensorflow as tf; tf.keras.applications.MobileNetV2(weights=None).save_weights({str(target)!r})"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("project")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    hook = tmp_path_factory.mktemp("hook")
    (hook / "sitecustomize.py").write_text(COUNT_IMPORTS)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "DVC"))}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(hook),
        "TF_IMPORT_LOG": str(hook / "imports.log"),
        "GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "test@example.com",
        "GIT_COMMITTER_NAME": "test", "GIT_COMMITTER_EMAIL": "test@example.com",
    }  # fmt: skip
    made = Project(folder, environment)
    photographs(folder / "photos", 6)
    weights(folder / "weights.h5")
    (folder / ".git/info").mkdir(parents=True)
    (folder / ".git/info/exclude").write_text("/photos\n/weights.h5\n")

    def small(values: dict[str, Any]) -> None:
        values["model"] |= {"name": "mobilenet_v2", "weights": "weights.h5"}
        values["evaluation"] = {"source": "photos", "batch_size": 4}
        values["calibration"]["images"] = 8
        values["variants"] = VARIANTS
        values["benchmark"] |= {"batch_sizes": [1, 2], "min_samples": 3, "min_seconds": 0}

    made.edit(small)
    made.ok("git", "init", "-q")
    made.ok("git", "add", "-A")
    made.ok("git", "commit", "-qm", "start")
    return made


@pytest.fixture(autouse=True)
def no_leftovers(project: Project) -> Iterator[None]:
    """Whatever a test did, nothing half-written lies under data, models or reports."""
    yield
    left = [path for name in ("data", "models", "reports") for path in (project.folder / name).rglob("*.tmp")]
    assert left == []


def test_first_run_writes_the_table_and_the_summary(project: Project) -> None:
    done = project.repro()
    assert done.returncode == 0, done.stdout + done.stderr
    for variant in VARIANTS:
        assert f"| {variant} " in done.stdout
    assert project.summary().evaluation.images == 6
    rows = project.rows()
    assert list(rows) == VARIANTS
    for name in ("savedmodel-fp32", "tflite-fp32", "tflite-int8"):
        row = rows[name]
        assert row.status.ok and row.accuracy and row.conversion and row.conversion.files and row.footprint
        assert [speed.batch_size for speed in row.speeds] == [1, 2]
        assert all(speed.latency.samples >= 3 and speed.latency_host.samples >= 3 for speed in row.speeds)
        assert row.footprint.peak_memory_bytes > 50e6
        assert row.size_bytes == sum(row.conversion.files.values())
    sizes = [rows[name].size_bytes or 0 for name in ("tflite-int8", "tflite-fp32")]
    assert 0 < sizes[0] < sizes[1] / 3
    accuracy = rows["tflite-fp32"].accuracy
    assert accuracy and accuracy.agreement == 1.0


def test_gpu_rows_are_skipped_with_the_reason_where_there_is_no_gpu(project: Project) -> None:
    if project.summary().environments[HERE].machine.gpus:
        pytest.skip("this machine has an NVIDIA GPU")
    row = project.rows()["tftrt-fp16"]
    assert row.status.state == "skipped"
    assert "no NVIDIA GPU" in str(row.status.reason)
    assert (row.accuracy, row.speeds, row.size_bytes) == (None, (), None)


@pytest.mark.skipif(not WEIGHTS.exists(), reason="the MobileNetV2 weights and photographs of ../shared are not here")
def test_real_weights_classify_real_photographs(project: Project) -> None:
    accuracy = project.rows()["savedmodel-fp32"].accuracy
    assert accuracy and accuracy.top1.value >= 4 / 6


def test_tensorflow_is_imported_only_where_it_is_needed(project: Project) -> None:
    """save, to_onnx, two TFLite conversions, and the baseline's evaluation and benchmark."""
    pids = Path(project.environment["TF_IMPORT_LOG"]).read_text().split()
    assert len(set(pids)) == 6


def test_second_run_does_nothing(project: Project) -> None:
    before = len(project.runs("pipeline")), len(project.runs("variant"))
    assert before == (1, len(VARIANTS))
    assert project.repro_ok() == ["environment"]
    assert (len(project.runs("pipeline")), len(project.runs("variant"))) == before


def test_git_sees_only_the_lock_and_the_summary(project: Project) -> None:
    changed = {line[3:] for line in project.ok("git", "status", "--porcelain").splitlines()}
    assert changed <= {
        "dvc.lock",
        "reports/summary.json",
        "reports/summary.md",
        "reports/metrics.json",
        "reports/selection.json",
    }
    project.ok("git", "add", "-A")
    project.ok("git", "commit", "-qm", "first run")


def test_mlflow_holds_the_results(project: Project) -> None:
    import mlflow

    runs = {run.data.tags["variant"]: run for run in project.runs("variant")}
    row = project.rows()["tflite-int8"]
    run = runs["tflite-int8"]
    assert row.accuracy and run.data.metrics["top1"] == pytest.approx(row.accuracy.top1.value)
    assert run.data.params["precision"] == "int8"
    assert run.data.params["benchmark.batch_sizes"] == "1,2"
    assert run.data.tags["cached"] == "false"
    client = mlflow.MlflowClient(f"sqlite:///{project.folder}/mlflow.db")
    steps = {point.step: point.value for point in client.get_metric_history(run.info.run_id, "p50_ms")}
    assert steps == pytest.approx({speed.batch_size: speed.latency.p50_ms for speed in row.speeds})
    assert {file.path for file in client.list_artifacts(run.info.run_id)} >= {"predictions.csv", "convert.json"}
    (parent,) = project.runs("pipeline")
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} >= {"plots", "summary.json", "summary.md"}
    assert runs["tftrt-fp16"].data.tags["status"] in {"skipped", "ok"}


def test_a_run_that_somebody_deleted_is_logged_again(project: Project) -> None:
    import mlflow

    (run,) = project.runs("pipeline")
    mlflow.MlflowClient(f"sqlite:///{project.folder}/mlflow.db").delete_run(run.info.run_id)
    assert project.repro_ok() == ["environment", "track", "register"]
    (again,) = project.runs("pipeline")
    assert again.info.run_id != run.info.run_id
    project.repro_ok()
    assert project.repro_ok() == ["environment"]


def test_another_machine_runs_what_depends_on_the_machine_again_and_nothing_else(project: Project) -> None:
    """What `environment` writes on a machine with another CPU."""
    (digests,) = [project.folder / FINGERPRINTS]
    here = {path: path.read_text() for path in (digests, project.folder / ENVIRONMENT)}
    digests.write_text(re.sub(r'"[0-9a-f]{64}"', f'"{"0" * 64}"', here[digests]))
    (project.folder / ENVIRONMENT).write_text(here[project.folder / ENVIRONMENT] + " ")
    changed = json.loads(project.ok("dvc", "status", "--json"))
    for path, text in here.items():
        path.write_text(text)
    dependent = {f"{stage}@{variant}" for stage in ("convert", "evaluate") for variant in VARIANTS}
    assert set(changed) == dependent | {"environment", "sweep", "benchmark", "summarize", "track"}


def test_predict_prints_five_classes_with_their_probabilities(project: Project) -> None:
    photos = sorted(str(path) for path in (project.folder / "photos").glob("*.[jp]*g"))[:2]
    output = project.ok("python", "-m", "stages", "predict", "--variant", "tflite-int8", *photos)
    lines = output.splitlines()
    assert sum("%" in line for line in lines) == 10
    assert all(any(line.startswith(photo) for line in lines) for photo in photos)
    if WEIGHTS.exists():
        assert "tench" in output


def test_predict_names_what_can_be_used(project: Project) -> None:
    photo = str(next((project.folder / "photos").glob("*.[jp]*g")))
    refused = project.run("python", "-m", "stages", "predict", "--variant", "tflite-fp16", photo)
    assert refused.returncode == 1
    assert "tflite-fp16 is not converted here: name one of savedmodel-fp32" in refused.stderr
    assert "Traceback" not in refused.stderr
    missing = project.run("python", "-m", "stages", "predict", "nowhere.jpg")
    assert missing.returncode == 1
    assert "there is no file nowhere.jpg" in missing.stderr


def test_an_added_variant_runs_only_its_own_stages(project: Project) -> None:
    project.edit(lambda values: values["variants"].append("tflite-fp16"))
    own = ["convert@tflite-fp16", "evaluate@tflite-fp16"]
    assert sorted(project.repro_ok()) == sorted(["environment", "sweep", *own, "benchmark", *AFTER])
    assert list(project.rows()) == [*VARIANTS, "tflite-fp16"]
    assert len(project.runs("pipeline")) == 2


def test_a_changed_budget_chooses_again_and_measures_nothing(project: Project) -> None:
    project.edit(lambda values: values["budget"].update(max_size_bytes=1))
    done = project.repro()
    assert done.returncode == 0, done.stdout + done.stderr
    assert stages_run(done.stdout) == ["environment", "select", "report", "track", "register"]
    assert "No variant is within budget; the nearest is" in done.stdout
    checked = project.run("python", "-m", "stages", "check")
    assert (checked.returncode, checked.stderr) == (4, "")
    project.edit(lambda values: values["budget"].update(max_size_bytes=None))
    project.repro_ok()
    checked = project.run("python", "-m", "stages", "check")
    assert checked.returncode == 0
    assert re.search(r"\nShip (tflite|onnxruntime)-", checked.stdout)


def test_the_report_is_one_file_about_the_choice(project: Project) -> None:
    page = (project.folder / "reports/report.html").read_text()
    winner = codec.read(Selection, project.folder / SELECTION).winner
    assert f"Ship {winner}" in page
    changes = [row.accuracy.change for row in project.rows().values() if row.accuracy and row.accuracy.change]
    changed = sum(change.changed > 0 for change in changes)
    # Five charts of the variants, the reliability diagrams, the baseline's matrix, and two for each other that differs.
    assert page.count("<svg") == 5 + 1 + 1 + 2 * changed
    assert "Confusion matrix savedmodel-fp32" in page
    assert "http" not in "".join(re.findall(r'(?:src|href)="([^"]*)"', page))


def test_metrics_and_plots_show_the_change(project: Project) -> None:
    assert "tflite-fp16" in project.ok("dvc", "metrics", "diff")
    project.ok("dvc", "plots", "show", "-o", "plots_html")
    page = (project.folder / "plots_html/index.html").read_text()
    assert page.count("vegaEmbed(") >= 3
    assert all(title in page for title in ("top-1 against latency", "size on disk", "latency by batch size"))
    assert "tflite-fp16" in page
    shutil.rmtree(project.folder / "plots_html")


def test_results_are_compared_with_those_of_a_commit_image_by_image(project: Project) -> None:
    project.ok("git", "add", "-A")
    project.ok("git", "commit", "-qm", "one more variant")
    same = project.run("python", "-m", "stages", "check", "--against", "HEAD")
    assert same.returncode == 0, same.stdout + same.stderr
    assert same.stdout.splitlines()[-1] == "Nothing that was compared is worse than HEAD beyond noise."
    assert "compared by counts" not in same.stdout  # DVC's cache has the predictions of that commit
    path = project.folder / "reports/summary.json"
    summary = path.read_text()
    codec.write(slower(project.summary()), path)
    worse = project.run("python", "-m", "stages", "check", "--against", "HEAD")
    path.write_text(summary)
    assert worse.returncode == 5
    assert "Worse than HEAD: tflite-" in worse.stdout


def slower(summary: Summary) -> Summary:
    """All variants but the baseline take a hundred times as long."""

    def slow(speed: Speed) -> Speed:
        p50 = speed.latency.p50_ms * 100
        return replace(speed, latency=replace(speed.latency, p50_ms=p50, p50_ci95_ms=(p50, p50)))

    first, *others = summary.rows
    return replace(summary, rows=(first, *(replace(row, speeds=tuple(map(slow, row.speeds))) for row in others)))


def test_a_removed_variant_loses_its_row(project: Project) -> None:
    project.edit(lambda values: values["variants"].remove("tflite-fp16"))
    project.repro_ok()
    assert list(project.rows()) == VARIANTS


def test_unchanged_results_of_changed_parameters_are_a_run_tagged_as_cached(project: Project) -> None:
    earlier = {run.info.run_id: run.data.tags["variant"] for run in project.runs("variant")}
    project.edit(lambda values: values["model"].update(weights="./weights.h5"))
    assert "convert@tflite-int8" not in project.repro_ok()
    newest = project.runs("pipeline")[-1]
    assert newest.data.params["model.weights"] == "./weights.h5"
    children = [run for run in project.runs("variant") if run.data.tags["mlflow.parentRunId"] == newest.info.run_id]
    assert len(children) == len(VARIANTS)
    for run in children:
        assert run.data.tags["cached"] == "true"
        assert earlier[run.data.tags["cached_from"]] == run.data.tags["variant"]


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


def test_a_killed_conversion_costs_one_row(project: Project) -> None:
    project.edit(lambda values: values["calibration"].update(seed=1))
    killer = kill_child(project, "-m stages.convert tflite-int8")
    done = project.repro()
    killer.join()
    assert done.returncode == 1
    rows = project.rows()
    failed = rows["tflite-int8"]
    assert (failed.status.state, failed.status.stage) == ("failed", "convert")
    assert "SIGKILL, probably for lack of memory" in str(failed.status.reason)
    assert (failed.accuracy, failed.speeds) == (None, ())
    assert rows["tflite-fp32"].status.ok and rows["tflite-fp32"].speeds
    assert "| tflite-int8      | failed" in done.stdout
    assert done.stderr.splitlines()[-1].startswith("  tflite-int8 could not be converted: its process was ended by")


def test_the_next_run_retries_only_what_failed(project: Project) -> None:
    ran = project.repro_ok()
    assert sorted(ran) == sorted(["environment", "convert@tflite-int8", "evaluate@tflite-int8", "benchmark", *AFTER])
    assert project.rows()["tflite-int8"].status.ok


def test_a_killed_evaluation_and_benchmark_worker_cost_one_row_each(project: Project) -> None:
    project.edit(lambda values: values["evaluation"].update(batch_size=3))
    killer = kill_child(project, "-m stages.evaluate tflite-fp32")
    done = project.repro()
    killer.join()
    assert done.returncode == 1
    assert project.rows()["tflite-fp32"].status.stage == "evaluate"
    assert "SIGKILL" in str(project.rows()["tflite-fp32"].status.reason)
    assert project.rows()["tflite-int8"].status.ok
    project.edit(lambda values: values["benchmark"].update(min_samples=4))
    killer = kill_child(project, "-m stages.benchmark")
    done = project.repro()
    killer.join()
    assert done.returncode == 1
    (failed,) = [row for row in project.rows().values() if row.status.state == "failed"]
    assert failed.status.stage == "benchmark" and "SIGKILL" in str(failed.status.reason)
    project.repro_ok()
    assert {row.status.state for row in project.rows().values()} <= {"ok", "skipped"}


@pytest.mark.parametrize("stage", ["-m stages.convert tflite-int8", "-m stages.benchmark"])
def test_ctrl_c_ends_every_process_with_one_sentence(project: Project, heeded: None, stage: str) -> None:
    project.edit(lambda values: values["calibration"].update(seed=values["calibration"]["seed"] + 1))
    command = ("python", "-m", "stages", "run", "dvc", "repro", "--ignore-errors")
    # A group of its own, as a terminal gives it: Ctrl-C goes to all of the group at once.
    with subprocess.Popen(
        command, cwd=project.folder, env=project.environment, start_new_session=True, stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 120
        while not any(stage in line for line in command_lines(project)) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(2)  # into its work
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.splitlines()[-1] == (
        "error: interrupted: run the same command again, and it goes on where it stopped"
    )
    assert "Traceback" not in errors
    assert command_lines(project) == []
    project.repro_ok()
    assert project.rows()["tflite-int8"].status.ok


def command_lines(project: Project) -> list[str]:
    """Of every process that works in the project's folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        if process.info["cwd"] == str(project.folder):
            found.append(" ".join(process.info["cmdline"] or ()))
    return found


def test_a_failed_shared_stage_leaves_no_table_of_an_earlier_run(project: Project) -> None:
    project.edit(lambda values: values["evaluation"].update(source="nowhere"))
    done = project.repro()
    assert done.returncode == 1
    *_, verdict, reason = done.stderr.splitlines()
    assert verdict == "error: the stage `images` failed, so there is no table"
    assert reason.startswith(f"  there is no folder {project.folder}/nowhere (named in params.yaml as nowhere)")
    assert "| variant" not in done.stdout
    assert not (project.folder / "reports/summary.json").exists()
    project.edit(lambda values: values["evaluation"].update(source="photos"))
    project.repro_ok()


def test_an_added_photograph_is_noticed(project: Project) -> None:
    table = project.folder / "photos/labels.csv"
    Image.effect_noise((240, 300), 90).convert("RGB").save(project.folder / "photos/new.png")
    table.write_text(table.read_text() + "new.png,7\n")
    ran = project.repro_ok()
    assert "images" in ran and "evaluate@tflite-fp32" in ran
    assert "download" not in ran and "convert@tflite-fp32" not in ran and "benchmark" not in ran
    assert project.summary().evaluation.images == 7


def test_an_unreachable_server_loses_nothing(project: Project) -> None:
    project.edit(lambda values: values["model"].update(weights="././weights.h5"))
    before = len(project.runs("pipeline"))
    done = project.repro(MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "could not log to MLflow at http://127.0.0.1:9" in done.stderr
    assert "nothing is lost" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(project.runs("pipeline")) == before
    assert project.repro_ok() == ["environment", "track", "register"]
    assert len(project.runs("pipeline")) == before + 1


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


def test_a_queued_experiment_logs_to_the_same_store(project: Project) -> None:
    project.ok("git", "add", "-A")
    project.ok("git", "commit", "-qm", "before the sweep")
    project.ok("dvc", "exp", "run", "--queue", "-S", "variants=[savedmodel-fp32,tflite-fp32]", "-n", "two-variants")
    project.ok("dvc", "exp", "run", "--run-all")
    newest = project.runs("pipeline")[-1]
    assert newest.data.tags["dvc.experiment"] == "two-variants"
    assert newest.data.params["variants"] == "savedmodel-fp32,tflite-fp32"
    assert newest.data.params["evaluation.source"] == "photos"
    assert "two-variants" in project.ok("dvc", "exp", "show", "--csv")


def test_an_experiment_replaces_the_list_of_variants(project: Project) -> None:
    project.ok("dvc", "exp", "run", "-S", "variants=[savedmodel-fp32,tflite-int8]")
    assert list(project.rows()) == ["savedmodel-fp32", "tflite-int8"]


def test_a_runtime_from_a_folder_elsewhere_is_one_entry(project: Project, tmp_path: Path) -> None:
    """Its row stands in the table, and nothing of the others is converted or evaluated again."""
    shutil.copytree(ROOT / "tests/fixtures/toy", tmp_path / "toy")
    registry = project.folder / "stages/runtimes/registry.py"
    before = registry.read_text()
    registry.write_text(before.replace("RUNTIMES = {\n", 'RUNTIMES = {\n    "toy": "toy",\n'))
    project.edit(lambda values: values["variants"].append("toy-fp32"))
    path = os.pathsep.join([project.environment["PYTHONPATH"], str(tmp_path)])
    done = project.repro(PYTHONPATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    ran = stages_run(done.stdout)
    assert [stage for stage in ran if "@" in stage] == ["convert@toy-fp32", "evaluate@toy-fp32"]
    row = project.rows()["toy-fp32"]
    assert row.status.ok and row.accuracy and row.accuracy.top1.images == 7 and len(row.speeds) == 2
    assert row.conversion and row.conversion.proof and row.conversion.proof.facts == {"confidence": 0.9}
    assert re.search(r"^\| toy-fp32 +\| ok ", done.stdout, re.MULTILINE)
    (tmp_path / "toy/options.py").write_text((tmp_path / "toy/options.py").read_text().replace("0.9", "0.8"))
    again = stages_run(project.repro(PYTHONPATH=path).stdout)
    assert [stage for stage in again if "@" in stage] == ["convert@toy-fp32", "evaluate@toy-fp32"]
    registry.write_text(before)
    project.edit(lambda values: values["variants"].remove("toy-fp32"))


def test_results_travel_by_a_dvc_remote(project: Project, tmp_path: Path) -> None:
    project.ok("dvc", "remote", "add", "--default", "store", str(tmp_path))
    project.ok("dvc", "push")
    shutil.rmtree(project.folder / ".dvc/cache")
    shutil.rmtree(project.folder / "models/tflite-int8")
    project.ok("dvc", "pull", "--force")
    assert (project.folder / "models/tflite-int8/model.tflite").exists()
    assert project.repro_ok() == ["environment"]


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
        shot = ROOT / ".pytest_cache/mlflow_compare.png"
        shot.parent.mkdir(exist_ok=True)
        budget = ["--virtual-time-budget=60000", "--timeout=60000", "--window-size=1600,1400"]
        browse = [chromium, *options, *budget]
        subprocess.run([*browse, f"--screenshot={shot}", page], check=True, capture_output=True, timeout=180)
        dom = subprocess.run([*browse, "--dump-dom", page], check=True, capture_output=True, text=True, timeout=180)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
    for variant in ("savedmodel-fp32", "tflite-fp32", "tflite-int8"):
        assert variant in dom.stdout
    assert "p50_ms" in dom.stdout
    assert shot.stat().st_size > 20_000
