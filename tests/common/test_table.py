from typing import Any

from stages import report
from stages.common import files, paths, table


def cells(text: str) -> dict[str, dict[str, str]]:
    """The table by variant and column."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    header, _, *body = lines
    return {line[0]: dict(zip(header, line, strict=True)) for line in body}


def test_the_table_has_every_variant_with_its_figures(mixed: tuple[str, ...]) -> None:
    found = cells(table.markdown(report.summarise(mixed)))
    assert tuple(found) == mixed
    assert found["tflite-int8"] == {
        "variant": "tflite-int8",
        "status": "ok",
        "top-1 % [95 % CI]": "50.0 [15.0, 85.0]",
        "top-5 %": "50.0",
        "agreement %": "75.0",
        "p50 ms, batch 1": "2.00",
        "p50 ms, batch 8": "16.00",
        "p99 ms, batch 1": "4.00",
        "speed-up, batch 1": "2.00x",
        "size MB": "2.0",
        "peak memory MB": "300",
    }
    assert found["savedmodel-fp32"]["speed-up, batch 1"] == "1.00x"
    assert {value for key, value in found["tftrt-fp32"].items() if key not in ("variant", "status")} == {""}
    assert (found["tftrt-fp32"]["status"], found["tflite-fp32"]["status"]) == ("skipped", "failed")


def test_the_table_tells_every_reason_once(mixed: tuple[str, ...]) -> None:
    text = table.markdown(report.summarise(mixed))
    notes = [line for line in text.splitlines() if line.startswith("- ")]
    assert notes == ["- tftrt-fp32, tftrt-int8 skipped: no NVIDIA GPU", "- tflite-fp32 failed: convert: no memory"]


def test_the_table_names_model_images_and_machine(mixed: tuple[str, ...], machine: dict[str, Any]) -> None:
    assert table.markdown(report.summarise(mixed)).startswith("tiny on 4 images (a CPU, 2 threads)\n\n|")
    files.write_json(paths.ENVIRONMENT, machine)
    assert table.markdown(report.summarise(mixed)).startswith("tiny on 4 images (NVIDIA T4)\n\n|")


def test_the_lines_of_the_table_are_of_one_width(mixed: tuple[str, ...]) -> None:
    text = table.markdown(report.summarise(mixed))
    assert len({len(line) for line in text.splitlines() if line.startswith("|")}) == 1


def test_speed_up_is_empty_without_the_baseline(mixed: tuple[str, ...]) -> None:
    assert cells(table.markdown(report.summarise(mixed[1:])))["tflite-int8"]["speed-up, batch 1"] == ""


def test_a_table_of_failures_only_still_reads(results: Any) -> None:
    results.stopped("tflite-fp32", "failed", "no memory")
    text = table.markdown(report.summarise(("tflite-fp32",)))
    assert list(cells(text)) == ["tflite-fp32"]
    assert "- tflite-fp32 failed: convert: no memory" in text
