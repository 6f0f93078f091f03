from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stages import summarize
from stages.contracts import codec, labels, predictions
from stages.contracts.conversion import Conversion, conversion_path
from stages.contracts.environment import ENVIRONMENT, OTHER_GPUS
from stages.contracts.evaluation import Counts, Evaluation, evaluation_path, predictions_path
from stages.contracts.images import IMAGES
from stages.contracts.model import MODEL
from stages.contracts.row import HERE, ClassAverages, Doubt, Row, Summary
from stages.contracts.status import OK, Status
from stages.contracts.timing import (
    PARTS,
    SAMPLES,
    TIMING,
    GpuState,
    GpuWatch,
    Memory,
    Parts,
    Series,
    read_samples,
    write_samples,
)
from stages.contracts.training import QAT_RECORD, QatRecord
from stages.contracts.variant import Variant
from stages.core.errors import PipelineError
from stages.params import measurement
from stages.statistics import summary
from stages.statistics.summary import MISSING
from tests.fixtures.cpu import BUSY, QUIET
from tests.fixtures.errors import refused
from tests.fixtures.records import CPU_MACHINE, GPU_MACHINE, Results, environment

BASELINE, INT8 = "savedmodel-fp32", "tflite-int8"
CONVERTED = conversion_path(INT8)
SKIPPED, FAILED = Status("skipped", "no NVIDIA GPU"), Status("failed", "no memory")


@pytest.fixture
def results(checkout: Path) -> Results:
    """A checkout in which everything but the variants has run."""
    return Results()


def rows(*names: str) -> tuple[Row, ...]:
    return summary.build(names).rows


def test_a_variant_that_ran_has_every_figure(results: Results) -> None:
    results.ok(BASELINE, [0, 0, 0, 1], 4.0)
    (row,) = rows(BASELINE)
    assert (row.variant, row.status, row.device) == (Variant("savedmodel", "fp32"), OK, HERE)
    assert row.accuracy and row.footprint and row.conversion
    assert (row.accuracy.top1.value, row.accuracy.top5.value) == (0.75, 0.75)
    assert row.accuracy.top1.ci95 == (pytest.approx(0.3006, abs=1e-4), pytest.approx(0.9544, abs=1e-4))
    assert [(speed.batch_size, speed.latency.p50_ms) for speed in row.speeds] == [(1, 4), (8, 32)]
    assert [speed.latency_host.p50_ms for speed in row.speeds] == [5, 33]
    assert [speed.first_inference_ms for speed in row.speeds] == [31, 38]
    assert (row.load_ms, row.conversion.seconds, row.size_bytes) == (12.5, 1.5, 2_000_000)
    assert row.footprint.peak_memory_bytes == 300_000_000
    assert (row.gpu, row.doubts, row.speeds[0].parts_ms) == (None, (), None)


@pytest.mark.parametrize("status", [SKIPPED, FAILED])
def test_a_variant_without_a_model_has_its_reason_and_no_figures(results: Results, status: Status) -> None:
    results.stopped("tftrt-fp32", status)
    stage = "convert" if status.state == "failed" else None
    assert rows("tftrt-fp32") == (Row(Variant("tftrt", "fp32"), replace(status, stage=stage)),)


def test_a_failed_evaluation_keeps_its_latency(results: Results) -> None:
    results.ok(INT8, [0, 0, 0, 0], 2.0)
    codec.write(Evaluation(FAILED), evaluation_path(INT8))
    predictions.write([], predictions_path(INT8))
    (row,) = rows(INT8)
    assert row.status == replace(FAILED, stage="evaluate")
    assert row.accuracy is None
    assert row.speeds[0].latency.p50_ms == 2


def test_a_failed_timing_keeps_its_accuracy(results: Results) -> None:
    results.ok(INT8, [0, 0, 0, 0], 2.0)
    results.untimed(INT8, "no memory")
    (row,) = rows(INT8)
    assert row.status == replace(FAILED, stage="benchmark")
    assert row.accuracy and row.accuracy.top1.value == 1
    assert (row.speeds, row.load_ms, row.footprint) == ((), None, None)


@pytest.mark.parametrize(
    ("path", "stage"), [(conversion_path, "convert"), (evaluation_path, "evaluate"), (predictions_path, "evaluate")]
)
def test_a_missing_record_is_a_failure_of_its_stage(results: Results, path: object, stage: str) -> None:
    results.ok(INT8, [0, 0, 0, 0], 2.0)
    assert callable(path)
    path(INT8).unlink()
    assert rows(INT8)[0].status == replace(MISSING, stage=stage)


def test_a_variant_that_the_timing_does_not_know_is_a_failure(results: Results) -> None:
    results.ok(INT8, [0, 0, 0, 0], 2.0)
    results.timings.clear()
    results.write_timings()
    assert rows(INT8)[0].status == replace(MISSING, stage="benchmark")


