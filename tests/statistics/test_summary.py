import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages import summarize
from stages.contracts import labels, paths, predictions
from stages.contracts.labels import Labels
from stages.core import files
from stages.core.errors import PipelineError
from stages.reporting import table
from stages.statistics.per_class import FIGURES, FILES
from tests.fixtures.models import read_table

NAMED = Labels(("tench", "a, b"), ("n1", "n2"))
ENDED = "the stage left no result: it was ended, or what it needs is missing"
NO_GPU = "no NVIDIA GPU (no NVIDIA driver answers on this machine)"
MEASURED = (
    "top1", "top1_ci95", "top5", "top5_ci95", "agreement", "latency", "latency_host", "first_inference_ms", "load_ms",
    "convert_s", "size_bytes", "peak_memory_bytes",
)  # fmt: skip


def rows(*names: str) -> list[dict[str, Any]]:
    return list(summarize.summarise(names)["rows"])


def test_a_variant_that_ran_has_every_figure(results: Any) -> None:
    results.ok("savedmodel-fp32", [0, 0, 0, 1], 4.0)
    (row,) = rows("savedmodel-fp32")
    assert (row["variant"], row["runtime"], row["precision"]) == ("savedmodel-fp32", "savedmodel", "fp32")
    assert (row["status"], row["reason"]) == ("ok", None)
    assert (row["top1"], row["top5"]) == (0.75, 0.75)
    assert row["top1_ci95"] == (pytest.approx(0.3006, abs=1e-4), pytest.approx(0.9544, abs=1e-4))
    assert (row["latency"]["1"]["p50_ms"], row["latency"]["8"]["p50_ms"]) == (4, 32)
    assert row["latency_host"]["1"]["p50_ms"] == 5
    # Of the first batch size.
    assert row["first_inference_ms"] == 31
    assert (row["load_ms"], row["convert_s"], row["size_bytes"], row["peak_memory_bytes"]) == (12.5, 1.5, 2e6, 3e8)
    assert row["details"] == {"kind": "test", "files": {"model": 2_000_000}, "gpu_peak_memory_bytes": None, "gpu": None}
    assert all(row[key] is not None for key in MEASURED)


@pytest.mark.parametrize(
    ("status", "reason", "shown"), [("skipped", NO_GPU, NO_GPU), ("failed", "no engine", "convert: no engine")]
)
def test_a_variant_without_a_model_has_its_reason_and_no_figures(
    results: Any, status: str, reason: str, shown: str
) -> None:
    results.stopped("tftrt-fp32", status, reason)
    (row,) = rows("tftrt-fp32")
    assert (row["status"], row["reason"]) == (status, shown)
    assert all(row[key] is None for key in MEASURED)


def test_a_failed_evaluation_keeps_its_latency(results: Any) -> None:
    results.ok("tflite-int8", [0, 0, 0, 0], 2.0)
    record = {"status": "failed", "reason": "its process was ended by SIGKILL"}
    files.write_json(paths.record("tflite-int8", "evaluate.json"), record)
    predictions.write([], paths.record("tflite-int8", "predictions.csv"))
    (row,) = rows("tflite-int8")
    assert (row["status"], row["reason"]) == ("failed", "evaluate: its process was ended by SIGKILL")
    assert row["top1"] is None
    assert row["latency"]["1"]["p50_ms"] == 2


def test_a_failed_timing_keeps_its_accuracy(results: Any) -> None:
    results.ok("tflite-int8", [0, 0, 0, 0], 2.0)
    results.timings["tflite-int8"] = {"status": "failed", "reason": "ValueError: no model"}
    results.write_timings()
    (row,) = rows("tflite-int8")
    assert (row["status"], row["reason"]) == ("failed", "benchmark: ValueError: no model")
    assert row["top1"] == 1
    assert (row["latency"], row["latency_host"], row["load_ms"]) == (None, None, None)


