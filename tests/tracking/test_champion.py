import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stages import register as stage
from stages.contracts import codec
from stages.contracts.conversion import Conversion, conversion_path
from stages.contracts.environment import ENVIRONMENT, Environment
from stages.contracts.model import MODEL, ModelRecord
from stages.contracts.selection import Outcome
from stages.core import files
from stages.core.errors import PipelineError
from stages.tracking import receipts
from stages.tracking.receipts import REGISTER, TRACK, RegisterReceipt, TrackReceipt
from stages.tracking.store import digest, stamp
from tests.fixtures.errors import assert_helps
from tests.fixtures.records import GPU_MACHINE, Results, environment, measured_in
from tests.tracking.project import NAME, SENTENCE, VARIANTS, Project

STEPS = (
    "create_logged_model", "log_model_artifacts", "finalize_logged_model", "create_registered_model",
    "create_model_version", "update_model_version", "set_registered_model_alias",
)  # fmt: skip
FIRST = {1: "tflite-int8"}, {"champion": 1}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that nobody loads."""
    folder = tmp_path_factory.mktemp("built")
    for name in (*VARIANTS, "tftrt-fp16"):
        files.write_text(folder / name / "model", name)
    files.write_text(folder / "tftrt-fp16/assets/trt-serialized-engine.TRTEngineOp_0", "an engine")
    return folder


@pytest.fixture
def project(built: Path, main_checkout: Path, results: Results, command_line: Callable[..., None]) -> Project:
    files.write_text(Path("data/model/labels.csv"), "index,wnid,name\n0,n0,a\n")
    return Project(main_checkout, built, results, command_line)


def state(project: Project) -> tuple[dict[int, str], dict[str, int]]:
    return project.versions(), project.aliases()


def receipt() -> RegisterReceipt:
    return codec.read(RegisterReceipt, REGISTER)


def test_the_winner_is_the_champion_and_says_what_it_is(project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    project.register("tflite-int8")
    out, err = capfd.readouterr()
    assert (out.count("\n"), err) == (1, "")
    assert all(word in out for word in (NAME, "version 1", "tflite-int8", "champion"))
    version = project.client.get_model_version_by_alias(NAME, "champion")
    assert (version.run_id, version.tags["run"]) == (project.run, project.run)
    assert version.tags["model_sha256"] == codec.read(Conversion, conversion_path("tflite-int8")).sha256
    assert version.tags["environment"] == digest(codec.read(Environment, ENVIRONMENT))
    story = {name: version.tags[name] for name in ("top1", "p50_ms", "p50_batch_size", "reason")}
    assert story == {"top1": "0.875", "p50_ms": "1.25", "p50_batch_size": "1", "reason": SENTENCE}
    assert "requires" not in version.tags
    for told in ("tflite-int8", project.run, "87.5%", "1.25 ms at batch 1", SENTENCE):
        assert told in version.description
    (model,) = project.client.get_run(project.run).outputs.model_outputs
    assert version.source == project.client.get_logged_model(model.model_id).artifact_location


def test_the_receipt_names_the_version_and_the_state_of_the_store(project: Project) -> None:
    project.register("tflite-int8")
    own = receipt()
    assert (own.uri, own.name, own.version, own.variant) == (project.uri, NAME, "1", "tflite-int8")
    assert (own.run, own.database) == (project.run, stamp(project.uri))
    assert receipts.champion() == "tflite-int8"
    # What `track` left is as good as it was, although the store has changed since.
    assert receipts.tracked("a key", project.uri) == codec.read(TrackReceipt, TRACK)


def test_a_model_has_its_signature_an_example_and_what_it_needs(project: Project) -> None:
    project.register("tflite-fp32")
    (place,) = (project.folder / "mlartifacts").glob("models/*/artifacts")
    lines = (place / "requirements.txt").read_text().splitlines()
    assert {line.partition("==")[0] for line in lines} == {
        "ai-edge-litert", "mlflow", "msgspec", "numpy", "pandas", "pillow",
    }  # fmt: skip
    assert {"input_example.json", "serving_input_example.json"} <= {path.name for path in place.iterdir()}
    described = " ".join((place / "MLmodel").read_text().split())
    assert all(f'"name": "{name}"' in described for name in ("image", "label", "top5_scores"))
    assert {"session.py", "pyfunc.py"} <= {path.name for path in place.rglob("*.py")}


@pytest.mark.parametrize("lost", [False, True])
def test_the_same_model_again_is_no_new_version(
    project: Project, lost: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    project.register("tflite-int8")
    before = receipt()
    if lost:
        REGISTER.unlink()
    capfd.readouterr()
    project.main()
    assert tuple(capfd.readouterr()) == ("", "")
    assert state(project) == FIRST
    assert replace(receipt(), database=None) == replace(before, database=None)


def test_nothing_new_is_seen_without_mlflow(project: Project) -> None:
    project.register("tflite-int8")
    code = "import sys; from stages import register; register.main(); sys.exit('mlflow' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(Path(stage.__file__).parents[1])}
    command = [sys.executable, "-c", code, "--checkout", str(project.folder)]
    assert subprocess.run(command, env=environment, check=False).returncode == 0


def test_a_store_that_somebody_else_wrote_to_is_asked_once(project: Project, asked: list[str]) -> None:
    project.register("tflite-int8")
    project.client.create_experiment("another")
    asked.clear()
    project.main()
    assert set(asked) == {project.uri}
    assert receipt().database == stamp(project.uri)
    asked.clear()
    project.main()
    assert asked == []
    assert state(project) == FIRST


def test_another_run_of_the_same_choice_is_in_the_receipt(project: Project) -> None:
    project.register("tflite-int8")
    project.track()
    project.main()
    assert (receipt().run, receipt().database) == (project.run, stamp(project.uri))
    assert state(project) == FIRST


def test_a_receipt_does_not_hide_a_store_that_is_gone(project: Project, migrated: Path) -> None:
    project.register("tflite-int8")
    own = receipt()
    (project.folder / "mlflow.db").unlink()
    assert receipts.registered(str(own.key), own.uri, project.run) is None
    assert not (project.folder / "mlflow.db").exists()


def test_a_champion_that_somebody_deleted_comes_back(project: Project) -> None:
    project.register("tflite-int8")
    project.client.delete_registered_model_alias(NAME, "champion")
    project.main()
    assert state(project) == FIRST


def test_a_champion_that_somebody_chose_stays(project: Project) -> None:
    project.register("tflite-fp32")
    project.register("tflite-int8")
    project.client.set_registered_model_alias(NAME, "champion", "1")
    project.main()
    assert project.aliases()["champion"] == 1


@pytest.mark.parametrize("text", ["{", "[]", "null"])
def test_a_damaged_receipt_is_none(project: Project, text: str) -> None:
    project.register("tflite-int8")
    before = receipt()
    REGISTER.write_text(text)
    project.main()
    assert (receipt().key, receipt().version) == (before.key, before.version)


def test_another_winner_takes_the_alias_and_the_old_one_stays_reachable(project: Project) -> None:
    project.register("tflite-fp32")
    project.register("tflite-int8")
    assert project.aliases() == {"champion": 2, "previous-champion": 1}
    project.register("savedmodel-fp32")
    assert project.aliases() == {"champion": 3, "previous-champion": 2}
    project.register("tflite-int8")
    assert project.aliases() == {"champion": 2, "previous-champion": 3}
    assert project.versions() == {1: "tflite-fp32", 2: "tflite-int8", 3: "savedmodel-fp32"}


def test_of_two_versions_alike_the_champion_is_kept(project: Project) -> None:
    project.register("tflite-int8")
    first = project.client.get_model_version_by_alias(NAME, "champion")
    project.client.create_model_version(NAME, first.source, first.run_id, first.tags)
    REGISTER.unlink()
    project.main()
    assert project.aliases() == {"champion": 1}


def test_other_preprocessing_of_the_same_file_is_another_version(project: Project) -> None:
    project.register("tflite-int8")
    record = codec.read(ModelRecord, MODEL)
    codec.write(replace(record, preprocessing=replace(record.preprocessing, crop_fraction=0.5)), MODEL)
    project.summarize(*VARIANTS)
    project.main()
    assert project.aliases() == {"champion": 2, "previous-champion": 1}


@pytest.mark.parametrize(("outcome", "winner"), [("cannot tell", "tflite-fp32"), ("nothing within budget", None)])
def test_without_a_choice_the_registry_stays_as_it_is(
    project: Project, outcome: Outcome, winner: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    project.choose(winner, outcome)
    project.main()
    assert capfd.readouterr().out.startswith(f"{outcome}:")
    assert project.client.search_registered_models() == []
    assert receipt() == RegisterReceipt(outcome, project.uri)
    project.register("tflite-int8")
    project.choose(winner, outcome)
    project.main()
    assert state(project) == FIRST


def test_an_experiment_leaves_the_registry_as_it_is(project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    project.choose("tflite-int8")
    project.main("--experiment", "deft-name")
    assert "deft-name" in capfd.readouterr().out
    assert project.client.search_registered_models() == []


def test_a_champion_that_cannot_be_told_from_the_winner_stays(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    project.register("tflite-int8")
    capfd.readouterr()
    project.choose("tflite-fp32", rivals=("savedmodel-fp32", "tflite-int8"))
    project.main()
    out = capfd.readouterr().out
    assert all(word in out for word in (NAME, "version 1", "tflite-int8", "tflite-fp32"))
    assert state(project) == FIRST
    assert receipts.champion() == "tflite-int8"
    project.register("tflite-fp32")
    assert project.aliases() == {"champion": 2, "previous-champion": 1}


# Certainty.


def test_a_failed_variant_leaves_the_champion_where_it_is(
    project: Project, results: Results, capfd: pytest.CaptureFixture[str]
) -> None:
    """Here the champion's own, so that another one won."""
    project.register("tflite-int8")
    results.untimed("tflite-int8", "ended by SIGKILL")
    project.summarize(*VARIANTS)
    project.choose("tflite-fp32")
    capfd.readouterr()
    project.main()
    assert capfd.readouterr().out.startswith("tflite-int8 failed:")
    assert state(project) == FIRST
    assert receipt() == RegisterReceipt("tflite-int8 failed", project.uri)
    results.timed("tflite-int8", 1.25)
    project.summarize(*VARIANTS)
    project.main()
    assert project.aliases() == {"champion": 2, "previous-champion": 1}