def test_the_first_stage_that_failed_gives_the_reason(results: Results) -> None:
    results.converted(INT8)
    assert rows(INT8)[0].status == replace(MISSING, stage="evaluate")


def test_rows_keep_the_order_of_params_and_others_have_none(results: Results) -> None:
    for name in (INT8, BASELINE, "tflite-fp32"):
        results.ok(name, [0, 0, 0, 0], 2.0)
    assert [row.name for row in rows("tflite-fp32", BASELINE)] == ["tflite-fp32", BASELINE]


def test_a_variant_whose_evaluation_failed_takes_no_figure_from_the_others(results: Results) -> None:
    for name in (BASELINE, INT8, "tflite-fp16"):
        results.ok(name, [0, 0, 0, 1], 4.0)
    whole = summary.build((BASELINE, INT8))
    codec.write(Evaluation(FAILED), evaluation_path("tflite-fp16"))
    predictions.write([], predictions_path("tflite-fp16"))
    assert summary.build((BASELINE, INT8, "tflite-fp16")).rows[:2] == whole.rows


def nan_score(results: Results) -> None:
    table = predictions_path(INT8)
    table.write_text(table.read_text().replace("0.5", "nan", 1))


def counted(counts: Counts | None) -> Callable[[Results], None]:
    return lambda _: codec.write(Evaluation(OK, counts), evaluation_path(INT8))


def timing_of(**changes: Any) -> Callable[[Results], None]:
    def damage(results: Results) -> None:
        results.timings[INT8] = replace(results.timings[INT8], **changes)
        results.write_timings()

    return damage


def warm_up_of(key: str) -> Callable[[Results], None]:
    def damage(results: Results) -> None:
        (repeat,) = results.timings[INT8].repeats
        timing_of(repeats=(replace(repeat, warm_up={key: repeat.warm_up["1"]}),))(results)

    return damage


def of_another(results: Results) -> None:
    codec.write(replace(codec.read(Conversion, conversion_path(INT8)), variant=Variant("tflite", "fp16")), CONVERTED)


def overwritten(path: Path, text: str) -> Callable[[Results], None]:
    def damage(results: Results) -> None:
        path.write_text(text)

    return damage


@pytest.mark.parametrize(
    ("damage", "stage", "path"),
    [
        (of_another, "convert", CONVERTED),
        *(
            (overwritten(path, text), stage, path)
            for stage, path in (("convert", CONVERTED), ("evaluate", evaluation_path(INT8)))
            for text in ("{", '{"schema": 99}', '{"schema": 1, "status": "ok"}', "[]")
        ),
        (nan_score, "evaluate", predictions_path(INT8)),
        (lambda _: predictions.write([], predictions_path(INT8)), "evaluate", evaluation_path(INT8)),
        *(
            (counted(counts), "evaluate", evaluation_path(INT8))
            for counts in (None, Counts(5, 3, 3), Counts(4, 5, 5), Counts(4, 3, 2), Counts(4, -1, 3), Counts(0, 0, 0))
        ),
        (timing_of(repeats=()), "benchmark", TIMING),
        *((warm_up_of(key), "benchmark", TIMING) for key in ("one", "01", "-1", "0", "", "1.5")),
    ],
)
def test_a_damaged_record_fails_its_row_alone(
    results: Results, damage: Callable[[Results], None], stage: str, path: Path
) -> None:
    for name in (BASELINE, INT8):
        results.ok(name, [0, 0, 0, 1], 4.0)
    (whole,) = rows(BASELINE)
    damage(results)
    baseline, int8 = rows(BASELINE, INT8)
    assert baseline == whole
    assert (int8.status.state, int8.status.stage) == ("failed", stage)
    assert str(path) in str(int8.status.reason) and "run `make repro`" in str(int8.status.reason)
    assert (int8.accuracy is None, int8.speeds == ()) == (stage != "benchmark", stage != "evaluate")