@pytest.mark.parametrize(("kind", "stage"), [("convert.json", "convert"), ("evaluate.json", "evaluate")])
def test_a_missing_record_is_a_failure_of_its_stage(results: Any, kind: str, stage: str) -> None:
    results.ok("tflite-int8", [0, 0, 0, 0], 2.0)
    paths.record("tflite-int8", kind).unlink()
    (row,) = rows("tflite-int8")
    assert (row["status"], row["reason"]) == ("failed", f"{stage}: {ENDED}")


def test_a_variant_that_the_benchmark_does_not_know_is_a_failure(results: Any) -> None:
    results.ok("tflite-int8", [0, 0, 0, 0], 2.0)
    results.timings.clear()
    results.write_timings()
    (row,) = rows("tflite-int8")
    assert (row["status"], row["reason"]) == ("failed", f"benchmark: {ENDED}")


def test_the_first_step_that_failed_gives_the_reason(results: Any) -> None:
    results.converted("tflite-int8")
    (row,) = rows("tflite-int8")
    assert row["reason"] == f"evaluate: {ENDED}"


def test_a_removed_variant_gives_no_row(results: Any) -> None:
    results.ok("tflite-int8", [0, 0, 0, 0], 2.0)
    results.ok("tflite-fp32", [0, 0, 0, 0], 3.0)
    assert [row["variant"] for row in rows("tflite-fp32")] == ["tflite-fp32"]


def test_rows_keep_the_order_of_params(results: Any) -> None:
    for name in ("tflite-int8", "savedmodel-fp32", "tflite-fp32"):
        results.ok(name, [0, 0, 0, 0], 2.0)
    found = rows("tflite-fp32", "tflite-int8", "savedmodel-fp32")
    assert [row["variant"] for row in found] == ["tflite-fp32", "tflite-int8", "savedmodel-fp32"]


def test_agreement_is_with_the_baseline_and_not_with_the_labels(results: Any) -> None:
    results.ok("savedmodel-fp32", [1, 2, 0, 0], 4.0)
    results.ok("tflite-int8", [1, 2, 0, 3], 2.0)
    baseline, quantised = rows("savedmodel-fp32", "tflite-int8")
    assert (baseline["agreement"], quantised["agreement"]) == (1, 0.75)
    assert quantised["top1"] == 0.25


def test_agreement_is_null_without_the_baseline(results: Any) -> None:
    results.ok("savedmodel-fp32", [1, 2, 0, 0], 4.0)
    results.ok("tflite-int8", [1, 2, 0, 3], 2.0)
    assert rows("tflite-int8")[0]["agreement"] is None


def test_agreement_is_null_when_the_baseline_was_not_evaluated(results: Any) -> None:
    results.stopped("savedmodel-fp32", "failed", "no memory")
    results.ok("tflite-int8", [1, 2, 0, 3], 2.0)
    assert [row["agreement"] for row in rows("savedmodel-fp32", "tflite-int8")] == [None, None]


def test_agreement_ignores_predictions_that_an_earlier_run_left(results: Any) -> None:
    for name in ("savedmodel-fp32", "tflite-int8"):
        results.ok(name, [0, 0, 0, 0], 4.0)
    results.converted("tflite-int8", "failed", "no memory")
    baseline, failed = rows("savedmodel-fp32", "tflite-int8")
    assert baseline["agreement"] == 1
    assert failed["agreement"] is None


def test_agreement_is_not_with_what_an_earlier_baseline_left(results: Any) -> None:
    for name in ("savedmodel-fp32", "tflite-int8"):
        results.ok(name, [0, 0, 0, 0], 4.0)
    results.converted("savedmodel-fp32", "failed", "no memory")
    assert [row["agreement"] for row in rows("savedmodel-fp32", "tflite-int8")] == [None, None]