def test_without_a_champion_a_failed_run_makes_none(project: Project, results: Results) -> None:
    results.untimed("savedmodel-fp32", "ended by SIGKILL")
    project.summarize(*VARIANTS)
    project.register("tflite-int8")
    assert project.client.search_registered_models() == []


def test_a_champion_that_was_not_measured_stays(project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    project.register("tflite-int8")
    project.summarize("savedmodel-fp32", "tflite-fp32")
    project.choose("tflite-fp32")
    capfd.readouterr()
    project.main()
    out = capfd.readouterr().out
    assert "tflite-int8, is not among `variants`" in out and out.count("\n") == 1
    assert state(project) == FIRST
    assert receipt().key is None


# Names and classes.


def test_a_model_of_other_classes_needs_a_name_of_its_own(project: Project, edit: Callable[..., None]) -> None:
    project.register("tflite-int8")
    files.write_text(Path("data/model/labels.csv"), "index,wnid,name\n0,n0,sky\n")
    with pytest.raises(PipelineError) as caught:
        project.main()
    assert (caught.value.code, caught.value.values) == (
        "other-classes", {"key": "model.label", "name": NAME, "version": "1"}
    )  # fmt: skip
    assert_helps(caught.value, NAME)
    assert state(project) == FIRST
    assert not REGISTER.exists()
    edit(("model.label", "skies"))
    project.main()
    assert (receipt().name, receipt().version) == ("skies", "1")
    assert project.versions() == {1: "tflite-int8"}
    assert project.client.get_model_version_by_alias("skies", "champion").tags["variant"] == "tflite-int8"


def test_versions_without_a_champion_have_classes_too(project: Project) -> None:
    project.register("tflite-int8")
    project.client.delete_registered_model_alias(NAME, "champion")
    files.write_text(Path("data/model/labels.csv"), "index,wnid,name\n0,n0,sky\n")
    with pytest.raises(PipelineError) as caught:
        project.main()
    assert caught.value.code == "other-classes"


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
    assert not REGISTER.exists()


@pytest.mark.parametrize("step", STEPS)
def test_an_interrupted_run_is_gone_on_with(project: Project, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    project.choose("tflite-int8")
    interrupt(monkeypatch, project, step)
    assert project.aliases() == {}
    project.main()
    assert state(project) == FIRST
    assert project.logged() == ["READY"]
    version = project.client.get_model_version_by_alias(NAME, "champion")
    assert version.tags["reason"] == SENTENCE and version.description
    assert receipt().version == "1"


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


def test_a_run_of_another_store_is_refused(project: Project) -> None:
    project.choose("tflite-int8")
    codec.write(TrackReceipt("a key", "http://elsewhere", project.run, None), TRACK)
    with pytest.raises(PipelineError) as caught:
        project.main()
    assert (caught.value.code, caught.value.values["uri"]) == ("other-store", project.uri)
    assert project.client.search_registered_models() == []


def test_a_winner_without_figures_is_refused(project: Project) -> None:
    project.choose("tflite-int8")
    project.summarize("savedmodel-fp32")
    with pytest.raises(PipelineError) as caught:
        project.main()
    assert (caught.value.code, caught.value.values["variant"]) == ("winner-unknown", "tflite-int8")


def test_a_winner_with_engines_says_what_it_requires(project: Project, built: Path, results: Results) -> None:
    from tests.fixtures import variants

    codec.write(measured_in("tftrt", environment(GPU_MACHINE)), ENVIRONMENT)
    variants.copy(built, "tftrt-fp16")
    results.evaluated("tftrt-fp16", [0] * 8)
    results.timed("tftrt-fp16", 1.0)
    project.summarize("tftrt-fp16")
    project.register("tftrt-fp16")
    version = project.client.get_model_version_by_alias(NAME, "champion")
    for told in ("compute capability 7.5", "NVIDIA T4", "TensorRT 8.5.3"):
        assert told in version.tags["requires"]
    assert version.tags["requires"] in version.description
    (place,) = (project.folder / "mlartifacts").glob("models/*/artifacts")
    assert (place / "data/served/model/assets/trt-serialized-engine.TRTEngineOp_0").exists()
    assert "tensorflow[and-cuda]==2.14.1" in (place / "requirements.txt").read_text()
    assert "tensorrt==8.5.3.1" in (place / "requirements.lock.txt").read_text()


def test_a_lost_model_is_an_error_of_its_file(project: Project) -> None:
    project.choose("tflite-int8")
    shutil.rmtree("models/tflite-int8")
    with pytest.raises(PipelineError) as caught:
        project.main()
    assert (caught.value.code, caught.value.values["file"]) == ("record-missing", "models/tflite-int8/variant.json")
