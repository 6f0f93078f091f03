import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from stages.contracts.conversion import Proof
from stages.contracts.status import Status
from stages.contracts.timing import Memory
from stages.core import files
from stages.statistics import summary
from tests.bench import bench_gpu, figures, gpu_page
from tests.fixtures.records import GPU_MACHINE, Results

Runs = list[dict[str, Any]]


@pytest.fixture
def h100() -> Runs:
    """The four runs of MobileNetV2 on an H100: three repeats, then the FP32 rows with TF32 off."""
    runs = json.loads((gpu_page.RESULTS / "h100.json").read_text())
    return [run for run in runs if run["model"]["name"] == "mobilenet_v2"]


def row(run: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (found for found in run["rows"] if found["variant"] == name)
    return found


def test_the_page_of_the_h100_is_what_its_results_say() -> None:
    runs = json.loads((gpu_page.RESULTS / "h100.json").read_text())
    assert (gpu_page.RESULTS / "h100.md").read_text() == gpu_page.page("h100", runs)


def test_a_doubt_of_any_repeat_is_told(h100: Runs) -> None:
    repeats = h100[:3]
    row(repeats[1], "tftrt-fp16")["details"]["gpu"]["throttled_states"] = {"power cap": 3}
    row(repeats[2], "tftrt-fp16")["details"]["gpu"]["other_processes"] = 1
    assert gpu_page.variant_cells("tftrt-fp16", repeats)["status"] == "ok, throttled, shared GPU"
    assert gpu_page.variant_cells("tftrt-fp32", repeats)["status"] == "ok"


def test_a_busy_cpu_is_told_with_its_share(h100: Runs) -> None:
    row(h100[1], "tftrt-fp16")["doubts"] = ["busy CPU (48 % taken by others)"]
    assert gpu_page.variant_cells("tftrt-fp16", h100[:3])["status"] == "ok, busy CPU (48 % taken by others)"


def test_gpu_memory_that_nvml_does_not_tell_is_an_empty_cell(h100: Runs) -> None:
    row(h100[0], "tftrt-fp16")["details"]["gpu"]["process_memory_bytes"] = None
    assert gpu_page.variant_cells("tftrt-fp16", h100[:3])["GPU memory MB"] == ""


def test_a_repeat_that_failed_is_told_with_its_reason(h100: Runs) -> None:
    row(h100[2], "tftrt-fp16").update(status="failed", reason="benchmark: gone")
    assert gpu_page.variant_cells("tftrt-fp16", h100[:3])["status"] == "failed: benchmark: gone"


def test_the_rows_with_tf32_off_are_no_repeat_even_if_they_are_as_many(h100: Runs) -> None:
    for run in h100:
        run["rows"] = [found for found in run["rows"] if found["variant"] in ("savedmodel-fp32", "tftrt-fp32")]
    text = "\n".join(gpu_page.section(h100))
    assert "median of the p50 of 3 repeats" in text
    assert text.count("TF32 off (one run):") == 1
    whole = (gpu_page.RESULTS / "h100.md").read_text()
    assert all(line in whole for line in text.splitlines() if line.startswith("| savedmodel-fp32 "))


def test_images_per_second_are_the_median_of_the_repeats(h100: Runs) -> None:
    for run, found in zip(h100[:3], (1300.0, 1500.0, 1400.4), strict=True):
        row(run, "tftrt-fp16")["latency"]["1"]["throughput_ips"] = found
    assert gpu_page.variant_cells("tftrt-fp16", h100[:3])["images/s, batch 1"] == "1,400"


def test_a_conversion_takes_its_calibration_as_well_as_its_builds(h100: Runs) -> None:
    found = gpu_page.variant_cells("tftrt-int8", h100[:3])
    assert (found["convert s"], found["build s"]) == ("420", "272")
    assert gpu_page.variant_cells("tflite-int8", h100[:3])["convert s"] == "33"


def test_conditions_are_the_ranges_over_all_repeats(h100: Runs) -> None:
    for run, first, temperature in zip(h100[:3], (200.0, 300.0, 250.4), ([40, 42], [41, 47], [39, 44]), strict=True):
        row(run, "tftrt-fp16")["first_inference_ms"] = first
        row(run, "tftrt-fp16")["details"]["gpu"] |= {"temperature_c": temperature, "power_w": None}
    assert gpu_page.conditions("tftrt-fp16", h100[:3]) == {
        "variant": "tftrt-fp16",
        "first inference ms": "200 to 300",
        "SM clock MHz": "1980",
        "memory clock MHz": "2619",
        "temperature °C": "39 to 47",
        "power W": "",
    }


def test_a_variant_on_the_cpu_has_a_first_inference_and_no_clocks(h100: Runs) -> None:
    found = gpu_page.conditions("tflite-fp32", h100[:3])
    assert found.pop("first inference ms") == "2"
    assert set(found.values()) == {"tflite-fp32", ""}


def test_a_variant_that_did_not_run_has_no_conditions(h100: Runs) -> None:
    row(h100[1], "tftrt-fp16").update(status="failed", reason="benchmark: gone")
    lines = [line for line in gpu_page.section(h100[:3]) if line.startswith("| tftrt-fp16")]
    assert len(lines) == 1 and "failed: benchmark: gone" in lines[0]


def test_the_page_says_how_make_was_called(h100: Runs) -> None:
    assert "Both made by `make bench-gpu NAME=h100 SETTINGS='evaluation.source=~/photos'`, or" in gpu_page.page(
        "h100", h100
    )
    for run in h100:
        run["command"] = "python -m tests.bench.bench_gpu measure mobilenet_v2 PART.json"
    assert "Both made by `make bench-gpu NAME=h100`, or" in gpu_page.page("h100", h100)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A checkout whose environment is there, with a Python that writes down what it is called with."""
    for name in ("Makefile", "requirements"):
        (tmp_path / name).symlink_to(bench_gpu.ROOT / name)
    python = tmp_path / ".venv/bin/python"
    files.write_text(python, '#!/bin/sh\nprintf "%s\\n" "$*" >> calls\n')
    python.chmod(0o755)
    for name in ("python", "uv", "runs"):
        (tmp_path / ".venv" / name).touch()
    (tmp_path / "docs/results").mkdir(parents=True)
    return tmp_path


def test_make_hands_its_settings_on(made: Path) -> None:
    for model in bench_gpu.MODELS:
        (made / f"docs/results/.mine.{model}.part").touch()
    settings = "evaluation.source=~/photos 'benchmark.batch_sizes=[1, 8]'"
    subprocess.run(["make", "bench-gpu", "NAME=mine", f"SETTINGS={settings}"], cwd=made, check=True)
    calls = (made / "calls").read_text().splitlines()
    parts = {model: f"docs/results/.mine.{model}.part" for model in bench_gpu.MODELS}
    told = "evaluation.source=~/photos benchmark.batch_sizes=[1, 8]"
    assert [call for call in calls if " measure " in call] == [
        f"-m tests.bench.bench_gpu measure {model} {part} {told}" for model, part in parts.items()
    ]
    assert calls[-1].startswith("-m tests.bench.bench_gpu render mine docs/results/.mine.")


def test_make_measures_without_settings(made: Path) -> None:
    subprocess.run(["make", "bench-gpu", "NAME=mine"], cwd=made, check=False, capture_output=True)
    first = (made / "calls").read_text().splitlines()[0]
    assert first == "-m tests.bench.bench_gpu measure mobilenet_v2 docs/results/.mine.mobilenet_v2.part"


@pytest.mark.parametrize("environment", [".venv", ".venv-of-mine"])
def test_no_environment_is_copied(tmp_path: Path, environment: str) -> None:
    for name in ("stages/a.py", f"{environment}/bin/python", "mlflow.db"):
        files.write_text(tmp_path / "checkout" / name, "")
    bench_gpu.copy(tmp_path / "checkout", tmp_path / "copied")
    assert {path.name for path in (tmp_path / "copied").iterdir()} == {"stages"}


def test_the_figures_of_a_summary_of_today_make_a_page_too(results: Results) -> None:
    results = Results(GPU_MACHINE)
    results.ok("savedmodel-fp32", [0, 0, 0, 1], 4.0)
    results.ok("tensorrt-fp16", [0, 0, 0, 1], 2.0)
    results.timed("tensorrt-fp16", 2.0, memory=Memory(True, 100, 50))
    results.converted("tensorrt-fp16", proof=Proof("engine_layers", {"fp16": 9}, {"engine_build_s.batch8": 61.0}))
    results.stopped("tensorrt-int8", Status("skipped", "no calibrator"))
    names = ("savedmodel-fp32", "tensorrt-fp16", "tensorrt-int8")
    run = figures.flat(summary.build(names)) | {"command": "python -m tests.bench.bench_gpu measure tiny PART.json"}
    text = gpu_page.page("mine", [json.loads(json.dumps(run))])
    assert text.startswith("# NVIDIA T4")
    cells = gpu_page.variant_cells("tensorrt-fp16", [run])
    assert (cells["speed-up, batch 1"], cells["build s"], cells["top-1 %"]) == ("2.00x", "61", "75.00")
    assert "| tensorrt-int8" in text and "skipped: no calibrator" in text
