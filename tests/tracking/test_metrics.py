"""Names that MLflow's tables and charts show, which must not change between versions of the pipeline."""

from dataclasses import replace

from stages.contracts.conversion import Conversion
from stages.contracts.row import (
    Accuracy,
    Change,
    ClassAverages,
    Footprint,
    Latency,
    Row,
    Share,
    Speed,
)
from stages.contracts.status import OK, Status
from stages.contracts.system import Sample
from stages.contracts.timing import Parts
from stages.contracts.variant import Variant
from stages.tracking import metrics
from tests.fixtures.records import PROOF

INT8 = Variant("tensorrt", "int8", qat=True)


def latency(p50: float) -> Latency:
    return Latency(p50, p50 + 1, None, (p50 - 0.5, p50 + 0.5), (p50, None), (None, None), p50, 9.5, 100, (p50,), None)


def row() -> Row:
    change = Change(4, 2, 1, 1, -0.25, (-0.5, 0.125), (-0.5, 0.0), 1.0, ())
    averages = ClassAverages(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    return Row(
        INT8,
        OK,
        conversion=Conversion(INT8, OK, 1.5, {"a": 5, "b": 4}, "f" * 64, PROOF),
        accuracy=Accuracy(Share(2, 4, (0.15, 0.85)), Share(4, 4, (0.5, 1.0)), averages, 0.75, change, change),
        speeds=(
            Speed(1, 31.0, latency(2.0), latency(3.0)),
            Speed(8, 38.0, latency(16.0), latency(17.0), Parts(0.1, 0.2, 0.3)),
        ),
        load_ms=12.5,
        footprint=Footprint(True, 300, 200, 700),
    )


def test_a_row_has_these_numbers_and_no_others() -> None:
    points = metrics.of_row(row(), 1)
    assert {point.step for point in points} == {0}
    assert {point.name: point.value for point in points} == {
        "top1": 0.5, "top1_ci95_low": 0.15, "top1_ci95_high": 0.85, "top5": 1, "agreement": 0.75, "macro_f1": 0.3,
        "ece": 0.7, "won_back_points": 25,
        "p50_ms": 2, "p50_ci95_ms_low": 1.5, "p50_ci95_ms_high": 2.5, "p90_ms": 3, "throughput_ips": 9.5,
        "size_bytes": 9, "peak_memory_bytes": 300, "gpu_peak_memory_bytes": 200,
        "p50_ms.batch8": 16, "load_ms": 12.5, "convert_s": 1.5, "throughput_ips.batch8": 9.5,
    }  # fmt: skip


def test_a_column_is_of_one_batch_size_whichever_the_choice_looks_at() -> None:
    figures = {point.name: point.value for point in metrics.of_row(row(), 8)}
    assert (figures["p50_ms"], figures["p50_ms.batch8"], figures["p90_ms.batch8"]) == (2, 16, 17)
    assert (figures["p50_ci95_ms_low.batch8"], figures["p50_ci95_ms_high.batch8"]) == (15.5, 16.5)
    assert not {"p90_ms", "p50_ci95_ms_low"} & figures.keys()
    assert "p90_ms" not in {point.name for point in metrics.of_row(row(), 4)}


def test_a_run_has_at_most_25_metrics_and_the_most_telling_first() -> None:
    sizes = (1, 2, 4, 8, 16, 32, 64)
    wide = replace(row(), speeds=tuple(Speed(size, 30.0, latency(2.0 * size), latency(3.0)) for size in sizes))
    names = {point.name for point in metrics.of_row(wide, 1)}
    assert {"top1", "p90_ms", "size_bytes", "p50_ms.batch2", "p50_ms.batch8"} <= names
    watched = {point.name for point in metrics.of_machine([Sample(1000, 5.0, 800.0, 50.0, 7.0, 20.0)])}
    assert len(names | watched) == 25


def test_what_did_not_happen_has_no_numbers() -> None:
    skipped = Status("skipped", "no NVIDIA GPU")
    assert metrics.of_row(Row(INT8, skipped, conversion=Conversion(INT8, skipped)), 1) == []
    assert metrics.of_row(Row(INT8, skipped), 1) == []