def test_every_variant_is_compared_with_the_baseline_on_each_image(results: Any) -> None:
    results.ok("savedmodel-fp32", [0, 0, 0, 1], 4.0)
    results.ok("tflite-int8", [0, 1, 2, 0], 2.0)
    results.ok("tflite-fp32", [0, 0, 0, 1], 3.0)
    baseline, int8, fp32 = rows("savedmodel-fp32", "tflite-int8", "tflite-fp32")
    assert baseline["change"] is None
    assert (int8["change"]["lost"], int8["change"]["gained"], int8["change"]["changed"]) == (2, 1, 3)
    assert int8["change"]["drop"] == 0.25
    assert (fp32["change"]["changed"], fp32["change"]["drop"]) == (0, 0)
    # Exact McNemar of two against one is 1, and Holm keeps it.
    assert int8["change"]["mcnemar_p_holm"] == fp32["change"]["mcnemar_p_holm"] == 1
    assert int8["change"]["classes"] == ({"label": 0, "images": 4, "lost": 2, "gained": 1},)


def test_p_values_are_adjusted_for_the_number_of_variants(results: Any) -> None:
    results.ok("savedmodel-fp32", [0] * 8, 4.0)
    for name in ("tflite-int8", "tflite-fp32", "tflite-fp16"):
        results.ok(name, [1] * 8, 2.0)
    found = rows("savedmodel-fp32", "tflite-int8", "tflite-fp32", "tflite-fp16")[1:]
    assert [row["change"]["mcnemar_p"] for row in found] == pytest.approx([2 / 2**8] * 3)
    assert [row["change"]["mcnemar_p_holm"] for row in found] == pytest.approx([6 / 2**8] * 3)


def test_other_images_are_not_compared(results: Any) -> None:
    results.ok("savedmodel-fp32", [0, 0, 0, 1], 4.0)
    results.ok("tflite-int8", [0, 0, 0], 2.0)
    assert rows("savedmodel-fp32", "tflite-int8")[1]["change"] is None


def test_training_is_compared_with_the_same_int8_without_it(results: Any) -> None:
    results.learned()
    results.ok("savedmodel-fp32", [0, 0, 0, 0], 4.0)
    results.ok("tflite-int8", [0, 1, 1, 2], 2.0)
    results.ok("onnxruntime-int8", [0, 0, 0, 0], 2.0)
    results.ok("tflite-int8-qat", [1, 0, 0, 2], 2.0)
    *others, trained = rows("savedmodel-fp32", "tflite-int8", "onnxruntime-int8", "tflite-int8-qat")
    assert (trained["runtime"], trained["precision"], trained["qat"]) == ("tflite", "int8", True)
    won = trained["change_from_int8"]
    assert (won["images"], won["changed"], won["lost"], won["gained"], won["drop"]) == (4, 3, 1, 2, -0.25)
    assert trained["change"]["drop"] == 0.5
    assert [(row["qat"], row["change_from_int8"]) for row in others] == [(False, None)] * 3


@pytest.mark.parametrize("before", [None, "stopped", "other images"])
def test_training_without_its_int8_on_the_same_images_is_not_compared(results: Any, before: str | None) -> None:
    results.learned()
    results.ok("savedmodel-fp32", [0, 0, 0, 1], 4.0)
    results.ok("tflite-int8-qat", [0, 0, 0, 0], 2.0)
    if before == "stopped":
        results.stopped("tflite-int8", "failed", "no memory")
    if before == "other images":
        results.ok("tflite-int8", [0, 0, 0], 2.0)
    names = ("savedmodel-fp32", "tflite-int8", "tflite-int8-qat")
    trained = rows(*(name for name in names if before or name != "tflite-int8"))[-1]
    assert trained["change_from_int8"] is None
    assert trained["change"]["drop"] == -0.25


def test_a_summary_has_the_training_that_a_variant_asks_for(results: Any) -> None:
    results.learned()
    results.ok("tflite-int8", [0, 0, 0, 0], 2.0)
    results.ok("tflite-int8-qat", [0, 0, 0, 0], 2.0)
    assert summarize.summarise(("tflite-int8",))["qat"] is None
    assert summarize.summarise(("tflite-int8", "tflite-int8-qat"))["qat"] == files.read_json(paths.QAT_RECORD)


