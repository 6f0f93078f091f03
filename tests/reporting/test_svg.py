import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from stages.reporting import svg
from stages.statistics.per_class import Bin, ClassReport


def row(name: str, p50: float = 4.0, **more: Any) -> dict[str, Any]:
    batch = {"p50_ms": p50, "p50_ci95_ms": [p50 - 0.1, None], "throughput_ips": 1000 / p50}
    figures = {"top1": 0.75, "top1_ci95": [0.6, 0.85], "size_bytes": 5_000_000, "details": {}}
    return {"variant": name, "status": "ok", "latency": {"1": batch, "8": batch}} | figures | more


ROWS = [row("savedmodel-fp32"), row("tflite-int8", 2.0, top1=0.7, size_bytes=2_000_000)]
SAVED = {"variables_bytes": 3_000_000, "graph_bytes": 400_000, "engine_bytes": 1_500_000}
CALLS = {name: np.random.default_rng(0).gamma(9, 1, 300) for name in ("savedmodel-fp32", "tflite-int8")}
BINS = (Bin(0.6, 2 / 3, 3, 0.65, 1 / 3), Bin(14 / 15, 1.0, 1, 0.99, 1.0))
REPORTS = {name: ClassReport((), {}, BINS) for name in ("savedmodel-fp32", "tflite-int8")}

CURVES = {
    "seed 0": [{"epoch": i, "loss": 2 / i, "val_loss": loss} for i, loss in ((1, 1.2), (2, 0.31), (3, 0.4))],
    "QAT": [{"epoch": 0, "val_loss": 0.35}, {"epoch": 1, "loss": 0.5, "val_loss": 0.36}],
}

DRAWN = {
    "accuracy": lambda: svg.accuracy(ROWS, 1, ["tflite-int8"], {"tflite-int8": "chosen"}),
    "distributions": lambda: svg.distributions(ROWS, CALLS, 1),
    "latency": lambda: svg.latency_by_batch(ROWS),
    "throughput": lambda: svg.throughput_by_batch(ROWS),
    "size": lambda: svg.size_by_part(ROWS),
    "reliability": lambda: svg.reliability(REPORTS),
    "training": lambda: svg.training(CURVES),
}


class Reader(HTMLParser):
    """Ids, references and texts of a chart."""

    def __init__(self, chart: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.feed(chart)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for key, value in attrs if key == "id"]

    def handle_data(self, data: str) -> None:
        self.texts += [data.strip()] if data.strip() else []


@pytest.mark.parametrize("name", DRAWN)
def test_a_chart_takes_font_and_colours_from_the_page(name: str) -> None:
    chart = DRAWN[name]()
    assert chart and "font-family" not in chart and "<style" not in chart and "<?xml" not in chart
    # A colour that no variable stands for would not follow the page into the dark.
    assert set(re.findall(r"#[0-9a-f]{6}\b", chart)) == set()
    assert set(re.findall(r"var\(--([a-z0-9-]+)\)", chart)) <= set(svg.VARIABLES.values())
    assert "http" not in chart and "script" not in chart


@pytest.mark.parametrize("name", DRAWN)
def test_a_chart_has_a_title_and_its_figures_in_words(name: str) -> None:
    chart = DRAWN[name]() or ""
    label = re.match(r'<svg [^>]*role="img"[^>]* aria-labelledby="([^"]+)"', chart)
    assert label and set(label[1].split()) <= set(Reader(chart).ids)
    told = re.search(r"<desc[^>]*>(.+?)</desc>", chart)
    names = CURVES if name == "training" else ("savedmodel-fp32", "tflite-int8")
    assert told and all(f"{one}: " in told[1] for one in names)


def test_ids_differ_between_charts_and_every_reference_has_its_target() -> None:
    charts = [draw() or "" for draw in DRAWN.values()]
    ids = [one for chart in charts for one in Reader(chart).ids]
    assert len(ids) == len(set(ids))
    for chart in charts:
        assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', chart)) <= set(Reader(chart).ids)


@pytest.mark.parametrize("name", DRAWN)
def test_the_same_figures_give_the_same_bytes(name: str) -> None:
    assert DRAWN[name]() == DRAWN[name]()


def test_figures_in_words_have_units_and_open_ends() -> None:
    assert "savedmodel-fp32: top-1 75.0 % (60.0 to 85.0), p50 4.00 ms (3.90 to open)" in (DRAWN["accuracy"]() or "")
    assert "tflite-int8: 500.0 images/s at batch 1, 500.0 images/s at batch 8" in (DRAWN["throughput"]() or "")
    assert (
        "tflite-int8: ECE 24.0 %; 3 images with confidence 65.0 %, 33.3 % right; "
        "1 image with confidence 99.0 %, 100.0 % right"
    ) in (DRAWN["reliability"]() or "")
    assert "tflite-int8: 2.0 MB, of which model 2.0 MB" in (DRAWN["size"]() or "")
    assert (
        "seed 0: loss on the validation images 1.2 after epoch 1, lowest 0.31 after epoch 2 of 3; "
        "QAT: loss on the validation images 0.35 after epoch 0, lowest 0.35 after epoch 0 of 1."
    ) in (DRAWN["training"]() or "")


def test_the_chosen_variant_is_marked_by_a_word() -> None:
    assert "chosen" in Reader(DRAWN["accuracy"]() or "").texts


def test_the_pareto_line_leaves_out_who_is_slower_and_no_more_accurate() -> None:
    assert svg._front([(3, 80), (1, 70), (2, 69), (4, 80)]) == [(1, 70), (3, 80)]
    assert svg._front([]) == []


