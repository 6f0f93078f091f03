"""A copy of this checkout in which the pipeline runs: real DVC, real conversions, a real MLflow store."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest
import yaml
from PIL import Image

from stages.contracts import codec
from stages.contracts.row import SUMMARY, Row, Summary

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
WEIGHTS = SHARED / "keras/models/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5"
# Logs every process that imports TensorFlow, by a hook that Python itself runs at the start of each; behind the wall
# around a model no file is opened for writing any more.
COUNT_IMPORTS = """
import os, sys
log = open(os.environ["TF_IMPORT_LOG"], "a", buffering=1)
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow.python":
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
    """The real MobileNetV2 weights where they exist, else random ones that tell one image from another."""
    if WEIGHTS.exists():
        shutil.copy(WEIGHTS, target)
        return
    code = f"""
import tensorflow as tf
tf.keras.utils.set_random_seed(0)
network = tf.keras.applications.MobileNetV2(weights=None)
for variable in network.variables:
    if "gamma" in variable.name:  # what each layer passes on would else fade
        variable.assign(4 * variable)
network.save_weights({str(target)!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def tiny(target: Path, classes: int) -> None:
    """A SavedModel of one convolution, which converts in a second."""
    call = f"save_tiny(Path({str(target)!r}), (32, 32, 3), {classes})"
    code = f"from pathlib import Path; from tests.fixtures.tiny import save_tiny; {call}"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)


def bare(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of this checkout's files, not yet a git repository, in which nothing has run."""
    folder = tmp_path_factory.mktemp("project")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return Project(folder, environment(tmp_path_factory.mktemp("hook")))


def environment(hook: Path) -> dict[str, str]:
    """Of all that runs in a project, with its own Python first and imports of TensorFlow logged in the folder."""
    (hook / "sitecustomize.py").write_text(COUNT_IMPORTS)
    own = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "DVC"))}
    return own | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(hook),
        "TF_IMPORT_LOG": str(hook / "imports.log"),
        "GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "test@example.com",
        "GIT_COMMITTER_NAME": "test", "GIT_COMMITTER_EMAIL": "test@example.com",
    }  # fmt: skip


def commit(project: Project) -> None:
    """Make it a git repository of all that is there and not excluded."""
    project.ok("git", "init", "-q")
    project.ok("git", "add", "-A")
    project.ok("git", "commit", "-qm", "start")


def start(tmp_path_factory: pytest.TempPathFactory, variants: list[str], own: bool = False) -> Project:
    """A git repository of this checkout, set to few images and calls, in which nothing has run.

    Its model is MobileNetV2, or with `own` a tiny one of the user's.
    """
    made = bare(tmp_path_factory)
    folder = made.folder
    photographs(folder / "photos", 6)
    if own:
        tiny(folder / "own", 6)
    else:
        weights(folder / "weights.h5")
    (folder / ".git/info").mkdir(parents=True)
    (folder / ".git/info/exclude").write_text("/photos\n/weights.h5\n/own\n")

    def small(values: dict[str, Any]) -> None:
        zoo = {"name": "mobilenet_v2", "weights": "weights.h5"}
        values["model"] |= {"name": "custom", "path": "own"} if own else zoo
        values["evaluation"] = {"source": "photos", "batch_size": 4}
        values["calibration"]["images"] = 8
        values["variants"] = variants
        # However busy this machine is, no row says so.
        quiet = {"max_foreign_cpu": 1.0, "retries": 0}
        values["benchmark"] |= {"batch_sizes": [1, 2], "min_samples": 3, "min_seconds": 0, **quiet}

    made.edit(small)
    commit(made)
    return made


FINISHED = ("savedmodel-fp32", "tftrt-fp16", "tflite-fp32", "tflite-int8", "onnxruntime-int8")


def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """A copy of the project with a tiny model after its first run, and what that printed.

    That run takes a minute, so the first process of the tests that asks makes it for all of them. A copy's own MLflow
    store is new to it: its first run logs there.
    """
    one = tmp_path_factory.getbasetemp()
    everyone = one.parent if "PYTEST_XDIST_WORKER" in os.environ else one
    made = everyone / "finished.json"
    with filelock.FileLock(everyone / "finished.lock"):
        if not made.exists():
            project = start(tmp_path_factory, list(FINISHED), own=True)
            done = project.repro()
            assert done.returncode == 0, done.stdout + done.stderr
            made.write_text(json.dumps([str(project.folder), done.stdout]))
    folder, output = json.loads(made.read_text())
    copy = tmp_path_factory.mktemp("copy") / "project"
    shutil.copytree(folder, copy, symlinks=True)
    return Project(copy, environment(tmp_path_factory.mktemp("hook"))), output


@pytest.fixture(autouse=True)
def no_leftovers(project: Project) -> Iterator[None]:
    """Whatever a test did, nothing half-written lies under data, models or reports."""
    yield
    left = [path for name in ("data", "models", "reports") for path in (project.folder / name).rglob("*.tmp")]
    assert left == []