def test_a_summary_names_its_model_machine_and_images(results: Any) -> None:
    results.ok("savedmodel-fp32", [0, 0, 0, 0], 4.0)
    found = summarize.summarise(("savedmodel-fp32",))
    assert found["model"]["name"] == "tiny"
    assert found["environment"]["cpu"] == "a CPU"
    assert (found["evaluation"]["images"], found["calibration"]["images"]) == (4, 100)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("record", [paths.BENCHMARK, paths.IMAGES, paths.MODEL, paths.ENVIRONMENT])
def test_a_missing_shared_record_is_told(results: Any, record: Path) -> None:
    results.ok("savedmodel-fp32", [0, 0, 0, 0], 4.0)
    record.unlink()
    with pytest.raises(PipelineError, match=f"{record} is missing: run `make repro`"):
        rows("savedmodel-fp32")


# What DVC compares.


def test_flat_metrics_hold_numbers_by_variant_and_nothing_of_those_that_did_not_run(mixed: tuple[str, ...]) -> None:
    found = summarize.flat_metrics(summarize.summarise(mixed)["rows"])
    assert set(found) == {"savedmodel-fp32", "tflite-int8"}
    figures = found["tflite-int8"]
    assert (figures["top1"], figures["agreement"], figures["size_bytes"]) == (0.5, 0.75, 2_000_000)
    assert figures["batch8"]["p50_ms"] == 16
    values = [*figures.values(), *figures["batch1"].values(), *figures["batch8"].values()]
    assert all(isinstance(value, (int, float, dict)) for value in values)


def test_flat_metrics_leave_out_what_is_not_known(results: Any) -> None:
    results.ok("tflite-int8", [0, 0, 1, 1], 2.0)
    assert "agreement" not in summarize.flat_metrics(rows("tflite-int8"))["tflite-int8"]


