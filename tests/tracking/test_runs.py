import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages import track as stage
from stages.contracts import codec, labels, system
from stages.contracts.conversion import Proof
from stages.contracts.environment import OTHER_GPUS
from stages.contracts.labels import Labels
from stages.contracts.model import MODEL
from stages.contracts.row import SUMMARY, Doubt, Row, Summary
from stages.contracts.selection import SELECTION, Selection
from stages.contracts.status import OK, Status
from stages.contracts.system import Sample
from stages.contracts.training import CURVES, QAT_CURVE, QAT_RECORD, TRAIN, QatRecord, Run, Training, TrainRecord
from stages.contracts.variant import Variant
from stages.core.errors import PipelineError
from stages.params import document
from stages.reporting.table import SUMMARY_TABLE
from stages.statistics import tables
from stages.statistics.per_class import FILES
from stages.tracking import experiment, runs
from stages.tracking.experiment import Experiment
from stages.training.curves import write_curves
from tests.fixtures.records import GPU_MACHINE, PREPARED, TINY, Results
from tests.tracking.logged import NAMES, Logged, Track, names

Look = Callable[[], Logged]
Edit = Callable[..., None]
Step = Callable[[], None]


def test_a_parent_holds_the_parameters_and_the_reports(track: Track, logged: Look) -> None:
    track()
    store = logged()
    parent = store.parent
    assert (parent.info.run_name, parent.info.status) == ("tiny", "FINISHED")
    params = parent.data.params
    assert (params["model.name"], params["variants"]) == ("efficientnet_lite0", ",".join(NAMES))
    assert params["benchmark.batch_sizes"] == "1,8"
    assert not {"benchmark.threads", "tflite.xnnpack", "custom.answers", "train.epochs"} & params.keys()
    assert (params["evaluation.digest"], params["evaluation.images"]) == ("e" * 64, "4")
    tags = parent.data.tags
    assert (tags["model"], tags["gpu"], tags["cpu"]) == ("tiny", "none", "a CPU")
    assert (tags["winner"], tags["outcome"]) == ("tflite-int8", "selected")
    assert (parent.data.metrics["top1"], parent.data.metrics["p50_ms"]) == (0.5, 2)
    assert "dvc.experiment" not in tags
    assert store.artifacts(parent) == {
        "params.yaml", "summary.json", "summary.md", "selection.json", "environment.json", "images.json", "model.json",
        "benchmark.json", "samples.csv", "plots",
    }  # fmt: skip


@pytest.fixture
def trained(finished: Results, summarize: Step) -> None:
    """What `train` leaves of two seeds, the second of which was kept."""
    seeds = tuple(Run(seed, 2, loss, 0.9, 7.5) for seed, loss in ((0, 0.4), (3, 0.3)))
    training = Training("small", 3, 80, 20, PREPARED, seeds)
    codec.write(TrainRecord(Status("ok"), training), TRAIN)
    codec.write(dataclasses.replace(TINY, training=training), MODEL)
    write_curves(
        (
            {"seed": seed, "epoch": epoch, "loss": 1 / epoch, "val_loss": seed + 1 / epoch, "epoch_s": 1.5}
            for seed in (0, 3)
            for epoch in (1, 2)
        ),
        CURVES,
    )
    summarize()


def test_training_is_a_run_for_each_seed_with_its_curves(trained: None, track: Track, logged: Look) -> None:
    track()
    track()  # adds nothing
    store = logged()
    seeds = store.level("training")
    assert {name: run.data.tags["kept"] for name, run in seeds.items()} == {
        "train-seed0": "false",
        "train-seed3": "true",
    }
    kept = seeds["train-seed3"]
    assert kept.data.tags["mlflow.parentRunId"] == store.parent.info.run_id
    assert store.steps(kept, "val_loss") == {1: 4.0, 2: 3.5}
    assert store.steps(kept, "epoch_s") == {1: 1.5, 2: 1.5}
    assert {name for name in kept.data.metrics if name not in ("loss", "val_loss", "epoch_s")} == {
        "best_epoch", "best_val_loss", "best_val_accuracy", "train_s",
    }  # fmt: skip
    assert (kept.data.metrics["best_val_loss"], kept.data.metrics["train_s"]) == (0.3, 7.5)
    assert kept.data.params["train.augment.flip"] == "False"
    assert store.artifacts(kept) == {"train.json", "training.csv"}


