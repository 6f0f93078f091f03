"""The champion of real variants: loaded where nothing but MLflow is, and served over HTTP."""

import base64
import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.contracts import codec, labels, predictions
from stages.contracts.conversion import folder
from stages.contracts.environment import ENVIRONMENT, Environment
from stages.contracts.evaluation import predictions_path
from stages.contracts.labels import Labels
from stages.contracts.messages import PredictOrder
from stages.core import files
from stages.core.errors import PipelineError
from stages.data import decode
from stages.runtimes import environments, loading, predict
from stages.serving import package
from stages.tracking.receipts import REGISTER
from tests.fixtures import variants
from tests.fixtures.models import free_port, wait_for
from tests.fixtures.records import PREPARED, Results, measured_in
from tests.tracking.project import NAME, Project

SIZES = ((40, 30), (8, 8), (17, 23), (64, 200), (9, 12))
# A process that knows nothing but the name of the model: no PYTHONPATH, no current folder, no checkout.
FRESH = """
import json, sys
from pathlib import Path
import numpy as np
from PIL import Image
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
rows = []
model = mlflow.pyfunc.load_model(sys.argv[3])
for path in sorted(Path(sys.argv[2]).glob("*.jpg")):
    rows += model.predict(np.stack([np.asarray(Image.open(path).convert("RGB"))])).to_dict("records")
imported = {name.partition(".")[0] for name in sys.modules} & {"stages", "dvc", "tensorflow"}
print(json.dumps({"rows": rows, "imported": sorted(imported)}))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return variants.build(tmp_path_factory.mktemp("built"))


@pytest.fixture
def project(built: Path, main_checkout: Path, results: Results, command_line: Callable[..., None]) -> Project:
    names = tuple(f"class {index}" for index in range(variants.CLASSES))
    labels.write(Labels(names, tuple(f"n{index:08}" for index in range(variants.CLASSES))))
    return Project(main_checkout, built, results, command_line)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """JPEGs of several sizes, no two alike."""
    place = tmp_path / "images"
    place.mkdir()
    for index, size in enumerate(SIZES):
        coarse = np.random.default_rng(index).integers(0, 256, (3, 3, 3), np.uint8)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(place / f"{index}.jpg")
    files.write_csv(place / "labels.csv", ("file", "label"), ((f"{index}.jpg", index) for index in range(len(SIZES))))
    return sorted(place.glob("*.jpg"))


Answers = list[tuple[list[int], list[str]]]


def measured(name: str, images: list[Path]) -> Answers:
    """What `evaluate` predicts, as predictions.csv has it."""
    target = predictions_path(name)
    order = PredictOrder(str(images[0].parent), str(target), 4)
    predict.predict(loading.load(folder(name)), PREPARED, order, name)
    return [(line.classes, [f"{score:.7g}" for score in line.scores]) for line in predictions.read(target)]


def answered(rows: list[dict[str, Any]]) -> Answers:
    return [(row["top5_labels"], [f"{score:.7g}" for score in row["top5_scores"]]) for row in rows]


def fresh(project: Project, images: list[Path]) -> Any:
    """What a process that has never seen the checkout predicts."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "PYTHON"))}
    command = [sys.executable, "-I", "-c", FRESH, project.uri, str(images[0].parent), f"models:/{NAME}@champion"]
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def running(*command: str, health: str, environment: dict[str, str]) -> Iterator[None]:
    """A server of MLflow's, once it answers."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "PYTHONPATH"))}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with subprocess.Popen(
        [sys.executable, "-m", "mlflow", *command], cwd="/", env=inherited | {"PATH": path} | environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            wait_for(health, process)
            yield
        finally:
            os.killpg(process.pid, 15)


def post(address: str, request: Any) -> Any:
    body = json.dumps(request).encode()
    message = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(message, timeout=30) as response:
        return json.load(response)["predictions"]


def test_a_process_without_the_repository_predicts_what_evaluate_did(project: Project, images: list[Path]) -> None:
    project.register("tflite-int8")
    expected = measured("tflite-int8", images)
    shutil.rmtree("models")
    answer = fresh(project, images)
    assert (answered(answer["rows"]), answer["imported"]) == (expected, [])
    first = answer["rows"][0]
    best = first["label"]
    assert best == first["top5_labels"][0] and first["score"] == first["top5_scores"][0]
    assert (first["name"], first["wnid"]) == (f"class {best}", f"n{best:08}")
    assert first["top5_names"] == [f"class {index}" for index in first["top5_labels"]]


def test_a_champion_of_an_environment_of_its_own_records_that_and_is_loaded_elsewhere(
    project: Project, built: Path, results: Results, images: list[Path]
) -> None:
    """ONNX Runtime's: MLflow would write down the Python that saves the model."""
    name, own = "onnxruntime-int8", environments.lock("onnxruntime")
    assert own
    made = environments.make(own)
    variants.copy(built, name)
    codec.write(measured_in(own.name, codec.read(Environment, ENVIRONMENT)), ENVIRONMENT)
    results.evaluated(name, [0] * 7 + [1])
    results.timed(name, 1.25)
    project.summarize("savedmodel-fp32", name)
    project.register(name)
    expected = measured(name, images)
    (described,) = (project.folder / "mlartifacts").rglob("MLmodel")
    pinned = own.versions(made.python)
    requirements = (described.parent / "requirements.txt").read_text().splitlines()
    assert {f"{library}=={pinned[library]}" for library in ("onnxruntime", "numpy", "pillow")} <= set(requirements)
    assert f"python_version: {made.python}\n" in described.read_text()
    assert f"python: {made.python}\n" in (described.parent / "python_env.yaml").read_text()
    assert (described.parent / package.LOCK).read_text() == own.path.read_text()
    (version,) = project.client.search_model_versions(f"name='{NAME}'")
    assert (version.tags["python"], version.tags["lock"]) == ("3.10", own.sha256)
    assert answered(fresh(project, images)["rows"]) == expected