def test_main_writes_summary_table_metrics_and_plots(mixed: tuple[str, ...], edit: Callable[..., None]) -> None:
    edit(("variants", list(mixed)))
    labels.write(NAMED)
    summarize.main()
    summary = files.read_json(paths.SUMMARY)
    assert [row["variant"] for row in summary["rows"]] == list(mixed)
    assert paths.SUMMARY_TABLE.read_text(encoding="utf-8") == table.markdown(summary)
    assert files.read_json(paths.METRICS) == summarize.flat_metrics(summary["rows"])
    assert read_table(paths.PLOTS / "variants.csv") == [
        {"variant": "savedmodel-fp32", "top1": "0.75", "p50_ms": "4.0", "size_mb": "2.0"},
        {"variant": "tflite-int8", "top1": "0.5", "p50_ms": "2.0", "size_mb": "2.0"},
    ]
    assert [row["batch_size"] for row in read_table(paths.PLOTS / "latency.csv")] == ["1", "8", "1", "8"]
    for name in ("accuracy", "size", "latency"):
        assert (paths.PLOTS / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_main_works_when_no_variant_ran(results: Any, edit: Callable[..., None]) -> None:
    edit(("variants", ["tftrt-fp32"]))
    results.stopped("tftrt-fp32", "skipped", NO_GPU)
    labels.write(NAMED)
    summarize.main()
    assert files.read_json(paths.METRICS) == {}
    assert read_table(paths.PLOTS / "variants.csv") == []
    assert (paths.PLOTS / "accuracy.png").exists()
    assert list(paths.CLASSES.iterdir()) == []


def test_other_gpus_have_rows_of_their_own_beside_the_same_baseline(
    other_gpu: tuple[str, ...], machine: dict[str, Any]
) -> None:
    summary = summarize.summarise(other_gpu)
    (other,) = summary["other_gpus"]
    assert (other["gpu_model"], other["environment"]) == ("T4", machine)
    assert [row["variant"] for row in other["rows"]] == list(other_gpu)
    for key in ("top1", "change", "agreement", "status", "reason", "size_bytes"):
        assert [row[key] for row in other["rows"]] == [row[key] for row in summary["rows"]]
    p50s = [
        [row["latency"]["1"]["p50_ms"] for row in rows if row["latency"]] for rows in (summary["rows"], other["rows"])
    ]
    assert p50s == [[4, 2], [10, 4]]


def test_a_record_that_another_gpu_lacks_fails_its_row_there_alone(other_gpu: tuple[str, ...]) -> None:
    (paths.OTHER_GPUS / "T4" / paths.record("tflite-int8", "evaluate.json")).unlink()
    summary = summarize.summarise(other_gpu)
    rows = [{row["variant"]: row for row in found["rows"]} for found in (summary, *summary["other_gpus"])]
    assert [row["tflite-int8"]["status"] for row in rows] == ["ok", "failed"]


# Classes.


def test_every_evaluated_variant_has_its_averages_and_calibration_error(results: Any) -> None:
    # Class 0 is always known, class 1 in one image of two; each answer has a confidence of 0.5.
    results.ok("savedmodel-fp32", [0, 0, 1, 0], 4.0, [0, 0, 1, 1])
    results.stopped("tflite-int8", "failed", "no memory")
    row, failed = rows("savedmodel-fp32", "tflite-int8")
    assert {name: row[name] for name in FIGURES} == {
        "macro_precision": pytest.approx((2 / 3 + 1) / 2), "macro_recall": 0.75,
        "macro_f1": pytest.approx((4 / 5 + 2 / 3) / 2), "weighted_precision": pytest.approx((2 / 3 + 1) / 2),
        "weighted_recall": 0.75, "weighted_f1": pytest.approx((4 / 5 + 2 / 3) / 2), "ece": 0.25,
    }  # fmt: skip
    assert {failed[name] for name in FIGURES} == {None}
    flat = summarize.flat_metrics([row])["savedmodel-fp32"]
    assert (flat["macro_f1"], flat["ece"]) == (row["macro_f1"], 0.25)


def test_only_a_baseline_is_said_to_be_at_chance(results: Any) -> None:
    truth = [0, 1] * 10
    results.ok("savedmodel-fp32", [1, 0] * 10, 4.0, truth)
    results.ok("tflite-int8", [1, 0] * 10, 2.0, truth)
    baseline, int8 = rows("savedmodel-fp32", "tflite-int8")
    assert (baseline["at_chance"], int8["at_chance"]) == ({"correct": 0, "images": 20, "chance": 0.5}, None)
    results.ok("savedmodel-fp32", truth, 4.0, truth)
    assert rows("savedmodel-fp32")[0]["at_chance"] is None


def test_main_writes_the_classes_of_every_evaluated_variant(results: Any, edit: Callable[..., None]) -> None:
    edit(("variants", ["savedmodel-fp32", "tftrt-fp32"]))
    labels.write(NAMED)
    results.ok("savedmodel-fp32", [0, 0, 1, 0], 4.0, [0, 0, 1, 1])
    results.stopped("tftrt-fp32", "skipped", NO_GPU)
    summarize.main()
    assert {path.name for path in paths.CLASSES.iterdir()} == {f"savedmodel-fp32{kind}" for kind in FILES}
    assert read_table(paths.CLASSES / "savedmodel-fp32.csv")[1] == {
        "class": "1", "name": "a, b", "precision": "1.0", "recall": "0.5", "f1": "0.6666666666666666", "support": "2",
    }  # fmt: skip
    (_, second) = read_table(paths.CLASSES / "savedmodel-fp32_confusion.csv")[:2]
    assert second == {"label": "1", "predicted": "0", "images": "1"}
    assert (paths.CLASSES / "savedmodel-fp32_confusion_matrix.png").read_bytes().startswith(b"\x89PNG")


def test_classes_of_a_removed_variant_go(mixed: tuple[str, ...], edit: Callable[..., None]) -> None:
    labels.write(NAMED)
    for names in (list(mixed), ["tflite-int8"]):
        edit(("variants", names))
        summarize.main()
    # A single class makes no matrix.
    assert {path.name for path in paths.CLASSES.iterdir()} == {
        "tflite-int8.csv", "tflite-int8_confusion.csv", "tflite-int8_calibration.csv",
    }  # fmt: skip
