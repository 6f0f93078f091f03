from typing import Any

import pytest

from stages import summarize
from stages.contracts import paths
from stages.core import files
from stages.reporting import table


def cells(text: str) -> dict[str, dict[str, str]]:
    """The table by variant and column."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    header, _, *body = lines
    return {line[0]: dict(zip(header, line, strict=True)) for line in body}


def test_the_table_has_every_variant_with_its_figures(mixed: tuple[str, ...]) -> None:
    found = cells(table.markdown(summarize.summarise(mixed)))
    assert tuple(found) == mixed
    assert found["tflite-int8"] == {
        "variant": "tflite-int8",
        "status": "ok",
        "top-1 % [95 % CI]": "50.0 [15.0, 85.0]",
        "drop, points [95 % CI]": "25.0 [-36.2, 69.9]",
        "agreement %": "75.0",
        "p50 ms, batch 1": "2.00",
        "p50 ms, batch 8": "16.00",
        "p90 ms, batch 1": "3.00",
        "speed-up, batch 1": "2.00x",
        "size MB": "2.0",
        "peak memory MB": "300",
    }
    assert found["savedmodel-fp32"]["speed-up, batch 1"] == "1.00x"
    assert {value for key, value in found["tftrt-fp32"].items() if key not in ("variant", "status")} == {""}
    assert (found["tftrt-fp32"]["status"], found["tflite-fp32"]["status"]) == ("skipped", "failed")


def test_the_table_tells_every_reason_once(mixed: tuple[str, ...]) -> None:
    text = table.markdown(summarize.summarise(mixed))
    notes = [line for line in text.splitlines() if line.startswith("- ")]
    assert notes == ["- tftrt-fp32, tftrt-int8 skipped: no NVIDIA GPU", "- tflite-fp32 failed: convert: no memory"]


def test_the_table_names_model_images_and_machine(mixed: tuple[str, ...], machine: dict[str, Any]) -> None:
    assert table.markdown(summarize.summarise(mixed)).startswith("tiny on 4 images (a CPU, 2 threads)\n\n|")
    files.write_json(paths.ENVIRONMENT, machine)
    assert table.markdown(summarize.summarise(mixed)).startswith("tiny on 4 images (NVIDIA T4)\n\n|")


def test_the_lines_of_the_table_are_of_one_width(mixed: tuple[str, ...]) -> None:
    text = table.markdown(summarize.summarise(mixed))
    assert len({len(line) for line in text.splitlines() if line.startswith("|")}) == 1


def test_speed_up_is_empty_without_the_baseline(mixed: tuple[str, ...]) -> None:
    assert cells(table.markdown(summarize.summarise(mixed[1:])))["tflite-int8"]["speed-up, batch 1"] == ""


def test_a_table_of_failures_only_still_reads(results: Any) -> None:
    results.stopped("tflite-fp32", "failed", "no memory")
    text = table.markdown(summarize.summarise(("tflite-fp32",)))
    assert list(cells(text)) == ["tflite-fp32"]
    assert "- tflite-fp32 failed: convert: no memory" in text


CONVERSION = {
    "tf32": False, "engine_ops": 2, "share_in_engines": 0.994, "ops_outside": {"Identity": 1, "Placeholder": 1},
    "engine_build_s": {"1": 26.0, "8": 30.4}, "variables_bytes": 0, "graph_bytes": 14_000_000,
    "engine_bytes": 31_100_000, "gpu": None, "tensorrt_linked": "8.4.3", "tensorrt_loaded": "8.5.3",
    "gpu_peak_memory_bytes": 201_400_000,
}  # fmt: skip
GPU = {"process_memory_bytes": 700_000_000, "other_processes": 0, "states": 20, "throttled_states": {}}


@pytest.fixture
def on_gpu(mixed: tuple[str, ...]) -> dict[str, Any]:
    """A summary in which the first variant is the SavedModel and the last one TF-TRT, both on a GPU."""
    summary = summarize.summarise(mixed)
    parts = {"variables_bytes": 14_500_000, "graph_bytes": 2_700_000, "engine_bytes": 0}
    summary["rows"][0]["details"] |= {"tf32": True, "gpu": GPU} | parts
    summary["rows"][-1]["details"] |= CONVERSION | {"gpu": GPU}
    summary["rows"][-1]["convert_s"] = 419.5
    return summary


def test_what_tensorrt_took_over_stands_below_with_each_part_of_the_size(on_gpu: dict[str, Any]) -> None:
    text = table.markdown(on_gpu)
    _, second = text.split("\n\n", 1)[1].split("\n\n", 1)
    assert cells(second) == {
        "savedmodel-fp32": {
            "variant": "savedmodel-fp32", "TF32": "on", "TensorRT linked": "", "TensorRT loaded": "",
            "outside the engines": "", "engine ops": "", "nodes in engines %": "", "convert s": "2", "build s": "",
            "variables MB": "14.5", "graph MB": "2.7", "engines MB": "0.0", "GPU memory MB": "700", "GPU peak MB": "",
        },
        "tflite-int8": {
            "variant": "tflite-int8", "TF32": "off", "TensorRT linked": "8.4.3", "TensorRT loaded": "8.5.3",
            "outside the engines": "1 Identity, 1 Placeholder", "engine ops": "2", "nodes in engines %": "99.4",
            "convert s": "420", "build s": "56", "variables MB": "0.0", "graph MB": "14.0", "engines MB": "31.1",
            "GPU memory MB": "700", "GPU peak MB": "201",
        },
    }  # fmt: skip
    assert "throttled" not in text
    assert "shared" not in text


def test_without_engines_there_is_one_table(mixed: tuple[str, ...]) -> None:
    assert table.markdown(summarize.summarise(mixed)).count("\n| variant") == 1


NATIVE = {
    "tf32": True, "form": "each", "because": "one engine for each batch size: separate engines run 1.10 times as fast",
    "engines": {"1": {"fp32_weights": []}, "8": {"fp32_weights": ["conv1", "fc"]}},
    "engine_build_s": {"1": 26.0, "8": 30.4}, "int8_layers": 104, "fp16_layers": 2, "fp32_layers": 2,
    "engine_bytes": 9_100_000, "gpu": GPU, "tensorrt": "TensorRT 8.5.3.1", "gpu_peak_memory_bytes": 12_600_000,
}  # fmt: skip


def test_native_engines_stand_in_a_table_of_their_own(mixed: tuple[str, ...]) -> None:
    summary = summarize.summarise(mixed)
    row = summary["rows"][-1]
    row["details"] |= NATIVE
    row["convert_s"] = 419.5
    row["parts_ms"] = {"8": {"input_copy": 0.1, "compute": 0.25, "output_copy": 0.0061}}
    text = table.markdown(summary)
    _, second = text.split("\n\n", 1)[1].split("\n\n", 1)
    assert cells(second) == {
        "tflite-int8": {
            "variant": "tflite-int8", "TF32": "on", "built by": "TensorRT 8.5.3.1", "engines for batch": "1, 8",
            "layers INT8 / FP16 / FP32": "104 / 2 / 2", "convert s": "420", "build s": "56", "engines MB": "9.1",
            "copy in ms, batch 8": "0.100", "compute ms, batch 8": "0.250", "copy out ms, batch 8": "0.006",
            "GPU memory MB": "700", "GPU peak MB": "13",
        },
    }  # fmt: skip
    assert (
        "- tflite-int8 has one engine for each batch size: separate engines run 1.10 times as fast\n"
        "- tflite-int8 keeps FP32 weights in the engine for batch 8: conv1, fc\n"
    ) in text


def test_gpu_memory_that_nvml_does_not_tell_is_an_empty_cell(on_gpu: dict[str, Any]) -> None:
    for row in on_gpu["rows"]:
        row["details"]["gpu"] = row["details"]["gpu"] and GPU | {"process_memory_bytes": None}
    on_gpu["rows"][0]["details"] |= NATIVE | {"gpu": GPU | {"process_memory_bytes": None}}
    tables = [part for part in table.markdown(on_gpu).split("\n\n") if "GPU memory MB" in part]
    assert [line["GPU memory MB"] for part in tables for line in cells(part).values()] == [""] * 3


def test_a_throttled_or_shared_measurement_is_marked_and_told(on_gpu: dict[str, Any]) -> None:
    row = on_gpu["rows"][-1]
    row["details"]["gpu"] = GPU | {"throttled_states": {"power cap": 3}, "other_processes": 2}
    text = table.markdown(on_gpu)
    assert cells(text.split("\n\n")[1])["tflite-int8"]["status"] == "ok, throttled, shared GPU"
    assert "- tflite-int8 throttled: a power cap held the GPU's clocks down in 3 of 20 blocks" in text
    assert "- tflite-int8 shared GPU: 2 other processes computed on it" in text


def test_a_median_that_moves_between_repeats_is_marked_and_told(mixed: tuple[str, ...]) -> None:
    summary = summarize.summarise(mixed)
    steady, moving = summary["rows"][0], summary["rows"][-1]
    steady["latency"]["1"]["repeat_cv"], moving["latency"]["8"]["repeat_cv"] = 0.025, 0.031
    text = table.markdown(summary)
    assert cells(text)["savedmodel-fp32"]["status"] == "ok"
    assert cells(text)["tflite-int8"]["status"] == "ok, unsteady"
    assert "- tflite-int8 unsteady: p50 at batch 8 varies by 3.1% between repeats (at most 2.5%)" in text


def test_builds_are_told_with_their_spread(mixed: tuple[str, ...]) -> None:
    summary = summarize.summarise(mixed)
    summary["rows"][-1]["details"]["builds"] = [
        {"p50_ms": 0.73, "size_bytes": 31_000_000, "model_sha256": "a"},
        {"p50_ms": 0.78, "size_bytes": 30_900_000, "model_sha256": "b"},
    ]
    told = "- tflite-int8 built 2 times: p50 0.73 to 0.78 ms, 30.90 to 31.00 MB, 2 different"
    assert told in table.markdown(summary)


def test_averages_over_classes_stand_in_a_table_of_their_own(mixed: tuple[str, ...]) -> None:
    summary = summarize.summarise(mixed)
    summary["evaluation"] |= {"images": 10, "classes": 2}
    _, second = table.markdown(summary).split("\n\n", 1)[1].split("\n\n", 1)
    assert cells(second) == {
        "savedmodel-fp32": {
            "variant": "savedmodel-fp32", "top-1 %": "75.0", "macro precision %": "100.0", "macro recall %": "75.0",
            "macro F1 %": "85.7", "weighted F1 %": "85.7", "ECE %": "25.0",
        },
        "tflite-int8": {
            "variant": "tflite-int8", "top-1 %": "50.0", "macro precision %": "100.0", "macro recall %": "50.0",
            "macro F1 %": "66.7", "weighted F1 %": "66.7", "ECE %": "0.0",
        },
    }  # fmt: skip


@pytest.mark.parametrize(("images", "classes"), [(9, 2), (400, 1000), (50, 1)])
def test_one_class_or_too_few_images_of_each_make_no_averages(
    mixed: tuple[str, ...], images: int, classes: int
) -> None:
    summary = summarize.summarise(mixed)
    summary["evaluation"] |= {"images": images, "classes": classes}
    assert "macro" not in table.markdown(summary)


def test_averages_need_an_evaluated_variant(results: Any) -> None:
    results.stopped("tflite-fp32", "failed", "no memory")
    summary = summarize.summarise(("tflite-fp32",))
    summary["evaluation"] |= {"images": 100, "classes": 2}
    assert "macro" not in table.markdown(summary)


def test_a_baseline_at_chance_is_told_with_the_usual_causes(mixed: tuple[str, ...]) -> None:
    summary = summarize.summarise(mixed)
    summary["rows"][0]["at_chance"] = {"correct": 2, "images": 20, "chance": 0.5}
    assert (
        "- savedmodel-fp32 is no better than chance: its top-1 is 10.0 % of 20 images, and always answering the most "
        "frequent label gets 50.0 %; the usual causes are preprocessing (scale, mean, channel order), labels in "
        "another order and random weights\n"
    ) in table.markdown(summary)


@pytest.mark.parametrize(
    ("right", "told"),
    # Where all flips go one way, Tango's interval is Wilson's of their share: 20 of 40 are 35.2 to 64.8 %.
    [
        (40, "won back 50.00 points [35.20, 64.80] of top-1 against tflite-int8"),
        (22, "cannot be told from tflite-int8 in top-1: the difference is +5.00 points [-4.20, 16.50]"),
        (20, "cannot be told from tflite-int8 in top-1: the difference is +0.00 points [-8.76, 8.76]"),
        (0, "lost 50.00 points [35.20, 64.80] of top-1 against tflite-int8"),
    ],
)
def test_what_training_won_back_is_told_where_it_is_known(results: Any, right: int, told: str) -> None:
    results.learned()
    results.ok("tflite-int8", [0] * 20 + [1] * 20, 2.0)
    results.ok("tflite-int8-qat", [0] * right + [1] * (40 - right), 2.0)
    text = table.markdown(summarize.summarise(("tflite-int8", "tflite-int8-qat")))
    assert [line for line in text.splitlines() if line.startswith("- ")] == [f"- tflite-int8-qat {told}"]


def test_other_gpus_have_a_table_of_their_own(other_gpu: tuple[str, ...]) -> None:
    summary = summarize.summarise(other_gpu)
    home, heading, other = table.markdown(summary).partition(
        "\n\nOn other GPUs, with the speed-up against savedmodel-fp32 on the same GPU:\n\n"
    )
    assert heading and cells(home)["tflite-int8"]["p50 ms, batch 1"] == "2.00"
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in other.splitlines() if line[:1] == "|"]
    assert lines[0] == [
        "GPU", "variant", "status", "top-1 %", "p50 ms, batch 1", "p50 ms, batch 8", "speed-up, batch 1",
        "images/s, batch 8",
    ]  # fmt: skip
    assert lines[2] == ["NVIDIA T4", "savedmodel-fp32", "ok", "75.0", "10.00", "80.00", "1.00x", "9.5"]
    assert lines[-1] == ["NVIDIA T4", "tflite-int8", "ok", "50.0", "4.00", "32.00", "2.50x", "9.5"]
    assert "- tflite-fp32 on NVIDIA T4 failed: convert: no memory" in other.splitlines()


def test_another_gpu_without_a_driver_that_answers_goes_by_its_label(
    results: Any, mixed: tuple[str, ...], no_gpu: dict[str, Any]
) -> None:
    results.copy_to("T4", no_gpu)
    assert table.gpu(summarize.summarise(mixed)["other_gpus"][0]) == "T4"