def test_a_served_champion_answers_a_jpeg(
    project: Project, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    project.register("tflite-int8")
    expected = measured("tflite-int8", images)
    encoded = [base64.b64encode(path.read_bytes()).decode() for path in images]
    port = free_port()
    address = f"http://127.0.0.1:{port}/invocations"
    serve = ("models", "serve", "-m", f"models:/{NAME}@champion", "--env-manager", "local", "-p", str(port))
    with running(*serve, health=f"http://127.0.0.1:{port}/ping", environment={"MLFLOW_TRACKING_URI": project.uri}):
        assert answered(post(address, {"inputs": encoded})) == expected
        frame = {"columns": ["image"], "data": [[text] for text in encoded]}
        assert answered(post(address, {"dataframe_split": frame})) == expected
        pixels = [np.asarray(decode.decode(path)).tolist() for path in images]
        assert answered(post(address, {"inputs": pixels})) == expected
        (example,) = (project.folder / "mlartifacts").rglob("serving_input_example.json")
        assert len(post(address, json.loads(example.read_text()))) == 1
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(address, {"inputs": [base64.b64encode(b"no image").decode()]})
        assert refused.value.code == 400
        assert "image 0 of this request" in refused.value.read().decode()


def test_a_server_works_as_a_file_does(
    project: Project, images: list[Path], migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    shutil.copy(migrated, tmp_path / "server.db")
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    command = ("server", "--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--workers", "1")
    place = ("--artifacts-destination", str(tmp_path / "served"), "--host", "127.0.0.1", "--port", str(port))
    with running(*command, *place, health=f"{uri}/health", environment={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        project.use(uri, None)
        project.register("tflite-int8")
        project.main()
        assert (project.versions(), project.aliases()) == ({1: "tflite-int8"}, {"champion": 1})
        assert answered(fresh(project, images)["rows"]) == measured("tflite-int8", images)
    # The server is gone: one sentence, and nothing half-written.
    project.choose("tflite-fp32")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(PipelineError) as caught:
        project.main()
    assert (caught.value.code, caught.value.values) == ("not-registered", {"variant": "tflite-fp32", "uri": uri})
    assert not REGISTER.exists()
