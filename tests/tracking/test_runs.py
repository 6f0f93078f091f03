import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from stages import select, summarize, track
from stages.contracts import paths
from stages.contracts.labels import Labels
from stages.core import errors, files
from stages.core.errors import PipelineError
from stages.measurement import system
from stages.measurement.system import Sample
from stages.params import document
from stages.reporting import table
from stages.statistics import per_class
from stages.tracking import store

Main = Callable[..., None]
NAMES = ("savedmodel-fp32", "tftrt-fp32", "tflite-int8")


@pytest.fixture
def main_checkout(migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The main checkout, with its database; settings that the stage makes for itself end with the test."""
    folder = tmp_path / "main"
    folder.mkdir()
    shutil.copy(migrated, folder / "mlflow.db")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return folder


@pytest.fixture
def summary(results: Any, edit: Callable[..., None]) -> Path:
    """Results of three variants, one of which was skipped."""
    edit(("variants", list(NAMES)))
    results.ok("savedmodel-fp32", [0, 0, 0, 1], 4.0)
    results.ok("tflite-int8", [0, 0, 1, 1], 2.0)
    results.stopped("tftrt-fp32", "skipped", "no NVIDIA GPU")
    files.write_text(paths.PLOTS / "variants.csv", "variant,top1\n")
    summarise()
    return paths.SUMMARY


def summarise() -> None:
    found = summarize.summarise(document.load().variants)
    files.write_json(paths.SUMMARY, found)
    files.write_text(paths.SUMMARY_TABLE, table.markdown(found))
    files.write_json(paths.SELECTION, select.select(found, document.load()))


@pytest.fixture
def main(summary: Path, main_checkout: Path, command_line: Callable[..., None]) -> Main:
    def run(*arguments: str) -> None:
        command_line("--checkout", main_checkout, *arguments)
        track.main()

    return run


class Logged:
    """What a store holds."""

    def __init__(self, folder: Path) -> None:
        import mlflow

        self.client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
        experiment = self.client.get_experiment_by_name("trt-pipeline")
        assert experiment is not None
        self.runs = list(self.client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"]))
        self.parents = [run for run in self.runs if run.data.tags["level"] == "pipeline"]

    def children(self, parent: Any) -> dict[str, Any]:
        found = [
            run
            for run in self.runs
            if run.data.tags["level"] == "variant" and run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        ]
        assert len({run.data.tags["variant"] for run in found}) == len(found)
        return {run.data.tags["variant"]: run for run in found}

    def steps(self, run: Any, metric: str) -> dict[int, float]:
        return {point.step: point.value for point in self.client.get_metric_history(run.info.run_id, metric)}

    def artifacts(self, run: Any) -> set[str]:
        return {item.path for item in self.client.list_artifacts(run.info.run_id)}


def test_a_parent_holds_the_parameters_and_the_reports(main: Main, main_checkout: Path) -> None:
    main()
    (parent,) = Logged(main_checkout).parents
    assert (parent.info.run_name, parent.info.status) == ("tiny", "FINISHED")
    assert parent.data.params["model.name"] == "efficientnet_lite0"
    assert parent.data.params["variants"] == ",".join(NAMES)
    assert parent.data.params["benchmark.batch_sizes"] == "1,8"
    assert parent.data.params["benchmark.threads"] == "None"
    assert (parent.data.params["evaluation.digest"], parent.data.params["evaluation.images"]) == ("e" * 64, "4")
    tags = parent.data.tags
    assert (tags["model"], tags["gpu"], tags["cpu"]) == ("tiny", "none", "a CPU")
    assert tags["winner"] == "tflite-int8"
    assert (parent.data.metrics["top1"], parent.data.metrics["p50_ms.batch1"]) == (0.5, 2)
    assert "dvc.experiment" not in tags
    found = Logged(main_checkout).artifacts(parent)
    assert found == {
        "params.yaml", "summary.json", "summary.md", "selection.json", "environment.json", "images.json", "model.json",
        "benchmark.json", "samples.csv", "plots",
    }  # fmt: skip


@pytest.fixture
def trained(summary: Path) -> dict[str, Any]:
    """What `train` leaves of two seeds, the second of which was kept."""
    runs = [
        {"seed": seed, "best_epoch": 2, "best_val_loss": loss, "best_val_accuracy": 0.9, "train_s": 7.5}
        for seed, loss in ((0, 0.4), (3, 0.3))
    ]
    record = {"status": "ok", "backbone": "small", "seed": 3, "runs": runs}
    files.write_json(paths.TRAIN, record)
    rows = [(seed, epoch, 0.1, 1 / epoch, 0.5, seed + 1 / epoch, 0.9, 1.5) for seed in (0, 3) for epoch in (1, 2)]
    header = ("seed", "epoch", "learning_rate", "loss", "accuracy", "val_loss", "val_accuracy", "epoch_s")
    files.write_csv(paths.CURVES, header, rows)
    model = files.read_json(paths.MODEL) | {"training": record}
    files.write_json(paths.MODEL, model)
    summarise()
    return record


def test_training_is_a_run_for_each_seed_with_its_curves(
    trained: dict[str, Any], main: Main, main_checkout: Path
) -> None:
    main()
    main()  # adds nothing
    logged = Logged(main_checkout)
    runs = {run.info.run_name: run for run in logged.runs if run.data.tags["level"] == "training"}
    assert {name: run.data.tags["kept"] for name, run in runs.items()} == {
        "train-seed0": "false",
        "train-seed3": "true",
    }
    kept = runs["train-seed3"]
    assert kept.data.tags["mlflow.parentRunId"] == logged.parents[0].info.run_id
    assert logged.steps(kept, "val_loss") == {1: 4.0, 2: 3.5}
    assert logged.steps(kept, "epoch_s") == {1: 1.5, 2: 1.5}
    assert (kept.data.metrics["best_val_loss"], kept.data.metrics["train_s"]) == (0.3, 7.5)
    assert kept.data.params["train.augment.flip"] == "False"
    assert logged.artifacts(kept) == {"train.json", "training.csv"}


@pytest.fixture
def quantised(trained: dict[str, Any], results: Any, edit: Callable[..., None]) -> None:
    """What `qat` leaves with a seed that `train` has too, and its variant."""
    edit(("variants", [*NAMES, "tflite-int8-qat"]), ("train.source", "digits"))
    results.ok("tflite-int8-qat", [0, 0, 0, 1], 2.0)
    results.learned()
    summarise()


def test_quantisation_aware_training_is_a_run_with_its_curve(quantised: None, main: Main, main_checkout: Path) -> None:
    main()
    main()  # adds nothing
    logged = Logged(main_checkout)
    runs = {run.info.run_name: run for run in logged.runs if run.data.tags["level"] == "training"}
    assert sorted(runs) == ["qat-seed3", "train-seed0", "train-seed3"]
    run = runs["qat-seed3"]
    assert run.data.tags["mlflow.parentRunId"] == logged.parents[0].info.run_id
    assert logged.steps(run, "val_loss") == {0: 0.5, 1: 0.25, 2: 0.375}
    assert logged.steps(run, "loss") == {1: 1.0, 2: 1.0}
    assert (run.data.metrics["first_val_accuracy"], run.data.metrics["best_val_accuracy"]) == (0.875, 0.9375)
    assert (run.data.params["qat.epochs"], run.data.params["train.batch_size"]) == ("5", "64")
    assert "qat.epochs" not in runs["train-seed3"].data.params
    assert logged.artifacts(run) == {"qat.json", "qat.csv"}


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_quantisation_aware_training_that_did_not_happen_is_no_run(
    quantised: None, results: Any, main: Main, main_checkout: Path, status: str
) -> None:
    results.stopped("tflite-int8-qat", status, "no Keras model")
    files.write_json(paths.QAT_RECORD, {"status": status, "reason": "no Keras model", "sources": {}})
    summarise()
    main()
    logged = Logged(main_checkout)
    names = {run.info.run_name for run in logged.runs if run.data.tags["level"] == "training"}
    assert names == {"train-seed0", "train-seed3"}
    assert logged.children(logged.parents[0])["tflite-int8-qat"].data.tags["status"] == status


def test_what_a_variant_won_back_is_a_metric(quantised: None, main: Main, main_checkout: Path) -> None:
    main()
    store = Logged(main_checkout)
    children = store.children(store.parents[0])
    won = children["tflite-int8-qat"]
    assert (won.data.params["precision"], won.data.params["qat"]) == ("int8", "true")
    assert won.data.metrics["won_back_points"] == 25
    low, high = (won.data.metrics[f"won_back_points_ci95_{end}"] for end in ("low", "high"))
    assert low < 0 < 25 < high
    assert "won_back_points" not in children["tflite-int8"].data.metrics


def test_training_that_was_half_logged_is_logged_anew(
    trained: dict[str, Any], main: Main, main_checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(track.Store, "log", lambda *arguments: 1 / 0)
        with suppress(PipelineError):
            main()
    main()
    runs = [run for run in Logged(main_checkout).runs if run.data.tags["level"] == "training"]
    assert sorted(run.info.run_name for run in runs) == ["train-seed0", "train-seed3"]
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_a_variant_on_another_gpu_is_a_run_of_its_own(
    results: Any, summary: Path, machine: dict[str, Any], main: Main, main_checkout: Path
) -> None:
    results.timed("tflite-int8", 7.0)
    results.copy_to("T4", machine)
    results.timed("tflite-int8", 2.0)
    summarise()
    main()
    main()  # adds nothing
    logged = Logged(main_checkout)
    (parent,) = logged.parents
    runs = {run.info.run_name: run for run in logged.runs if run.data.tags["level"] == "other_gpu"}
    assert sorted(runs) == sorted(f"{name} on NVIDIA T4" for name in NAMES)
    run = runs["tflite-int8 on NVIDIA T4"]
    tags = run.data.tags
    assert (tags["gpu"], tags["gpu_model"], tags["variant"]) == ("NVIDIA T4", "T4", "tflite-int8")
    assert (tags["mlflow.parentRunId"], tags["cached"]) == (parent.info.run_id, "false")
    assert "chosen" not in tags
    assert logged.steps(run, "p50_ms") == {1: 7, 8: 56}
    assert logged.artifacts(run) == {"convert.json", "evaluate.json", "predictions.csv"}
    at_home = logged.children(parent)["tflite-int8"]
    assert (at_home.data.tags["gpu"], logged.steps(at_home, "p50_ms")) == ("none", {1: 2, 8: 16})
    assert runs["tftrt-fp32 on NVIDIA T4"].data.tags["status"] == "skipped"


def test_a_parent_without_a_choice_has_no_metrics(main: Main, main_checkout: Path, edit: Callable[..., None]) -> None:
    edit(("budget.max_size_bytes", 1))
    summarise()
    main()
    (parent,) = Logged(main_checkout).parents
    assert (parent.data.metrics, "winner" in parent.data.tags) == ({}, False)


def test_a_parents_description_is_the_choice_and_the_table(main: Main, main_checkout: Path) -> None:
    main()
    (parent,) = Logged(main_checkout).parents
    note = parent.data.tags["mlflow.note.content"]
    assert note.startswith("Ship tflite-int8 (p50 of 2 ms at batch 1), the best of 2 measured, as no budget is set.")
    assert note.endswith(paths.SUMMARY_TABLE.read_text())
    assert parent.data.tags["outcome"] == "selected"


def test_a_table_too_long_for_a_tag_is_named_instead() -> None:
    assert track.note("Ship it.", "x" * 8000) == {"mlflow.note.content": "Ship it.\n\nTable: summary.md."}


def test_the_chosen_variant_is_tagged_and_the_others_say_why_not(main: Main, main_checkout: Path) -> None:
    main()
    logged = Logged(main_checkout)
    children = logged.children(logged.parents[0])
    assert {name: run.data.tags["chosen"] for name, run in children.items()} == {
        "savedmodel-fp32": "false", "tftrt-fp32": "false", "tflite-int8": "true",
    }  # fmt: skip
    assert children["savedmodel-fp32"].data.tags["mlflow.note.content"].startswith("p50 of 4 ms at batch 1 against the")
    assert "verdict" not in children["tflite-int8"].data.tags


def test_a_verdict_within_a_budget_is_a_tag(main: Main, main_checkout: Path, edit: Callable[..., None]) -> None:
    edit(("budget.max_top1_drop", 0.01))
    summarise()
    main()
    logged = Logged(main_checkout)
    children = logged.children(logged.parents[0])
    assert children["tflite-int8"].data.tags["verdict"] == "cannot tell"
    assert children["savedmodel-fp32"].data.tags["verdict"] == "within"


def test_image_sets_are_dataset_inputs_with_their_digest(main: Main, main_checkout: Path) -> None:
    main()
    for run in Logged(main_checkout).runs:
        found = {item.dataset.name: item for item in run.inputs.dataset_inputs}
        assert {name: item.dataset.digest for name, item in found.items()} == {
            "evaluation": "e" * 36, "calibration": "c" * 36
        }  # fmt: skip
        assert found["calibration"].tags[0].value == "calibration"
        assert '"images": 4' in found["evaluation"].dataset.profile


def test_every_variant_is_a_child_with_its_status(main: Main, main_checkout: Path) -> None:
    main()
    store = Logged(main_checkout)
    children = store.children(store.parents[0])
    assert set(children) == set(NAMES)
    assert len(store.runs) == 1 + len(NAMES)
    for name, run in children.items():
        assert run.info.status == "FINISHED"
        assert (run.info.run_name, run.data.tags["cached"]) == (name, "false")
        assert (run.data.params["runtime"], run.data.params["precision"]) == tuple(name.split("-"))
        assert run.data.params["qat"] == "false"
        assert store.artifacts(run) == {"convert.json", "evaluate.json", "predictions.csv"}
    skipped = children["tftrt-fp32"]
    assert (skipped.data.tags["status"], skipped.data.tags["reason"]) == ("skipped", "no NVIDIA GPU")
    assert skipped.data.metrics == {}
    assert "reason" not in children["tflite-int8"].data.tags


def test_what_a_variant_does_to_the_classes_is_logged(
    main: Main, main_checkout: Path, results: Any, tiny_labels: Labels
) -> None:
    results.ok("tflite-int8", [0, 0, 1, 0], 2.0, [0, 0, 1, 1])
    summarise()
    summarize.write_classes(files.read_json(paths.SUMMARY)["rows"], tiny_labels, paths.CLASSES)
    main()
    store = Logged(main_checkout)
    children = store.children(store.parents[0])
    int8 = children["tflite-int8"]
    names = {item.path for item in store.client.list_artifacts(int8.info.run_id, "classes")}
    assert names == {f"classes/tflite-int8{kind}" for kind in per_class.FILES}
    assert "classes" not in store.artifacts(children["tftrt-fp32"])
    # Two of the three answers that say class 0 are right, and one of the two images of class 1 is known.
    assert int8.data.metrics["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert (int8.data.metrics["weighted_recall"], int8.data.metrics["ece"]) == (0.75, 0.25)
    assert set(per_class.FIGURES) <= int8.data.metrics.keys()


def test_metrics_have_the_batch_size_as_their_step(main: Main, main_checkout: Path) -> None:
    main()
    store = Logged(main_checkout)
    run = store.children(store.parents[0])["tflite-int8"]
    assert store.steps(run, "p50_ms") == {1: 2, 8: 16}
    assert store.steps(run, "host_p50_ms") == {1: 3, 8: 17}
    assert store.steps(run, "throughput_ips") == {1: 9.5, 8: 9.5}
    assert (run.data.metrics["p50_ms.batch1"], run.data.metrics["p50_ms.batch8"]) == (2, 16)
    assert store.steps(run, "top1") == {0: 0.5}
    assert store.steps(run, "agreement") == {0: 0.75}
    low, high = run.data.metrics["top1_ci95_low"], run.data.metrics["top1_ci95_high"]
    assert (low, high) == (pytest.approx(0.15, abs=1e-3), pytest.approx(0.85, abs=1e-3))


def test_system_metrics_are_logged_at_their_own_time(
    main: Main, main_checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track, "MOST_METRICS", 3)
    system.write([Sample(1000, 5.0, 800.0, None, None, None)], paths.record("tflite-int8", "convert_system.csv"))
    later = [Sample(9000 + i, 90.0, 900.0, None, 7.0, None) for i in range(2)]
    system.write(later, paths.record("tflite-int8", "evaluate_system.csv"))
    main()
    store = Logged(main_checkout)
    run = store.children(store.parents[0])["tflite-int8"]
    assert store.steps(run, "system/cpu_utilization_percentage") == {0: 5, 1: 90, 2: 90}
    assert store.steps(run, "system/gpu_0_memory_usage_megabytes") == {1: 7, 2: 7}
    history = store.client.get_metric_history(run.info.run_id, "system/system_memory_usage_megabytes")
    assert [point.timestamp for point in history] == [1000, 9000, 9001]
    assert "system/gpu_0_power_usage_watts" not in run.data.metrics


def test_the_proof_of_conversion_is_logged_as_metrics(results: Any) -> None:
    results.ok("tflite-int8", [0, 0, 0, 0], 2.0)
    (row,) = summarize.summarise(("tflite-int8",))["rows"]
    row["details"] |= {"engine_ops": 1, "share_in_engines": 0.99, "tf32": True, "ops_outside": {"Identity": 1}}
    row["details"] |= {"engine_build_s": {"1": 26.0, "1-8": 30.0}, "gpu": {"process_memory_bytes": 7e8}}
    row["details"] |= {"engines": {"trt-serialized-engine.TRTEngineOp_0": []}}
    found = {point.name: point.value for point in track.child_metrics(row)}
    expected = {
        "engine_ops": 1, "share_in_engines": 0.99, "engine_build_s.batch1": 26, "engine_build_s.batch1-8": 30,
        "gpu_process_memory_bytes": 7e8, "ops_outside.Identity": 1, "engine_files": 1,
    }  # fmt: skip
    assert expected.items() <= found.items()
    assert "tf32" not in found


def test_the_tensorrt_that_was_linked_and_loaded_is_logged_in_words(main: Main, main_checkout: Path) -> None:
    summary = files.read_json(paths.SUMMARY)
    found = {"tensorrt_linked": "8.4.3", "tensorrt_loaded": "8.5.3"}
    summary["rows"][-1]["details"] |= found
    files.write_json(paths.SUMMARY, summary)
    main()
    store = Logged(main_checkout)
    children = store.children(store.parents[0])
    name = summary["rows"][-1]["variant"]
    assert found.items() <= children.pop(name).data.tags.items()
    assert not any("tensorrt_linked" in run.data.tags for run in children.values())


def test_what_the_gpu_tells_of_copies_and_compute_is_logged_by_batch_size(results: Any) -> None:
    results.ok("tflite-int8", [0, 0, 0, 0], 2.0)
    (row,) = summarize.summarise(("tflite-int8",))["rows"]
    row["parts_ms"] = {"8": {"input_copy": 0.1, "compute": 0.2, "output_copy": 0.3}}
    found = {(point.name, point.step): point.value for point in track.child_metrics(row)}
    assert {(name, 8): found[name, 8] for name in ("host_input_copy_ms", "host_compute_ms", "host_output_copy_ms")} == {
        ("host_input_copy_ms", 8): 0.1, ("host_compute_ms", 8): 0.2, ("host_output_copy_ms", 8): 0.3,
    }  # fmt: skip


def test_the_receipt_names_the_run(main: Main, main_checkout: Path) -> None:
    main()
    receipt = files.read_json(paths.TRACK)
    assert receipt["run"] == Logged(main_checkout).parents[0].info.run_id
    assert receipt["uri"] == f"sqlite:///{main_checkout}/mlflow.db"
    assert track.already_logged(receipt["key"], receipt["uri"])


@pytest.mark.parametrize("receipt", ["kept", "lost"])
def test_a_second_run_adds_nothing(main: Main, main_checkout: Path, receipt: str) -> None:
    main()
    before = paths.TRACK.read_bytes()
    if receipt == "lost":
        paths.TRACK.unlink()
    main()
    assert len(Logged(main_checkout).runs) == 1 + len(NAMES)
    assert paths.TRACK.read_bytes() == before


def test_a_kept_receipt_does_not_hide_a_store_that_is_gone(
    main: Main, main_checkout: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main()
    key, uri = (files.read_json(paths.TRACK)[name] for name in ("key", "uri"))
    assert track.already_logged(key, uri)
    (main_checkout / "mlflow.db").unlink()
    assert not track.already_logged(key, uri)
    shutil.copy(migrated, main_checkout / "mlflow.db")
    main()
    assert len(Logged(main_checkout).runs) == 1 + len(NAMES)


def test_a_run_that_somebody_deleted_is_logged_again(main: Main, main_checkout: Path) -> None:
    main()
    logged = Logged(main_checkout)
    logged.client.delete_run(logged.parents[0].info.run_id)
    main()
    (parent,) = Logged(main_checkout).parents
    assert parent.info.run_id != logged.parents[0].info.run_id


@pytest.mark.parametrize("text", ["{", "[]", "no run"])
def test_a_damaged_receipt_is_none(main: Main, main_checkout: Path, text: str) -> None:
    main()
    before = paths.TRACK.read_text()
    receipt = files.read_json(paths.TRACK)
    paths.TRACK.write_text(json.dumps({"key": receipt["key"], "uri": receipt["uri"]}) if text == "no run" else text)
    main()
    assert paths.TRACK.read_text() == before
    assert len(Logged(main_checkout).runs) == 1 + len(NAMES)


def test_other_parameters_with_the_same_results_are_a_new_parent_of_cached_children(
    main: Main, main_checkout: Path, edit: Callable[..., None]
) -> None:
    main()
    edit(("tracking.uri", None), ("calibration.seed", 7))
    main()
    store = Logged(main_checkout)
    first, second = store.parents
    assert second.data.params["calibration.seed"] == "7"
    originals, cached = store.children(first), store.children(second)
    assert set(originals) == set(cached) == set(NAMES)
    for name, run in cached.items():
        assert run.data.tags["cached"] == "true"
        assert run.data.tags["cached_from"] == originals[name].info.run_id
        assert run.data.metrics == originals[name].data.metrics


def test_a_variant_that_was_done_again_is_not_cached(main: Main, main_checkout: Path, results: Any) -> None:
    main()
    results.timed("savedmodel-fp32", 4.0)
    results.timed("tflite-int8", 2.5)
    summarise()
    main()
    store = Logged(main_checkout)
    children = store.children(store.parents[1])
    assert {name: run.data.tags["cached"] for name, run in children.items()} == {
        "savedmodel-fp32": "true",
        "tftrt-fp32": "true",
        "tflite-int8": "false",
    }


def test_an_interrupted_parent_is_completed_without_doubles(
    main: Main, main_checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    log = track.Store.log

    def interrupted(store: track.Store, run: str, *what: Any) -> None:
        if len(logged) == 1:
            raise KeyboardInterrupt
        logged.append(run)
        log(store, run, *what)

    with monkeypatch.context() as patch:
        patch.setattr(track.Store, "log", interrupted)
        with pytest.raises(KeyboardInterrupt):
            main()
    assert not paths.TRACK.exists()
    store = Logged(main_checkout)
    (parent,) = store.parents
    assert parent.info.status == "RUNNING"
    assert [run.info.status for run in store.children(parent).values()] == ["FINISHED", "RUNNING"]

    main()
    store = Logged(main_checkout)
    assert [run.info.run_id for run in store.parents] == [parent.info.run_id]
    assert store.parents[0].info.status == "FINISHED"
    children = store.children(store.parents[0])
    assert set(children) == set(NAMES)
    assert {run.info.status for run in children.values()} == {"FINISHED"}
    assert {run.data.tags["cached"] for run in children.values()} == {"false"}
    # What was finished stayed as it was.
    assert children[NAMES[0]].info.run_id == logged[0]
    assert len(store.runs) == 1 + len(NAMES)


def test_an_experiment_of_dvc_is_tagged(main: Main, main_checkout: Path) -> None:
    main("--experiment", "fizzy-name")
    assert {run.data.tags["dvc.experiment"] for run in Logged(main_checkout).runs} == {"fizzy-name"}


def test_artifacts_lie_beside_the_database_of_the_main_checkout(main: Main, main_checkout: Path) -> None:
    main()
    assert list((main_checkout / "mlartifacts").rglob("summary.md"))
    assert not Path("mlruns").exists()
    assert not Path("mlartifacts").exists()


@pytest.mark.parametrize("name", ["two words", "hash#tag", "größe"])
def test_a_checkout_may_lie_in_a_folder_of_any_name(
    summary: Path, main_checkout: Path, command_line: Callable[..., None], name: str
) -> None:
    place = main_checkout.rename(main_checkout.parent / name)
    command_line("--checkout", place)
    track.main()
    assert {path.name for path in place.iterdir()} == {"mlflow.db", "mlflow.lock", "mlartifacts"}
    assert list((place / "mlartifacts").rglob("summary.md"))
    receipt = files.read_json(paths.TRACK)
    assert track.already_logged(receipt["key"], receipt["uri"])


@pytest.mark.parametrize("name", ["per%20cent", "question?"])
def test_a_folder_name_that_means_something_in_an_address_does_not_send_runs_elsewhere(
    summary: Path, main_checkout: Path, command_line: Callable[..., None], name: str
) -> None:
    place = main_checkout.rename(main_checkout.parent / name)
    command_line("--checkout", place)
    with suppress(PipelineError):
        track.main()
    assert {path.name for path in place.parent.iterdir()} == {"checkout", name}


def test_an_unreachable_server_is_one_sentence_and_leaves_no_receipt(
    main: Main, edit: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    edit(("tracking.uri", "http://127.0.0.1:9"))
    files.write_json(paths.TRACK, {"key": "old", "uri": "old", "run": "old"})
    with pytest.raises(SystemExit) as end:
        errors.run(main)
    assert end.value.code == 1
    message = capsys.readouterr().err
    assert message.startswith("error: could not log to MLflow at http://127.0.0.1:9 (")
    assert message.endswith("nothing is lost, `make repro` logs what is missing once the store answers\n")
    assert message.count("\n") == 1
    assert not paths.TRACK.exists()


def test_a_deleted_experiment_says_what_to_do(main: Main, main_checkout: Path) -> None:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{main_checkout}/mlflow.db")
    client.delete_experiment(client.create_experiment("trt-pipeline"))
    with pytest.raises(PipelineError) as caught:
        main()
    assert str(caught.value) == (
        "the MLflow experiment trt-pipeline was deleted: restore it, or set another tracking.experiment"
    )


def test_a_database_that_is_none_is_told(main: Main, main_checkout: Path) -> None:
    (main_checkout / "mlflow.db").write_text("no database")
    with pytest.raises(PipelineError, match=r"could not log to MLflow at sqlite:////.*mlflow\.db \(.*file is not a"):
        main()


def test_a_missing_summary_names_the_command_that_writes_it(main: Main) -> None:
    paths.SUMMARY.unlink()
    with pytest.raises(PipelineError, match=r"reports/summary\.json is missing: run `make repro`"):
        main()


def test_the_store_is_mlflows_variable_then_params_then_the_checkout(
    checkout: Path, edit: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert store.tracking_uri(document.load(), Path()) == f"sqlite:///{checkout}/mlflow.db"
    edit(("tracking.uri", "http://mlflow.example:5000"))
    assert store.tracking_uri(document.load(), Path()) == "http://mlflow.example:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://other:5000")
    assert store.tracking_uri(document.load(), Path()) == "http://other:5000"


def test_a_key_changes_with_parameters_and_with_results(checkout: Path, edit: Callable[..., None]) -> None:
    before = document.load()
    edit(("calibration.seed", 9))
    after = document.load()
    keys = [track.run_key(before, {"a": 1}), track.run_key(before, {"a": 2}), track.run_key(after, {"a": 1})]
    assert len(set(keys)) == 3
    assert track.run_key(before, {"a": 1}) == keys[0]


def test_nested_parameters_become_dotted_names() -> None:
    assert track.flat({"a": {"b": 1, "c": {"d": None}}, "e": (1, 8), "f": []}) == {
        "a.b": 1,
        "a.c.d": None,
        "e": "1,8",
        "f": "",
    }