@pytest.fixture
def quantized(trained: None, results: Results, edit: Edit, summarize: Step) -> None:
    """What `qat` leaves with a seed that `train` has too, and its variant."""
    edit(("variants", [*NAMES, "tflite-int8-qat"]), ("train.source", "digits"))
    results.ok("tflite-int8-qat", [0, 0, 0, 1], 2.0)
    results.learned()
    first = {"seed": 3, "epoch": 0, "val_loss": 0.5, "val_accuracy": 0.875}
    epochs = [first | {"epoch": i, "val_loss": loss, "loss": 1.0} for i, loss in ((1, 0.25), (2, 0.375))]
    write_curves([first, *epochs], QAT_CURVE)
    summarize()


def test_quantization_aware_training_is_a_run_with_its_curve(quantized: None, track: Track, logged: Look) -> None:
    track()
    track()  # adds nothing
    store = logged()
    trainings = store.level("training")
    assert sorted(trainings) == ["qat-seed3", "train-seed0", "train-seed3"]
    run = trainings["qat-seed3"]
    assert run.data.tags["mlflow.parentRunId"] == store.parent.info.run_id
    assert store.steps(run, "val_loss") == {0: 0.5, 1: 0.25, 2: 0.375}
    assert store.steps(run, "loss") == {1: 1.0, 2: 1.0}
    found = {name: run.data.metrics[name] for name in ("first_val_accuracy", "best_val_accuracy", "train_images")}
    assert found == {"first_val_accuracy": 0.875, "best_val_accuracy": 0.9375, "train_images": 1200}
    assert (run.data.params["qat.epochs"], run.data.params["train.batch_size"]) == ("5", "64")
    assert "train.epochs" not in run.data.params and "qat.epochs" not in trainings["train-seed3"].data.params
    assert store.artifacts(run) == {"qat.json", "qat.csv"}


@pytest.mark.parametrize("state", ["failed", "skipped"])
def test_quantization_aware_training_that_did_not_happen_is_no_run(
    quantized: None, results: Results, track: Track, logged: Look, summarize: Step, state: Any
) -> None:
    status = Status(state, "no Keras model")
    results.stopped("tflite-int8-qat", status)
    codec.write(QatRecord(status, None), QAT_RECORD)
    summarize()
    track()
    store = logged()
    assert set(store.level("training")) == {"train-seed0", "train-seed3"}
    assert store.children()["tflite-int8-qat"].data.tags["status"] == state


def test_what_a_variant_won_back_is_a_metric(quantized: None, track: Track, logged: Look) -> None:
    track()
    children = logged().children()
    won = children["tflite-int8-qat"]
    assert (won.data.params["precision"], won.data.params["qat"]) == ("int8", "true")
    assert won.data.metrics["won_back_points"] == 25
    assert "won_back_points" not in children["tflite-int8"].data.metrics


