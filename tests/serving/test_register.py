import base64
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages import register
from stages.contracts import labels, paths, predictions
from stages.contracts.labels import Labels
from stages.contracts.preprocessing import Preprocessing
from stages.contracts.variant import Variant
from stages.core import errors, files
from stages.core.errors import PipelineError
from stages.data import batches, decode
from stages.measurement import evaluation
from stages.runtimes import runtime
from stages.runtimes.contract import Job
from stages.runtimes.shared import gpu_requirements
from tests.fixtures.models import free_port, save_tiny, wait_for

SHAPE = (8, 8, 3)
CLASSES = 6
SIZES = ((40, 30), (8, 8), (17, 23), (64, 200), (9, 12))
OPTIONS = {"savedmodel": {"tf32": True}, "tflite": {"xnnpack": True}, "tftrt": {"tf32": True}}
NAME = "efficientnet_lite0"
SENTENCE = "Ship it, the best of 3 within budget."
# A process that knows nothing but the name of the model: no PYTHONPATH, no current folder, no checkout.
FRESH = """
import json, sys
from pathlib import Path
import numpy as np
from PIL import Image
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
def imported():
    names = {name.partition(".")[0] for name in sys.modules}
    return sorted(names & {"stages", "dvc", "tensorflow", "ai_edge_litert"})
answers = []
for name in sys.argv[3:]:
    model = mlflow.pyfunc.load_model(name)
    before, rows = imported(), []
    for path in sorted(Path(sys.argv[2]).glob("*.jpg")):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert pixels.dtype == np.uint8
        rows += model.predict(np.stack([pixels])).to_dict("records")
    answers.append({"before": before, "after": imported(), "rows": rows})
print(json.dumps(answers))
"""


def preprocessing() -> dict[str, Any]:
    return {
        "height": 8, "width": 8, "resize": "crop", "crop_fraction": 0.875,
        "scale": [1 / 128] * 3, "offset": [-127 / 128] * 3, "channels": "rgb",
    }  # fmt: skip


def photographs(folder: Path) -> None:
    """JPEGs of several sizes, no two alike."""
    folder.mkdir(parents=True)
    for index, (width, height) in enumerate(SIZES):
        coarse = np.random.default_rng(index).integers(0, 256, (3, 3, 3), np.uint8)
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{index}.jpg")
    lines = [f"{index}.jpg,{index}" for index in range(len(SIZES))]
    (folder / "labels.csv").write_text("\n".join(["file,label", *lines, ""]))