def test_parts_add_up_to_the_size() -> None:
    assert svg.parts(row("tftrt-fp32", details=SAVED)) == {
        "variables": 3_000_000, "graph": 400_000, "engines": 1_500_000, "other": 100_000,
    }  # fmt: skip
    assert svg.parts(row("tflite-int8")) == {"model": 5_000_000}


def test_without_figures_there_is_no_chart() -> None:
    none = [row("tftrt-fp32", status="skipped", latency=None, top1=None, top1_ci95=None, size_bytes=None)]
    for rows in ([], none):
        assert svg.accuracy(rows, 1, [], {}) is None
        assert svg.distributions(rows, {}, 1) is None
        assert svg.reliability({}) is svg.training({}) is None
        assert svg.latency_by_batch(rows) is svg.throughput_by_batch(rows) is svg.size_by_part(rows) is None


def test_a_variant_that_was_timed_but_failed_elsewhere_has_no_line() -> None:
    rows = [row("savedmodel-fp32"), row("tflite-int8", status="failed")]
    chart = svg.distributions(rows, {name: np.full(9, 4.0) for name in ("savedmodel-fp32", "tflite-int8")}, 1)
    assert chart and "savedmodel-fp32" in chart and "tflite-int8" not in chart


@pytest.mark.parametrize("variants", [1, 2, 3, 4, 7])
def test_every_variant_has_its_panel_and_every_column_its_numbers(variants: int) -> None:
    names = [f"v{i}" for i in range(variants)]
    texts = Reader(svg.reliability(dict.fromkeys(names, REPORTS["tflite-int8"])) or "").texts
    assert [text for text in texts if text in names] == names and texts.count("ECE 24.0 %") == variants
    columns, lines = min(3, variants), -(-variants // 3)
    # The middle of each axis, once for each column and each line.
    assert texts.count("50") == columns + lines


def test_one_variant_one_batch_size_and_equal_calls_can_be_drawn() -> None:
    one = [row("savedmodel-fp32", latency={"1": row("x")["latency"]["1"]})]
    assert svg.latency_by_batch(one)
    assert svg.accuracy(one, 1, [], {})
    assert svg.distributions(one, {"savedmodel-fp32": np.array([4.0])}, 1)
    assert svg.distributions(one, {"savedmodel-fp32": np.full(9, 4.0)}, 1)


def test_a_curve_has_whole_epochs_a_dashed_line_and_its_mark_at_the_best_one() -> None:
    chart = DRAWN["training"]() or ""
    assert "0 1 2 3 epoch" in " ".join(Reader(chart).texts)
    assert chart.count("stroke-dasharray") == len(CURVES)
    ticks, marks = (re.findall(rf'<use [^>]*x="([\d.]+)"[^>]*fill: var\(--{of}', chart) for of in ("rule", "series"))
    assert marks[: len(CURVES)] == [ticks[2], ticks[0]]


def test_a_training_of_one_epoch_can_be_drawn() -> None:
    chart = svg.training({"seed 0": [{"epoch": 1, "loss": 0.7, "val_loss": 0.6}]})
    assert "lowest 0.6 after epoch 1 of 1" in (chart or "")


@pytest.mark.parametrize(("longest", "columns"), [("onnxruntime-int8", 3), ("onnxruntime-int8-qat", 2)])
def test_a_legend_has_as_many_columns_as_have_room(longest: str, columns: int) -> None:
    names = ["savedmodel-fp32", "tflite-int8", longest]
    chart = svg.latency_by_batch([row(name) for name in names]) or ""
    starts = [re.search(rf'<text [^>]*x="([\d.]+)"[^>]*>{name}</text>', chart) for name in names]
    assert len({start[1] for start in starts if start}) == columns


def test_odd_names_are_text_and_no_mark_up() -> None:
    name = 'a<b>&"$x^2$'
    chart = svg.accuracy([row(name)], 1, [name], {name: "chosen"}) or ""
    assert "<b>" not in chart and name in Reader(chart).texts


def test_more_variants_than_colours_can_be_drawn() -> None:
    rows = [row(f"v{i}", 1 + i) for i in range(11)]
    assert svg.accuracy(rows, 1, [], {})
    looks = {(look["color"], look["marker"]) for look in (svg._look(rows, one["variant"]) for one in rows)}
    assert len(looks) == 11


def test_a_variant_that_did_not_run_takes_no_colour() -> None:
    rows = [ROWS[0], {"variant": "tftrt-fp32", "status": "skipped"}, ROWS[1]]
    assert svg._look(rows, "tflite-int8") == svg._look(ROWS, "tflite-int8")


def test_text_that_looks_like_a_colour_or_a_number_stays() -> None:
    drawn = '<svg viewBox="0 0 1 1"><text style="fill: #010000" x="1.23456">#010000 1.23456</text></svg>'
    assert 'style="fill: var(--ink)" x="1.23">#010000 1.23456<' in svg.inline(drawn, "n", "t", "d")


@pytest.mark.parametrize("faster", [7.99, 7.0, 5.0, 2.0, 0.1, 0.001])
def test_an_axis_has_ticks_however_little_it_spans(faster: float) -> None:
    chart = svg.distributions(ROWS, {"savedmodel-fp32": np.full(9, 8.0), "tflite-int8": np.full(9, faster)}, 1)
    numbers = [text for text in Reader(chart or "").texts if re.fullmatch(r"[\d.,e-]+", text)]
    assert svg.TICKS <= len(numbers) <= 16