def test_training_that_was_half_logged_is_logged_anew(
    trained: None, track: Track, logged: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(Experiment, "log", lambda *arguments: 1 / 0)
        with pytest.raises(PipelineError) as caught:
            track()
    assert caught.value.code == "not-logged"
    track()
    trainings = logged().level("training")
    assert set(trainings) == {"train-seed0", "train-seed3"}
    assert {run.info.status for run in trainings.values()} == {"FINISHED"}


def test_a_variant_on_another_gpu_is_a_run_of_its_own(
    finished: Results, track: Track, logged: Look, summarize: Step
) -> None:
    finished.timed("tflite-int8", 7.0)
    finished.copy_to(OTHER_GPUS / "T4", GPU_MACHINE)
    finished.timed("tflite-int8", 2.0)
    summarize()
    track()
    track()  # adds nothing
    store = logged()
    remote = store.level("other_gpu")
    assert sorted(remote) == sorted(f"{name} on NVIDIA T4" for name in NAMES)
    run = remote["tflite-int8 on NVIDIA T4"]
    tags = run.data.tags
    assert (tags["gpu"], tags["gpu_model"], tags["variant"]) == ("NVIDIA T4", "T4", "tflite-int8")
    assert (tags["mlflow.parentRunId"], tags["cached"]) == (store.parent.info.run_id, "false")
    assert "chosen" not in tags
    assert (run.data.metrics["p50_ms"], run.data.metrics["p50_ms.batch8"]) == (7, 56)
    assert store.artifacts(run) == {"convert.json", "evaluate.json", "predictions.csv"}
    primary = store.children()["tflite-int8"]
    assert (primary.data.tags["gpu"], primary.data.metrics["p50_ms"]) == ("none", 2)
    assert remote["tftrt-fp32 on NVIDIA T4"].data.tags["status"] == "skipped"


def test_a_parent_without_a_choice_has_no_metrics(track: Track, logged: Look, edit: Edit, summarize: Step) -> None:
    edit(("budget.max_size_bytes", 1))
    summarize()
    track()
    parent = logged().parent
    assert (parent.data.metrics, "winner" in parent.data.tags) == ({}, False)


def test_a_parents_description_is_the_choice_and_the_table(track: Track, logged: Look) -> None:
    track()
    note = logged().parent.data.tags["mlflow.note.content"]
    assert note == f"{codec.read(Selection, SELECTION).sentence}\n\n{SUMMARY_TABLE.read_text(encoding='utf-8')}"


def test_a_table_too_long_for_a_tag_is_named_instead() -> None:
    (text,) = runs.note("Ship it.", "x" * 8000).values()
    assert text.startswith("Ship it.") and text.endswith("summary.md.") and "xx" not in text


def test_the_chosen_variant_is_tagged_and_the_others_say_why_not(track: Track, logged: Look) -> None:
    track()
    children = logged().children()
    assert {name: run.data.tags["chosen"] for name, run in children.items()} == {
        "savedmodel-fp32": "false", "tftrt-fp32": "false", "tflite-int8": "true",
    }  # fmt: skip
    judged = codec.read(Selection, SELECTION).variants
    notes = {name: run.data.tags["mlflow.note.content"] for name, run in children.items()}
    assert notes["savedmodel-fp32"] == judged["savedmodel-fp32"].reason
    assert notes["tflite-int8"] == codec.read(Selection, SELECTION).sentence
    assert "verdict" not in children["tflite-int8"].data.tags


def test_a_verdict_within_a_budget_is_a_tag(track: Track, logged: Look, edit: Edit, summarize: Step) -> None:
    edit(("budget.max_top1_drop", 0.01))
    summarize()
    track()
    children = logged().children()
    assert children["tflite-int8"].data.tags["verdict"] == "cannot tell"
    assert children["savedmodel-fp32"].data.tags["verdict"] == "within"


def test_image_sets_are_dataset_inputs_with_their_digest(track: Track, logged: Look) -> None:
    track()
    for run in logged().runs:
        inputs = {item.dataset.name: item for item in run.inputs.dataset_inputs}
        digests = {name: item.dataset.digest for name, item in inputs.items()}
        assert digests == {"evaluation": "e" * 36, "calibration": "c" * 36}
        assert inputs["calibration"].tags[0].value == "calibration"
        assert '"images": 4' in str(inputs["evaluation"].dataset.profile)


def test_every_variant_is_a_child_with_its_status(track: Track, logged: Look) -> None:
    track()
    store = logged()
    children = store.children()
    assert set(children) == set(NAMES)
    assert len(store.runs) == 1 + len(NAMES)
    for name, run in children.items():
        assert run.info.status == "FINISHED"
        assert (run.info.run_name, run.data.tags["cached"]) == (name, "false")
        assert (run.data.params["runtime"], run.data.params["precision"]) == tuple(name.split("-"))
        assert (run.data.params["variant"], run.data.params["qat"]) == (name, "false")
        assert store.artifacts(run) == {"convert.json", "evaluate.json", "predictions.csv"}
    skipped = children["tftrt-fp32"]
    assert (skipped.data.tags["status"], skipped.data.tags["reason"]) == ("skipped", "no NVIDIA GPU")
    assert skipped.data.metrics == {}
    assert "reason" not in children["tflite-int8"].data.tags


def test_what_makes_a_measurement_doubtful_is_a_tag() -> None:
    row = Row(Variant.parse("tflite-int8"), OK, doubts=(Doubt("busy CPU", 0.48, batch_size=1),))
    assert runs.status_tags(row) == {"status": "ok", "doubts": "busy CPU (48 % taken by others)"}
    assert runs.status_tags(dataclasses.replace(row, doubts=())) == {"status": "ok"}


def test_what_a_variant_does_to_the_classes_is_logged(
    finished: Results, track: Track, logged: Look, summarize: Step, tiny_labels: Labels
) -> None:
    finished.ok("tflite-int8", [0, 0, 1, 0], 2.0, [0, 0, 1, 1])
    summarize()
    labels.write(tiny_labels)
    tables.write(codec.read(Summary, SUMMARY), tiny_labels)
    track()
    store = logged()
    children = store.children()
    assert store.artifacts(children["tflite-int8"], "classes") == {f"classes/tflite-int8{kind}" for kind in FILES}
    assert "classes" not in store.artifacts(children["tftrt-fp32"])


def test_system_metrics_are_logged_at_their_own_time(
    track: Track, logged: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "MOST_METRICS", 3)
    system.write([Sample(1000, 5.0, 800.0, None, None, None)], system.system_path("tflite-int8", "convert"))
    later = [Sample(9000 + i, 90.0, 900.0, None, 7.0, None) for i in range(2)]
    system.write(later, system.system_path("tflite-int8", "evaluate"))
    track()
    store = logged()
    run = store.children()["tflite-int8"]
    assert store.steps(run, "system/cpu_utilization_percentage") == {0: 5, 1: 90, 2: 90}
    assert store.steps(run, "system/gpu_0_memory_usage_megabytes") == {1: 7, 2: 7}
    history = store.client.get_metric_history(run.info.run_id, "system/system_memory_usage_megabytes")
    assert [point.timestamp for point in history] == [1000, 9000, 9001]
    assert "system/gpu_0_power_usage_watts" not in run.data.metrics


def test_metrics_have_one_value_and_the_batch_size_in_their_name(track: Track, logged: Look) -> None:
    track()
    store = logged()
    run = store.children()["tflite-int8"]
    assert store.steps(run, "p50_ms") == {0: 2}
    assert store.steps(run, "p50_ms.batch8") == {0: 16}
    assert store.steps(run, "top1") == {0: 0.5}


def test_a_run_has_at_most_25_metrics_and_30_params(quantized: None, track: Track, logged: Look, edit: Edit) -> None:
    limits = {
        "max_top1_drop": 0.5,
        "max_p99_ms": 1,
        "p99_batch_size": 8,
        "max_size_bytes": 9,
        "max_peak_memory_bytes": 9,
    }
    edit(("budget", limits), ("split.source", "photos"), ("select.batch_size", 8), ("benchmark.threads", 2))
    track()
    for run in logged().runs:
        assert len(run.data.metrics) <= 25 and len(run.data.params) <= 30


def test_the_tensorrt_that_was_linked_and_loaded_is_logged_in_words(
    finished: Results, track: Track, logged: Look, summarize: Step
) -> None:
    versions = {"tensorrt_linked": "8.4.3", "tensorrt_loaded": "8.5.3"}
    finished.converted("tflite-int8", proof=Proof("trt_ops", {}, {**versions}))
    summarize()
    track()
    children = logged().children()
    assert versions.items() <= children.pop("tflite-int8").data.tags.items()
    assert not any("tensorrt_linked" in run.data.tags for run in children.values())


def test_other_parameters_with_the_same_results_are_a_new_parent_of_cached_children(
    track: Track, logged: Look, edit: Edit
) -> None:
    track()
    edit(("tracking.uri", None), ("calibration.seed", 7))
    track()
    store = logged()
    first, second = store.parents
    assert second.data.params["calibration.seed"] == "7"
    originals, cached = store.children(first), store.children(second)
    assert set(originals) == set(cached) == set(NAMES)
    for name, run in cached.items():
        assert run.data.tags["cached"] == "true"
        assert run.data.tags["cached_from"] == originals[name].info.run_id
        assert run.data.metrics == originals[name].data.metrics


def test_a_variant_that_was_done_again_is_not_cached(
    finished: Results, track: Track, logged: Look, summarize: Step
) -> None:
    track()
    finished.timed("tflite-int8", 2.5)
    summarize()
    track()
    store = logged()
    assert {name: run.data.tags["cached"] for name, run in store.children(store.parents[1]).items()} == {
        "savedmodel-fp32": "true",
        "tftrt-fp32": "true",
        "tflite-int8": "false",
    }


def test_an_interrupted_parent_is_completed_without_doubles(
    track: Track, logged: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    log = Experiment.log

    def interrupted(self: Experiment, run: str, *rest: Any) -> None:
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(run)
        log(self, run, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "log", interrupted)
        with pytest.raises(KeyboardInterrupt):
            track()
    assert not runs.TRACK.exists()
    store = logged()
    parent = store.parent
    assert parent.info.status == "KILLED"
    assert [run.info.status for run in store.children().values()] == ["FINISHED", "KILLED"]

    track()
    store = logged()
    assert (store.parent.info.run_id, store.parent.info.status) == (parent.info.run_id, "FINISHED")
    children = store.children()
    assert set(children) == set(NAMES)
    assert {run.info.status for run in children.values()} == {"FINISHED"}
    assert {run.data.tags["cached"] for run in children.values()} == {"false"}
    # What was finished stayed as it was.
    assert children[NAMES[0]].info.run_id == done[0]
    assert len(store.runs) == 1 + len(NAMES)


def test_an_experiment_of_dvc_is_tagged(track: Track, logged: Look) -> None:
    track("--experiment", "fizzy-name")
    assert {run.data.tags["dvc.experiment"] for run in logged().runs} == {"fizzy-name"}


def test_artifacts_lie_beside_the_database_of_the_main_checkout(track: Track, main_checkout: Path) -> None:
    track()
    assert list((main_checkout / "mlartifacts").rglob("summary.md"))
    assert not Path("mlruns").exists()
    assert not Path("mlartifacts").exists()


@pytest.mark.parametrize("name", ["two words", "hash#tag", "größe"])
def test_a_checkout_may_lie_in_a_folder_of_any_name(
    finished: Results, main_checkout: Path, command_line: Callable[..., None], name: str
) -> None:
    place = main_checkout.rename(main_checkout.parent / name)
    command_line("--checkout", place)
    stage.main()
    assert {"mlflow.db", "mlartifacts"} <= names(place) <= {"mlflow.db", "mlflow.db.lock", "mlartifacts"}
    assert list((place / "mlartifacts").rglob("summary.md"))
    assert runs.already_logged(document.check(), place)


@pytest.mark.parametrize("name", ["per%20cent", "question?"])
def test_a_folder_name_that_means_something_in_an_address_does_not_send_runs_elsewhere(
    finished: Results, main_checkout: Path, command_line: Callable[..., None], name: str
) -> None:
    place = main_checkout.rename(main_checkout.parent / name)
    command_line("--checkout", place)
    with pytest.raises(PipelineError) as caught:
        stage.main()
    assert (caught.value.code, caught.value.values["file"]) == ("store-address", str(place))
    assert names(place.parent) == {"checkout", name}


def test_a_deleted_experiment_is_refused(track: Track, logged: Look) -> None:
    track()
    store = logged()
    store.client.delete_experiment(store.experiment)
    runs.TRACK.unlink()
    with pytest.raises(PipelineError) as caught:
        track()
    assert (caught.value.code, caught.value.values["experiment"]) == ("experiment-deleted", "trt-pipeline")


def test_a_missing_summary_is_an_error_of_its_file(track: Track) -> None:
    SUMMARY.unlink()
    with pytest.raises(PipelineError) as caught:
        track()
    assert (caught.value.code, caught.value.values["file"]) == ("record-missing", str(SUMMARY))


def test_a_key_changes_with_parameters_and_with_results(finished: Results, edit: Edit) -> None:
    summary = codec.read(Summary, SUMMARY)
    before = document.check()
    edit(("calibration.seed", 9))
    keys = [
        runs.run_key(before, summary),
        runs.run_key(before, dataclasses.replace(summary, rows=())),
        runs.run_key(document.check(), summary),
    ]
    assert len(set(keys)) == 3
    assert runs.run_key(before, summary) == keys[0]


def test_a_failed_variant_is_a_failed_run_of_a_failed_pipeline(
    finished: Results, track: Track, logged: Look, summarize: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished.untimed("tflite-int8", "ended by SIGKILL")
    summarize()
    track()
    store = logged()
    assert store.parent.info.status == "FAILED"
    assert {name: run.info.status for name, run in store.children().items()} == {
        "savedmodel-fp32": "FINISHED", "tftrt-fp32": "FINISHED", "tflite-int8": "FAILED",
    }  # fmt: skip
    assert {run.data.tags["logged"] for run in store.runs} == {"true"}
    runs.TRACK.unlink()
    track()  # adds nothing
    assert len(logged().runs) == 1 + len(NAMES)


def test_what_a_killed_process_left_running_is_ended_by_the_next_one(track: Track, logged: Look, edit: Edit) -> None:
    """Another one's run that is no run of the pipeline stays as it is."""
    track()
    store = logged()
    client, experiment = store.client, store.experiment
    abandoned = client.create_run(experiment, tags={"level": "variant", "variant": "a", "mlflow.parentRunId": "b"})
    other = client.create_run(experiment)
    edit(("calibration.seed", 7))
    track()
    states = [client.get_run(run.info.run_id).info.status for run in (abandoned, other)]
    assert states == ["KILLED", "RUNNING"]