def converted(name: str, folder: Path, convert: Callable[[Path], Any]) -> None:
    """A variant's folder and record, as `convert` writes them."""
    engine, precision, qat = astuple(Variant.parse(name))
    place = folder / paths.model(name)
    place.mkdir(parents=True)
    convert(place)
    header = {"variant": name, "runtime": engine, "precision": precision, "qat": qat, "status": "ok", "reason": None}
    record = header | {"model_sha256": files.tree_digest(place)}
    files.write_json(folder / paths.record(name, "convert.json"), record)
    files.write_json(place / paths.MANIFEST, header | {"options": OPTIONS[engine]})


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with photographs and three real variants of a tiny model."""
    folder = tmp_path_factory.mktemp("built")
    photographs(folder / paths.EVALUATION)
    names = tuple(f"class {index}" for index in range(CLASSES))
    labels.write(Labels(names, tuple(f"n{index:08}" for index in range(CLASSES))), folder / paths.LABELS)
    files.write_json(folder / paths.MODEL, {"name": NAME, "preprocessing": preprocessing()})
    save_tiny(folder / "tiny", SHAPE, CLASSES)
    photos = batches.files(folder / paths.EVALUATION)

    def calibration(size: int) -> Iterator[Any]:
        return batches.batches(photos, Preprocessing.from_json(preprocessing()), size)

    for name in ("savedmodel-fp32", "tflite-fp32", "tflite-int8"):
        engine, precision, _ = astuple(Variant.parse(name))

        def convert(target: Path, engine: str = engine, precision: str = precision) -> None:
            job = Job(
                folder / "tiny", folder / "tiny.onnx", target, precision, SHAPE, calibration, (1,), OPTIONS[engine]
            )
            runtime(engine).convert(job)

        converted(name, folder, convert)
    return folder


class Project:
    """A checkout in which `register` runs, and the store it writes to."""

    def __init__(self, folder: Path, command_line: Callable[..., None]) -> None:
        self.folder = folder
        self.command_line = command_line
        self.use(f"sqlite:///{folder}/mlflow.db", (folder / "mlartifacts").as_uri())

    def use(self, uri: str, artifacts: str | None) -> None:
        """Work with that store, to which `track` has logged a run."""
        import mlflow

        self.uri = uri
        self.client = mlflow.MlflowClient(uri)
        self.experiment = self.client.create_experiment("trt-pipeline", artifacts)
        self.run = self.client.create_run(self.experiment).info.run_id
        self.client.set_terminated(self.run)
        files.write_json(paths.TRACK, {"key": "a key", "uri": uri, "run": self.run})

    def choose(self, winner: str | None, outcome: str = "selected", rivals: tuple[str, ...] = ()) -> None:
        """What `summarize` and `select` write."""
        rows = [
            {"variant": path.name, "top1": 0.875, "latency": {"1": {"p50_ms": 1.25}, "8": {"p50_ms": 9.5}}}
            for path in Path("models").iterdir()
        ]
        files.write_json(paths.SUMMARY, {"rows": rows})
        chosen = {"outcome": outcome, "winner": winner, "batch_size": 1, "sentence": SENTENCE, "rivals": rivals}
        files.write_json(paths.SELECTION, chosen)

    def register(self, winner: str) -> None:
        self.choose(winner)
        self.main()

    def main(self) -> None:
        self.command_line("--checkout", self.folder)
        register.main()

    def aliases(self) -> dict[str, int]:
        found = self.client.search_registered_models()
        return {alias: int(version) for model in found for alias, version in model.aliases.items()}

    def versions(self) -> dict[int, str]:
        found = self.client.search_model_versions(f"name = '{NAME}'")
        return {int(version.version): version.tags["variant"] for version in found}

    def logged(self) -> list[str]:
        return [str(model.status) for model in self.client.search_logged_models([self.experiment])]

    def fresh(self, *names: str) -> Any:
        """What a process that has never seen the checkout predicts."""
        photos = self.folder.parent / "photos"
        shutil.copytree(paths.EVALUATION, photos, dirs_exist_ok=True)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "PYTHON"))}
        done = subprocess.run(
            [sys.executable, "-I", "-c", FRESH, self.uri, str(photos), *names],
            cwd="/", env=environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def project(
    checkout: Path, no_gpu: dict[str, Any], built: Path, migrated: Path, command_line: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> Project:  # fmt: skip
    shutil.copytree(built, checkout, dirs_exist_ok=True)
    shutil.copy(migrated, checkout / "mlflow.db")
    files.write_json(paths.ENVIRONMENT, no_gpu)
    settings = ("TRACKING_URI", "REGISTRY_URI", "HTTP_REQUEST_MAX_RETRIES", "HTTP_REQUEST_TIMEOUT")
    for name in settings:
        monkeypatch.setenv(f"MLFLOW_{name}", "")
        monkeypatch.delenv(f"MLFLOW_{name}")
    return Project(checkout, command_line)


def expected(variant: str) -> list[tuple[list[int], list[str]]]:
    """What `evaluate` predicts, as predictions.csv has it."""
    evaluation.evaluate(variant, 4)
    found = predictions.read(paths.record(variant, "predictions.csv"))
    return [(line.classes, [f"{score:.7g}" for score in line.scores]) for line in found]


def answered(rows: list[dict[str, Any]]) -> list[tuple[list[int], list[str]]]:
    return [(row["top5_labels"], [f"{score:.7g}" for score in row["top5_scores"]]) for row in rows]


def test_the_winner_is_the_champion_and_says_what_it_is(
    project: Project, no_gpu: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    project.register("tflite-int8")
    assert tuple(capfd.readouterr()) == (f"{NAME}: version 1, tflite-int8, is now the champion\n", "")
    version = project.client.get_model_version_by_alias(NAME, "champion")
    assert (version.run_id, version.tags["run"]) == (project.run, project.run)
    assert version.tags["model_sha256"] == files.read_json(paths.record("tflite-int8", "convert.json"))["model_sha256"]
    assert version.tags["environment"] == register.digest(no_gpu)
    assert (version.tags["top1"], version.tags["p50_ms"], version.tags["reason"]) == ("0.875", "1.25", SENTENCE)
    assert "requires" not in version.tags
    assert version.description == (
        f"tflite-int8 of pipeline run {project.run}: top-1 87.5%, p50 1.25 ms at batch 1. {SENTENCE}"
    )
    (model,) = project.client.get_run(project.run).outputs.model_outputs
    assert version.source == project.client.get_logged_model(model.model_id).artifact_location
    receipt = files.read_json(paths.REGISTER)
    assert (receipt["uri"], receipt["name"], receipt["version"]) == (project.uri, NAME, "1")


def test_the_model_holds_its_signature_an_example_and_only_what_its_runtime_needs(project: Project) -> None:
    project.register("tflite-fp32")
    (place,) = (project.folder / "mlartifacts").glob("models/*/artifacts")
    needed = [line.partition("==")[0] for line in (place / "requirements.txt").read_text().splitlines()]
    assert sorted(needed) == ["ai-edge-litert", "mlflow", "numpy", "pandas", "pillow"]
    assert all("==" in line for line in (place / "requirements.txt").read_text().splitlines())
    assert {"input_example.json", "serving_input_example.json"} <= {path.name for path in place.iterdir()}
    described = (place / "MLmodel").read_text()
    assert all(f'"name": "{name}"' in " ".join(described.split()) for name in ("image", "label", "top5_scores"))
    travelling = {path.name for path in place.rglob("*.py")}
    assert "tflite.py" in travelling
    assert not travelling & {"params.py", "savedmodel.py", "tftrt.py", "stopwatch.py", "zoo.py", "store.py"}


def test_a_process_without_the_repository_predicts_what_evaluate_did(project: Project) -> None:
    """With the champion, and in the same process with the one before it."""
    project.register("tflite-int8")
    project.register("savedmodel-fp32")
    wanted = {name: expected(name) for name in ("tflite-int8", "savedmodel-fp32")}
    shutil.rmtree("models")
    before, now = project.fresh(f"models:/{NAME}@previous-champion", f"models:/{NAME}@champion")
    assert answered(before["rows"]) == wanted["tflite-int8"]
    assert (before["before"], before["after"]) == ([], ["ai_edge_litert"])
    first = before["rows"][0]
    best = first["label"]
    assert best == first["top5_labels"][0] and first["score"] == first["top5_scores"][0]
    assert (first["name"], first["wnid"]) == (f"class {best}", f"n{best:08}")
    assert first["top5_names"] == [f"class {index}" for index in first["top5_labels"]]
    for (classes, scores), (same, close) in zip(answered(now["rows"]), wanted["savedmodel-fp32"], strict=True):
        assert classes == same
        # TensorFlow adds up in another order at another batch size.
        np.testing.assert_allclose(np.array(scores, float), np.array(close, float), rtol=1e-5)
    assert now["after"] == ["ai_edge_litert", "tensorflow"]


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
    asked = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=30) as response:
        return json.load(response)["predictions"]


def test_a_served_champion_answers_a_jpeg(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    project.register("tflite-int8")
    wanted = expected("tflite-int8")
    photos = batches.files(paths.EVALUATION)
    encoded = [base64.b64encode(path.read_bytes()).decode() for path in photos]
    port = free_port()
    address = f"http://127.0.0.1:{port}/invocations"
    serve = ("models", "serve", "-m", f"models:/{NAME}@champion", "--env-manager", "local", "-p", str(port))
    with running(*serve, health=f"http://127.0.0.1:{port}/ping", environment={"MLFLOW_TRACKING_URI": project.uri}):
        assert answered(post(address, {"inputs": encoded})) == wanted
        frame = {"columns": ["image"], "data": [[text] for text in encoded]}
        assert answered(post(address, {"dataframe_split": frame})) == wanted
        pixels = [np.asarray(decode.decode(path)).tolist() for path in photos]
        assert answered(post(address, {"inputs": pixels})) == wanted
        (example,) = (project.folder / "mlartifacts").rglob("serving_input_example.json")
        assert len(post(address, json.loads(example.read_text()))) == 1
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(address, {"inputs": [base64.b64encode(b"no image").decode()]})
        assert refused.value.code == 400
        assert "image 0 of this request: its bytes are no image file" in refused.value.read().decode()


@pytest.mark.parametrize("receipt", ["kept", "lost"])
def test_the_same_model_again_is_no_new_version(
    project: Project, receipt: str, capfd: pytest.CaptureFixture[str]
) -> None:
    project.register("tflite-int8")
    before = paths.REGISTER.read_bytes()
    if receipt == "lost":
        paths.REGISTER.unlink()
    capfd.readouterr()
    project.main()
    assert tuple(capfd.readouterr()) == ("", "")
    assert (project.versions(), project.aliases()) == ({1: "tflite-int8"}, {"champion": 1})
    assert paths.REGISTER.read_bytes() == before


def test_nothing_new_is_found_out_without_mlflow(project: Project) -> None:
    project.register("tflite-int8")
    code = "import sys; from stages import register; register.main(); sys.exit('mlflow' in sys.modules)"
    root = str(Path(register.__file__).parents[1])
    command = [sys.executable, "-c", code, "--checkout", str(project.folder)]
    assert subprocess.run(command, env=os.environ | {"PYTHONPATH": root}).returncode == 0


def test_a_receipt_does_not_hide_a_store_that_is_gone(project: Project, migrated: Path) -> None:
    project.register("tflite-int8")
    shutil.copy(migrated, project.folder / "mlflow.db")
    project.use(project.uri, (project.folder / "mlartifacts").as_uri())
    assert not register.has_champion(project.uri, NAME)
    (project.folder / "mlflow.db").rename("elsewhere")
    assert not register.has_champion(project.uri, NAME)


def test_a_champion_that_somebody_deleted_comes_back(project: Project) -> None:
    project.register("tflite-int8")
    project.client.delete_registered_model_alias(NAME, "champion")
    project.main()
    assert (project.versions(), project.aliases()) == ({1: "tflite-int8"}, {"champion": 1})


def test_a_champion_that_somebody_chose_stays(project: Project) -> None:
    project.register("tflite-fp32")
    project.register("tflite-int8")
    project.client.set_registered_model_alias(NAME, "champion", "1")
    project.main()
    assert project.aliases()["champion"] == 1


@pytest.mark.parametrize("text", ["{", "[]", "null"])
def test_a_damaged_receipt_is_none(project: Project, text: str) -> None:
    project.register("tflite-int8")
    before = paths.REGISTER.read_text()
    paths.REGISTER.write_text(text)
    project.main()
    assert paths.REGISTER.read_text() == before


def test_another_winner_takes_the_alias_and_the_old_one_stays_reachable(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    project.register("tflite-fp32")
    project.register("tflite-int8")
    assert project.aliases() == {"champion": 2, "previous-champion": 1}
    project.register("savedmodel-fp32")
    assert project.aliases() == {"champion": 3, "previous-champion": 2}
    capfd.readouterr()
    project.register("tflite-int8")
    told = f"{NAME}: version 2, tflite-int8, is now the champion, and version 3 the previous-champion\n"
    assert tuple(capfd.readouterr()) == (told, "")
    assert project.aliases() == {"champion": 2, "previous-champion": 3}
    assert project.versions() == {1: "tflite-fp32", 2: "tflite-int8", 3: "savedmodel-fp32"}


def test_of_two_versions_alike_the_champion_is_kept(project: Project) -> None:
    project.register("tflite-int8")
    first = project.client.get_model_version_by_alias(NAME, "champion")
    project.client.create_model_version(NAME, first.source, first.run_id, first.tags)
    paths.REGISTER.unlink()
    project.main()
    assert project.aliases() == {"champion": 1}


def test_other_preprocessing_of_the_same_file_is_another_version(project: Project) -> None:
    project.register("tflite-int8")
    record = files.read_json(paths.MODEL)
    record["preprocessing"]["crop_fraction"] = 1.0
    files.write_json(paths.MODEL, record)
    project.main()
    assert project.aliases() == {"champion": 2, "previous-champion": 1}


@pytest.mark.parametrize(("outcome", "winner"), [("cannot tell", "tflite-fp32"), ("nothing within budget", None)])
def test_without_a_choice_the_registry_stays_as_it_is(
    project: Project, outcome: str, winner: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    project.choose(winner, outcome)
    project.main()
    assert tuple(capfd.readouterr()) == (f"{outcome}: the model registry stays as it is\n", "")
    assert project.client.search_registered_models() == []
    assert paths.REGISTER.exists()
    project.register("tflite-int8")
    project.choose(winner, outcome)
    project.main()
    assert (project.versions(), project.aliases()) == ({1: "tflite-int8"}, {"champion": 1})


STEPS = (
    "create_logged_model", "log_model_artifacts", "finalize_logged_model", "create_registered_model",
    "create_model_version", "update_model_version", "set_registered_model_alias",
)  # fmt: skip


def test_a_champion_that_cannot_be_told_from_the_winner_stays(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    project.register("tflite-int8")
    capfd.readouterr()
    project.choose("tflite-fp32", rivals=("savedmodel-fp32", "tflite-int8"))
    project.main()
    told = "efficientnet_lite0: version 1, tflite-int8, cannot be told from tflite-fp32 and stays the champion\n"
    assert capfd.readouterr().out == told
    assert (project.versions(), project.aliases()) == ({1: "tflite-int8"}, {"champion": 1})
    project.register("tflite-fp32")
    assert project.aliases() == {"champion": 2, "previous-champion": 1}


def test_an_experiment_leaves_the_registry_as_it_is(
    project: Project, command_line: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    project.choose("tflite-int8")
    command_line("--checkout", project.folder, "--experiment", "deft-name")
    register.main()
    assert capfd.readouterr().out == "the experiment deft-name: the model registry stays as it is\n"
    assert project.client.search_registered_models() == []


def interrupt(monkeypatch: pytest.MonkeyPatch, project: Project, step: str, calls: int = 1) -> None:
    """Run the stage until it takes that step for the n-th time, and end it there."""
    import mlflow

    take = getattr(mlflow.MlflowClient, step)
    left = [calls]

    def stop(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return take(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, step, stop)
        with pytest.raises(KeyboardInterrupt):
            project.main()
    assert not paths.REGISTER.exists()


@pytest.mark.parametrize("step", STEPS)
def test_an_interrupted_run_is_gone_on_with(project: Project, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    project.choose("tflite-int8")
    interrupt(monkeypatch, project, step)
    assert project.aliases() == {}
    project.main()
    assert (project.versions(), project.aliases()) == ({1: "tflite-int8"}, {"champion": 1})
    assert project.logged() == ["READY"]
    version = project.client.get_model_version_by_alias(NAME, "champion")
    assert version.tags["reason"] == SENTENCE and version.description
    assert files.read_json(paths.REGISTER)["version"] == "1"


@pytest.mark.parametrize("calls", [1, 2], ids=["before both aliases", "between the aliases"])
def test_an_interrupted_move_leaves_the_old_champion_and_is_then_done(
    project: Project, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.register("tflite-fp32")
    project.choose("tflite-int8")
    interrupt(monkeypatch, project, "set_registered_model_alias", calls)
    assert project.aliases()["champion"] == 1
    project.main()
    assert project.aliases() == {"champion": 2, "previous-champion": 1}
    assert project.versions() == {1: "tflite-fp32", 2: "tflite-int8"}


def test_a_server_works_as_a_file_does(
    project: Project, migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
        project.choose("tflite-int8")
        interrupt(monkeypatch, project, "create_model_version")
        project.main()
        project.main()
        assert (project.versions(), project.aliases()) == ({1: "tflite-int8"}, {"champion": 1})
        (answer,) = project.fresh(f"models:/{NAME}@champion")
        assert answered(answer["rows"]) == expected("tflite-int8")
    # The server is gone: one sentence, and nothing half-written.
    project.choose("tflite-fp32")
    with pytest.raises(PipelineError, match=r"could not register tflite-fp32 in MLflow at http://127\.0\.0\.1:\d+ \("):
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        project.main()
    assert not paths.REGISTER.exists()


def test_an_unreachable_server_is_one_sentence(
    project: Project, edit: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    project.choose("tflite-int8")
    edit(("tracking.uri", "http://127.0.0.1:9"))
    files.write_json(paths.TRACK, {"key": "a key", "uri": "http://127.0.0.1:9", "run": "a run"})
    with pytest.raises(SystemExit) as end:
        errors.run(project.main)
    assert end.value.code == 1
    assert capsys.readouterr().err == (
        "error: could not register tflite-int8 in MLflow at http://127.0.0.1:9 (no server answers there): the champion "
        "is what it was, `make repro` registers it once the store answers\n"
    )
    assert not paths.REGISTER.exists()


def test_a_run_of_another_store_is_refused(project: Project) -> None:
    project.choose("tflite-int8")
    files.write_json(paths.TRACK, {"key": "a key", "uri": "http://elsewhere", "run": project.run})
    with pytest.raises(PipelineError, match=r"reports/track\.json is of another store than sqlite:"):
        project.main()
    assert project.client.search_registered_models() == []


def test_a_tensorrt_winner_says_what_it_requires(
    project: Project, machine: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    files.write_json(paths.ENVIRONMENT, machine)

    def convert(target: Path) -> None:
        shutil.copytree(project.folder / "tiny", target, dirs_exist_ok=True)
        files.write_json(target / "batch_sizes.json", [1, 8])
        files.write_text(target / "assets/trt-serialized-engine.TRTEngineOp_0", "an engine")

    converted("tftrt-fp16", Path(), convert)
    project.register("tftrt-fp16")
    assert capfd.readouterr().err == ""
    version = project.client.get_model_version_by_alias(NAME, "champion")
    assert version.tags["requires"] == (
        "an NVIDIA GPU of compute capability 7.5 (its engines were built on a NVIDIA T4) and TensorRT 8.5.3"
    )
    assert version.description.endswith(f"Requires {version.tags['requires']}.")
    (place,) = (project.folder / "mlartifacts").glob("models/*/artifacts")
    assert (place / "data/served/model/assets/trt-serialized-engine.TRTEngineOp_0").exists()
    assert "tensorflow[and-cuda]==" in (place / "requirements.txt").read_text()
    assert {"tftrt.py", "tftrt_proof.py", "savedmodel.py"} <= {path.name for path in place.rglob("*.py")}


@pytest.mark.parametrize("wheel", gpu_requirements.TENSORRT_WHEELS)
def test_native_engines_require_the_tensorrt_that_built_them(monkeypatch: pytest.MonkeyPatch, wheel: str) -> None:
    have = {*register.REQUIRED, wheel, wheel.replace("bindings", "libs"), "cuda-bindings"}

    def version(name: str) -> str:
        if name not in have:
            raise PackageNotFoundError(name)
        return "1.2"

    monkeypatch.setattr(register, "installed", version)
    found = {line.partition("==")[0] for line in register.requirements("tensorrt")}
    assert found == have


@pytest.mark.parametrize(
    ("model", "name"), [("efficientnet_lite0", "efficientnet_lite0"), ("a.b/c:d", "a_b_c_d"), ("Res-Net", "Res-Net")]
)
def test_a_registered_name_has_no_dots_or_slashes(model: str, name: str) -> None:
    assert register.registered_name(model) == name


def test_travelling_code_has_a_package_of_its_own(tmp_path: Path) -> None:
    package = register.copy_code("tftrt", tmp_path)
    assert package == register.copy_code("tftrt", tmp_path / "again")
    assert package != register.copy_code("tflite", tmp_path)
    code = "".join(path.read_text() for path in (tmp_path / package).rglob("*.py"))
    assert f"from {package}.data.decode import" in code and f'f"{package}.runtimes.{{name}}"' in code
    assert not re.findall(r"^ *(?:from|import) stages\b|[\"']stages\.", code, re.MULTILINE)
