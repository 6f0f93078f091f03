from pathlib import Path

import pytest

from stages.contracts.environment import OTHER_GPUS
from stages.contracts.labels import Labels
from stages.contracts.row import Summary
from stages.contracts.status import Status
from stages.core import files
from stages.statistics import summary, tables
from stages.statistics.per_class import CLASSES, FILES
from stages.statistics.tables import METRICS, PLOTS
from tests.fixtures.models import read_table
from tests.fixtures.records import GPU_MACHINE, Results

NAMED = Labels(("tench", "a, b"), ("n1", "n2"))
BASELINE, INT8, STOPPED = "savedmodel-fp32", "tflite-int8", "tftrt-fp32"


@pytest.fixture
def results(checkout: Path) -> Results:
    """Two variants that ran and one that did not."""
    made = Results()
    made.ok(BASELINE, [0, 0, 1, 0], 4.0, [0, 0, 1, 1])
    made.ok(INT8, [0, 0, 0, 0], 2.0, [0, 0, 1, 1])
    made.stopped(STOPPED, Status("skipped", "no NVIDIA GPU"))
    return made


@pytest.fixture
def made(results: Results) -> Summary:
    return summary.build((BASELINE, INT8, STOPPED))


def test_metrics_hold_numbers_by_variant_and_nothing_of_those_that_did_not_run(made: Summary) -> None:
    found = tables.metrics(made)
    assert set(found) == {BASELINE, INT8}
    figures = found[INT8]
    assert (figures["top1"], figures["agreement"], figures["size_bytes"]) == (0.5, 0.75, 2_000_000)
    assert (figures["first_inference_ms"], figures["load_ms"], figures["convert_s"]) == (31, 12.5, 1.5)
    batch8 = figures["batch8"]
    assert isinstance(batch8, dict)
    assert (batch8["p50_ms"], batch8["p50_ci95_ms_low"], batch8["samples"]) == (16, 16, 100)


def test_metrics_leave_out_what_is_not_known(results: Results) -> None:
    found = tables.metrics(summary.build((INT8,)))[INT8]
    assert "agreement" not in found
    batch1 = found["batch1"]
    assert isinstance(batch1, dict) and "p99_ms" not in batch1


def test_flat_numbers_have_the_ends_of_intervals_and_no_nulls() -> None:
    record = {
        "top1": 0.5, "top1_ci95": (0.25, 0.75), "p99_ci95_ms": [3, None], "top5_ci95": None, "n": 4, "name": "a",
        "qat": True,
    }  # fmt: skip
    assert tables.flat(record) == {
        "top1": 0.5, "n": 4, "top1_ci95_low": 0.25, "top1_ci95_high": 0.75, "p99_ci95_ms_low": 3
    }  # fmt: skip


def test_metrics_and_plots_are_files(made: Summary) -> None:
    tables.write(made, NAMED)
    assert files.read_json(METRICS) == tables.metrics(made)
    assert read_table(PLOTS / "variants.csv") == [
        {"variant": BASELINE, "top1": "0.75", "p50_ms": "4.0", "size_mb": "2.0"},
        {"variant": INT8, "top1": "0.5", "p50_ms": "2.0", "size_mb": "2.0"},
    ]
    assert [row["batch_size"] for row in read_table(PLOTS / "latency.csv")] == ["1", "8", "1", "8"]


def test_every_evaluated_variant_has_its_classes(made: Summary) -> None:
    tables.write(made, NAMED)
    assert {path.name for path in CLASSES.iterdir()} == {f"{name}{kind}" for name in (BASELINE, INT8) for kind in FILES}
    assert read_table(CLASSES / f"{BASELINE}.csv")[1] == {
        "class": "1", "name": "a, b", "precision": "1.0", "recall": "0.5", "f1": "0.6666666666666666", "support": "2",
    }  # fmt: skip
    (_, second) = read_table(CLASSES / f"{BASELINE}_confusion.csv")[:2]
    assert second == {"label": "1", "predicted": "0", "images": "1"}


def test_tables_of_a_removed_variant_go(made: Summary, results: Results) -> None:
    tables.write(made, NAMED)
    tables.write(summary.build((INT8,)), NAMED)
    assert {path.name for path in CLASSES.iterdir()} == {f"{INT8}{kind}" for kind in FILES}


def test_without_any_result_the_tables_are_empty(results: Results) -> None:
    tables.write(summary.build((STOPPED,)), NAMED)
    assert files.read_json(METRICS) == {}
    assert read_table(PLOTS / "variants.csv") == read_table(PLOTS / "latency.csv") == []
    assert list(CLASSES.iterdir()) == []


def test_the_tables_are_of_this_device_alone(results: Results) -> None:
    before = summary.build((BASELINE, INT8))
    results.copy_to(OTHER_GPUS / "T4", GPU_MACHINE)
    after = summary.build((BASELINE, INT8))
    assert len(after.rows) == 2 * len(before.rows)
    assert tables.metrics(after) == tables.metrics(before)
