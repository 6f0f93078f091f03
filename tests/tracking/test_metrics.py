"""Names that MLflow's tables and charts show, which must not change between versions of the pipeline."""

from stages.contracts.conversion import Conversion, Proof
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
from stages.contracts.timing import Parts
from stages.contracts.variant import Variant
from stages.tracking import metrics

INT8 = Variant("tensorrt", "int8", qat=True)
FACTS = {
    "tf32": True, "form": "profile", "engine_files": 1, "engine_bytes": 9, "share_in_engines": 0.99, "engine_ops": 1,
    "engine_build_s.batch1": 26.0, "engine_build_s.batch1-8": 30.0, "ops_outside.Identity": 2,
    "engine.batch1-8.bytes": 9, "options.max_workspace_mib": 4096,
}  # fmt: skip


def latency(p50: float) -> Latency:
    return Latency(p50, p50 + 1, None, (p50 - 0.5, p50 + 0.5), (p50, None), (None, None), p50, 9.5, 100, (p50,), None)


def row() -> Row:
    change = Change(4, 2, 1, 1, -0.25, (-0.5, 0.125), (-0.5, 0.0), 1.0, ())
    averages = ClassAverages(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    return Row(
        INT8,
        OK,
        conversion=Conversion(INT8, OK, 1.5, {"a": 5, "b": 4}, "f" * 64, Proof("engine_layers", {"int8": 7}, FACTS)),
        accuracy=Accuracy(Share(2, 4, (0.15, 0.85)), Share(4, 4, (0.5, 1.0)), averages, 0.75, change, change),
        speeds=(
            Speed(1, 31.0, latency(2.0), latency(3.0)),
            Speed(8, 38.0, latency(16.0), latency(17.0), Parts(0.1, 0.2, 0.3)),
        ),
        load_ms=12.5,
        footprint=Footprint(True, 300, 200, 700),
    )


def test_a_row_has_these_numbers_and_no_others() -> None:
    single = {point.name: point.value for point in metrics.of_row(row()) if point.step == 0}
    assert single == {
        "top1": 0.5, "top1_ci95_low": 0.15, "top1_ci95_high": 0.85, "top5": 1, "top5_ci95_low": 0.5,
        "top5_ci95_high": 1, "agreement": 0.75, "macro_precision": 0.1, "macro_recall": 0.2, "macro_f1": 0.3,
        "weighted_precision": 0.4, "weighted_recall": 0.5, "weighted_f1": 0.6, "ece": 0.7,
        "won_back_points": 25, "won_back_points_ci95_low": -12.5, "won_back_points_ci95_high": 50,
        "first_inference_ms": 31, "load_ms": 12.5, "convert_s": 1.5, "size_bytes": 9, "peak_memory_bytes": 300,
        "gpu_peak_memory_bytes": 200, "gpu_process_memory_bytes": 700,
        "engine_files": 1, "engine_bytes": 9, "share_in_engines": 0.99, "engine_ops": 1, "int8_layers": 7,
        "engine_build_s.batch1": 26, "engine_build_s.batch1-8": 30, "ops_outside.Identity": 2,
        "p50_ms.batch1": 2, "p50_ms.batch8": 16, "throughput_ips.batch1": 9.5, "throughput_ips.batch8": 9.5,
    }  # fmt: skip


def test_latencies_stand_at_their_batch_size() -> None:
    at_eight = {point.name: point.value for point in metrics.of_row(row()) if point.step == 8}
    own = {
        "p50_ms": 16, "p90_ms": 17, "p50_ci95_ms_low": 15.5, "p50_ci95_ms_high": 16.5, "p90_ci95_ms_low": 16,
        "mean_ms": 16, "throughput_ips": 9.5, "samples": 100,
    }  # fmt: skip
    host = {"host_p50_ms": 17, "host_input_copy_ms": 0.1, "host_compute_ms": 0.2, "host_output_copy_ms": 0.3}
    assert {name: value for name, value in at_eight.items() if not name.startswith("host_")} == own
    assert host.items() <= at_eight.items()
    assert {name.removeprefix("host_") for name in at_eight if name.startswith("host_")} == {
        *own, "input_copy_ms", "compute_ms", "output_copy_ms"
    }  # fmt: skip


def test_what_did_not_happen_has_no_numbers() -> None:
    skipped = Status("skipped", "no NVIDIA GPU")
    assert metrics.of_row(Row(INT8, skipped, conversion=Conversion(INT8, skipped))) == []
    assert metrics.of_row(Row(INT8, skipped)) == []