def test_a_summary_that_is_refused_leaves_all_as_it_was(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    results.ok(BASELINE, [0, 0, 0, 1], 4.0)
    made = summary.build((BASELINE,))
    made = replace(made, rows=(replace(made.rows[0], load_ms=float("nan")),))
    monkeypatch.setattr(measurement, "variants", lambda: (BASELINE,))
    monkeypatch.setattr(summary, "build", lambda _: made)
    monkeypatch.setattr(labels, "read", lambda: None)
    before = sorted(Path().rglob("*"))
    assert refused(summarize.main).code == "record-not-finite"
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("stopped", [BASELINE, INT8])
def test_predictions_that_an_earlier_run_left_are_compared_with_nothing(results: Results, stopped: str) -> None:
    for name in (BASELINE, INT8):
        results.ok(name, [0, 0, 0, 0], 4.0)
    results.converted(stopped, FAILED)
    baseline, int8 = (row.accuracy and row.accuracy.agreement for row in rows(BASELINE, INT8))
    assert (baseline, int8) == ((None, None) if stopped == BASELINE else (1, None))


def test_averages_over_classes_and_calibration_error(results: Results) -> None:
    # Class 0 is always known, class 1 in one image of two; each answer has a confidence of 0.5.
    results.ok(BASELINE, [0, 0, 1, 0], 4.0, [0, 0, 1, 1])
    precision, f1 = pytest.approx((2 / 3 + 1) / 2), pytest.approx((4 / 5 + 2 / 3) / 2)
    accuracy = rows(BASELINE)[0].accuracy
    assert accuracy and accuracy.averages == ClassAverages(precision, 0.75, f1, precision, 0.75, f1, 0.25)


# All repeats of a variant.


def test_the_first_process_loads_and_the_largest_memory_counts(results: Results) -> None:
    results.ok(INT8, [0, 0, 0, 0], 2.0)
    results.timed(INT8, 2.0, repeats=2)
    first, second = results.timings[INT8].repeats
    later = replace(second, load_ms=99.0, memory=Memory(False, 400_000_000, None))
    results.timings[INT8] = replace(results.timings[INT8], repeats=(first, later))
    results.write_timings()
    (row,) = rows(INT8)
    assert row.footprint and row.footprint.peak_memory_bytes == 400_000_000
    assert row.load_ms == 12.5
    assert row.speeds[0].latency.repeat_p50_ms == (2, 2)


def test_a_gpu_has_conditions_memory_and_doubts(results: Results) -> None:
    results.ok(INT8, [0, 0, 0, 0], 2.0)
    (repeat,) = results.timings[INT8].repeats
    watch = GpuWatch(5_000, 1, (GpuState(1000, 500, 60, 70.5, ("power cap",)), GpuState(900, 500, 61, 71.0, ())))
    on_gpu = replace(repeat, gpu=watch, memory=Memory(True, 300, 4_000))
    results.timings[INT8] = replace(results.timings[INT8], repeats=(on_gpu,))
    results.write_timings()
    (row,) = rows(INT8)
    assert row.footprint and row.footprint.on_gpu
    assert (row.footprint.gpu_peak_memory_bytes, row.footprint.gpu_process_memory_bytes) == (4_000, 5_000)
    assert row.gpu and row.gpu.sm_clock_mhz == (900, 1000)
    assert row.doubts == (Doubt("throttled", 1, cause="power cap"), Doubt("shared GPU", 1))


def test_who_used_the_cpus_is_told_by_batch_size_over_all_repeats(results: Results) -> None:
    results.ok(INT8, [0, 0, 0, 0], 2.0)
    (repeat,) = results.timings[INT8].repeats
    noisy = replace(repeat, cpu={"1": (BUSY,) * 10, "8": (QUIET,) * 10}, retimed={"1": 3})
    quiet = replace(repeat, cpu={"1": (QUIET,) * 10, "8": (QUIET,) * 10})
    results.timings[INT8] = replace(results.timings[INT8], repeats=(noisy, quiet, replace(noisy, cpu={})))
    results.write_timings()
    (row,) = rows(INT8)
    taken = [speed.cpu.taken for speed in row.speeds if speed.cpu]
    assert taken == [pytest.approx((BUSY.busy_s - BUSY.own_s) / 2), 0]
    assert [speed.retimed for speed in row.speeds] == [6, 0]
    assert row.doubts == ()  # an old record has no limit
    results.max_foreign_cpu = 0.05
    results.write_timings()
    (row,) = rows(INT8)
    assert row.doubts == (Doubt("busy CPU", taken[0], batch_size=1),)


def test_where_blocks_are_too_short_to_tell_the_time_around_them_does(results: Results) -> None:
    """Blocks of 2 ms, in which no tick may have passed whoever used the CPUs."""
    results.ok(INT8, [0, 0, 0, 0], 2.0)
    (repeat,) = results.timings[INT8].repeats
    short = replace(QUIET, seconds=0.002, busy_s=0.0, own_s=0.002)
    results.max_foreign_cpu = 0.05
    for around, doubts in ((QUIET, 0), (BUSY, 1)):
        seen = replace(repeat, cpu={"1": (short,) * 10, "8": (QUIET,) * 10}, window={"1": around, "8": BUSY})
        results.timings[INT8] = replace(results.timings[INT8], repeats=(seen,))
        results.write_timings()
        (row,) = rows(INT8)
        assert [(doubt.kind, doubt.batch_size) for doubt in row.doubts] == [("busy CPU", 1)] * doubts


def test_cpus_that_are_none_damage_the_record(results: Results) -> None:
    results.ok(INT8, [0, 0, 0, 0], 2.0)
    (repeat,) = results.timings[INT8].repeats
    for wrong in (replace(QUIET, cpus=0), replace(QUIET, seconds=-1.0)):
        results.timings[INT8] = replace(results.timings[INT8], repeats=(replace(repeat, cpu={"1": (wrong,)}),))
        results.write_timings()
        (row,) = rows(INT8)
        assert (row.status.state, row.status.stage) == ("failed", "benchmark")


def test_parts_of_an_inference_are_medians_of_all_repeats(results: Results) -> None:
    results.ok(INT8, [0, 0, 0, 0], 2.0)
    calls = [
        (INT8, 1, part, repeat, 0, ms * scale)
        for repeat, ms in enumerate((1.0, 2.0, 6.0))
        for part, scale in zip(PARTS, (1, 10, 100), strict=True)
    ]
    kept = [
        (series.variant, series.batch_size, series.term, 0, block, ms)
        for series, repeats in read_samples().items()
        for block, times in enumerate(repeats[0])
        for ms in times
    ]
    write_samples([*kept, *calls])
    (row,) = rows(INT8)
    assert [speed.parts_ms for speed in row.speeds] == [Parts(2, 20, 200), None]


def test_calls_that_are_missing_are_named(results: Results) -> None:
    results.ok(INT8, [0, 0, 0, 0], 2.0)
    del results.calls[Series(INT8, 8, "latency_host")]
    results.write_timings()
    with pytest.raises(PipelineError) as caught:
        rows(INT8)
    assert caught.value.code == "samples-missing"
    assert caught.value.values == {"file": str(SAMPLES), "variant": INT8, "batch_size": 8}


# What all rows share.


def test_a_summary_has_the_training_that_a_variant_needs(results: Results) -> None:
    results.learned()
    results.ok(INT8, [0, 0, 0, 0], 2.0)
    results.ok("tflite-int8-qat", [0, 0, 0, 0], 2.0)
    assert summary.build((INT8,)).qat is None
    assert summary.build((INT8, "tflite-int8-qat")).qat == codec.read(QatRecord, QAT_RECORD)


def test_a_summary_is_read_as_it_was_written(results: Results) -> None:
    results.ok(BASELINE, [0, 0, 0, 0], 4.0)
    results.stopped("tftrt-fp32", SKIPPED)
    made = summary.build((BASELINE, "tftrt-fp32"))
    assert (made.model.name, made.environments[HERE].machine) == ("tiny", CPU_MACHINE)
    assert (made.evaluation.images, made.calibration.images) == (4, 100)
    assert codec.decode(Summary, codec.encode(made, "summary"), "summary") == made


@pytest.mark.parametrize("path", [TIMING, SAMPLES, IMAGES, MODEL, ENVIRONMENT])
def test_a_missing_shared_record_is_named(results: Results, path: Path) -> None:
    results.ok(BASELINE, [0, 0, 0, 0], 4.0)
    path.unlink()
    with pytest.raises(PipelineError, match=str(path)):
        rows(BASELINE)


# Other GPU models of a cluster.


@pytest.fixture
def t4(results: Results) -> Path:
    """Two variants here, and on a T4, which is slower."""
    for name, p50 in ((BASELINE, 10.0), (INT8, 4.0)):
        results.ok(name, [0, 0, 0, 1], p50)
    results.copy_to(OTHER_GPUS / "T4", GPU_MACHINE)
    for name, p50 in ((BASELINE, 4.0), (INT8, 2.0)):
        results.ok(name, [0, 0, 1, 1], p50)
    return OTHER_GPUS / "T4"


def test_another_gpu_has_rows_beside_its_own_baseline(t4: Path) -> None:
    made = summary.build((BASELINE, INT8))
    assert made.environments == {HERE: environment(CPU_MACHINE), "T4": environment(GPU_MACHINE)}
    assert [(row.device, row.name) for row in made.rows] == [
        (HERE, BASELINE), (HERE, INT8), ("T4", BASELINE), ("T4", INT8),
    ]  # fmt: skip
    assert [row.speeds[0].latency.p50_ms for row in made.rows] == [4, 2, 10, 4]
    assert [row.accuracy and row.accuracy.top1.value for row in made.rows] == [0.5, 0.5, 0.75, 0.75]
    assert [row.accuracy and row.accuracy.agreement for row in made.rows] == [1] * 4
    assert [row.accuracy.change.drop for row in made.rows if row.accuracy and row.accuracy.change] == [0, 0]


def test_a_record_that_another_gpu_lacks_fails_its_row_there_alone(t4: Path) -> None:
    (t4 / evaluation_path(INT8)).unlink()
    made = summary.build((BASELINE, INT8))
    assert [row.status.state for row in made.rows] == ["ok", "ok", "ok", "failed"]
