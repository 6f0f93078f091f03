from dataclasses import replace

import pytest

from stages.contracts.conversion import Proof
from stages.contracts.row import HERE, Row, Summary
from stages.reporting import table
from tests.fixtures.records import CPU_MACHINE, GPU_MACHINE, environment
from tests.reporting.rows import BASELINE, INT8, MIXED, NO_MEMORY, latency, row, speed, stopped, summary


def cells(text: str) -> dict[str, dict[str, str]]:
    """The table by variant and column."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    header, _, *body = lines
    return {line[0]: dict(zip(header, line, strict=True)) for line in body}


def markdown(*rows: Row) -> str:
    """The table of these rows."""
    return table.markdown(summary(*rows))


def test_the_table_has_every_variant_with_its_figures() -> None:
    shown = cells(markdown(*MIXED))
    assert list(shown) == [one.name for one in MIXED]
    assert shown["tflite-int8"] == {
        "variant": "tflite-int8",
        "status": "ok",
        "top-1 % [95 % CI]": "50.0 [30.0, 70.0]",
        "drop, points [95 % CI]": "25.0 [-36.2, 69.9]",
        "agreement %": "75.0",
        "p50 ms, batch 1": "2.00",
        "p50 ms, batch 8": "16.00",
        "p90 ms, batch 1": "3.00",
        "speed-up, batch 1": "2.00x",
        "size MB": "2.0",
        "peak memory MB": "300",
    }
    assert shown["savedmodel-fp32"]["speed-up, batch 1"] == "1.00x"
    assert {value for key, value in shown["tftrt-fp32"].items() if key not in ("variant", "status")} == {""}
    assert (shown["tftrt-fp32"]["status"], shown["tflite-fp32"]["status"]) == ("skipped", "failed")


def test_the_table_names_the_versions_of_libraries_where_any_is_chosen() -> None:
    rows = row("savedmodel-fp32"), row("onnxruntime_1_23-int8"), row("onnxruntime-int8")
    shown = cells(markdown(*rows))
    assert {name: one["runtime"] for name, one in shown.items()} == {
        "savedmodel-fp32": "savedmodel",
        "onnxruntime_1_23-int8": "onnxruntime 1.23",
        "onnxruntime-int8": "onnxruntime",
    }
    assert "runtime" not in cells(markdown(*MIXED))["savedmodel-fp32"]


def test_the_table_tells_every_reason_once() -> None:
    sentences = [line for line in markdown(*MIXED).splitlines() if line.startswith("- ")]
    assert sentences == ["- tftrt-fp32, tftrt-int8 skipped: no NVIDIA GPU", "- tflite-fp32 failed: convert: no memory"]


def test_the_table_names_model_images_and_machine() -> None:
    assert markdown(*MIXED).startswith("tiny on 4 images (a CPU, 2 threads)\n\n|")
    on_gpu = replace(summary(*MIXED), environments={HERE: environment(GPU_MACHINE)})
    assert table.markdown(on_gpu).startswith("tiny on 4 images (NVIDIA T4)\n\n|")


def test_the_lines_of_the_table_are_of_one_width() -> None:
    assert len({len(line) for line in markdown(*MIXED).splitlines() if line.startswith("|")}) == 1


def test_speed_up_is_empty_without_the_baseline() -> None:
    assert cells(markdown(*MIXED[1:]))["tflite-int8"]["speed-up, batch 1"] == ""


def test_a_table_of_failures_only_still_reads() -> None:
    text = markdown(stopped("tflite-fp32", NO_MEMORY))
    assert list(cells(text)) == ["tflite-fp32"]
    assert "- tflite-fp32 failed: convert: no memory" in text
    assert table.markdown(summary())


def test_without_engines_there_is_one_table_and_with_them_a_second() -> None:
    assert markdown(*MIXED).count("\n| variant") == 1
    engine = row("tensorrt-fp16", proof=Proof("engine_layers", {"fp16": 55}, {"tf32": True}))
    assert markdown(*MIXED, engine).count("\n| variant") == 2


def of_classes(images: int, classes: int, *rows: Row) -> Summary:
    """With an evaluation set of that kind."""
    results = summary(*rows)
    return replace(results, evaluation=replace(results.evaluation, images=images, classes=classes))


def test_averages_over_classes_stand_in_a_table_of_their_own() -> None:
    _, second = table.markdown(of_classes(10, 2, *MIXED)).split("\n\n", 1)[1].split("\n\n", 1)
    shown = cells(second)
    assert list(shown) == ["savedmodel-fp32", "tflite-int8"]
    assert shown["tflite-int8"] == {
        "variant": "tflite-int8", "top-1 %": "50.0", "macro precision %": "100.0", "macro recall %": "75.0",
        "macro F1 %": "85.7", "weighted F1 %": "85.7", "ECE %": "25.0",
    }  # fmt: skip


@pytest.mark.parametrize(("images", "classes"), [(9, 2), (400, 1000), (50, 1)])
def test_one_class_or_too_few_images_of_each_make_no_averages(images: int, classes: int) -> None:
    assert "macro" not in table.markdown(of_classes(images, classes, *MIXED))


def test_averages_need_an_evaluated_variant() -> None:
    assert "macro" not in table.markdown(of_classes(100, 2, stopped("tflite-fp32", NO_MEMORY)))


@pytest.fixture
def on_t4() -> Summary:
    """The same on a T4, which is slower."""
    there = (row("savedmodel-fp32", 10.0, device="T4"), row("tflite-int8", 4.0, device="T4"))
    failed = replace(stopped("tflite-fp32", NO_MEMORY), device="T4")
    devices = {HERE: environment(CPU_MACHINE), "T4": environment(GPU_MACHINE)}
    return replace(summary(BASELINE, INT8, *there, failed), environments=devices)


def test_rows_of_other_devices_stand_apart_and_compare_with_the_baseline_there(on_t4: Summary) -> None:
    here, heading, other = table.markdown(on_t4).partition(
        "\n\nOn other GPUs, with the speed-up against savedmodel-fp32 on the same GPU:\n\n"
    )
    assert heading and cells(here)["tflite-int8"]["p50 ms, batch 1"] == "2.00"
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in other.splitlines() if line[:1] == "|"]
    assert lines[0] == [
        "GPU", "variant", "status", "top-1 %", "p50 ms, batch 1", "p50 ms, batch 8", "speed-up, batch 1",
        "images/s, batch 8",
    ]  # fmt: skip
    assert lines[2] == ["NVIDIA T4", "savedmodel-fp32", "ok", "75.0", "10.00", "80.00", "1.00x", "9.5"]
    assert lines[3] == ["NVIDIA T4", "tflite-int8", "ok", "75.0", "4.00", "32.00", "2.50x", "9.5"]
    assert lines[4] == ["NVIDIA T4", "tflite-fp32", "failed", "", "", "", "", ""]
    assert "- tflite-fp32 on NVIDIA T4 failed: convert: no memory" in other.splitlines()


def test_devices_with_other_batch_sizes_share_their_columns(on_t4: Summary) -> None:
    alone = replace(row("savedmodel-fp32", device="L4"), speeds=(speed(3.0, 2),))
    results = replace(
        on_t4, rows=(*on_t4.rows, alone), environments=on_t4.environments | {"L4": environment(CPU_MACHINE)}
    )
    others = table.others(results)
    assert others and {len(line) for line in others.cells} == {9}
    assert others.cells[-1] == ["L4", "savedmodel-fp32", "ok", "75.0", "", "6.00", "", "", ""]


def test_a_percentile_that_is_not_quoted_is_an_empty_cell() -> None:
    few = replace(BASELINE, speeds=(replace(speed(4.0), latency=replace(latency(4.0), p90_ms=None)),))
    assert cells(markdown(few))["savedmodel-fp32"]["p90 ms, batch 1"] == ""
