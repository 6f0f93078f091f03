import json
from typing import Any

import pytest

from tests import bench_gpu

Runs = list[dict[str, Any]]


@pytest.fixture
def h100() -> Runs:
    """The four runs of MobileNetV2 on an H100: three repeats, then the FP32 rows with TF32 off."""
    runs = json.loads((bench_gpu.RESULTS / "h100.json").read_text())
    return [run for run in runs if run["model"]["name"] == "mobilenet_v2"]


def row(run: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (found for found in run["rows"] if found["variant"] == name)
    return found


def test_the_page_of_the_h100_is_what_its_results_say() -> None:
    runs = json.loads((bench_gpu.RESULTS / "h100.json").read_text())
    assert (bench_gpu.RESULTS / "h100.md").read_text() == bench_gpu.page("h100", runs)


def test_a_doubt_of_any_repeat_is_told(h100: Runs) -> None:
    repeats = h100[:3]
    row(repeats[1], "tftrt-fp16")["details"]["gpu"]["throttled_states"] = {"power cap": 3}
    row(repeats[2], "tftrt-fp16")["details"]["gpu"]["other_processes"] = 1
    assert bench_gpu.variant_cells("tftrt-fp16", repeats)["status"] == "ok, throttled, shared GPU"
    assert bench_gpu.variant_cells("tftrt-fp32", repeats)["status"] == "ok"


def test_a_repeat_that_failed_is_told_with_its_reason(h100: Runs) -> None:
    row(h100[2], "tftrt-fp16").update(status="failed", reason="benchmark: gone")
    assert bench_gpu.variant_cells("tftrt-fp16", h100[:3])["status"] == "failed: benchmark: gone"


def test_the_rows_with_tf32_off_are_no_repeat_even_if_they_are_as_many(h100: Runs) -> None:
    for run in h100:
        run["rows"] = [found for found in run["rows"] if found["variant"] in ("savedmodel-fp32", "tftrt-fp32")]
    text = "\n".join(bench_gpu.section(h100))
    assert "median of the p50 of 3 repeats" in text
    assert text.count("TF32 off (one run):") == 1
    whole = (bench_gpu.RESULTS / "h100.md").read_text()
    assert all(line in whole for line in text.splitlines() if line.startswith("| savedmodel-fp32 "))
