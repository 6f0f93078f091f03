from dataclasses import replace

import pytest

from stages.contracts.conversion import Proof
from stages.contracts.row import Row
from stages.contracts.status import Status
from stages.contracts.variant import Variant
from stages.reporting import charts, svg
from tests.reporting.reader import Reader
from tests.reporting.rows import BASELINE, INT8, MIXED, row, speed, stopped

SAVED = Proof(
    "trt_ops", {}, {"tf32": True, "variables_bytes": 3_000_000, "graph_bytes": 400_000, "engine_bytes": 1_500_000}
)
FAILED = replace(row("tflite-fp32"), status=Status("failed", "no answer", "evaluate"))


def words(chart: str | None) -> str:
    """The figures of a chart for who cannot see it."""
    (text,) = Reader(chart).texts("desc")
    return text


def test_points_have_both_figures_and_both_intervals() -> None:
    first, second = charts.points(MIXED, 1)
    assert (first.name, first.p50, first.p50_ci95, first.top1) == ("savedmodel-fp32", 4.0, (3.5, 4.5), 75)
    assert first.top1_ci95 == pytest.approx((55, 95))
    assert (second.name, second.p50, second.top1) == ("tflite-int8", 2.0, 50)
    assert charts.points([FAILED, replace(INT8, accuracy=None), replace(INT8, speeds=())], 1) == []


def test_lines_have_every_batch_size_of_the_variants_that_ran() -> None:
    assert [
        (line.name, {size: timed.p50_ms for size, timed in line.latencies.items()}) for line in charts.lines(MIXED)
    ] == [
        ("savedmodel-fp32", {1: 4.0, 8: 32.0}),
        ("tflite-int8", {1: 2.0, 8: 16.0}),
    ]
    assert charts.lines([FAILED, stopped("tftrt-fp32")]) == []


def test_a_variant_that_did_not_run_takes_no_colour() -> None:
    assert charts.looks(MIXED) == charts.looks((BASELINE, INT8))
    looks = charts.looks([row(f"r{i}-fp32") for i in range(11)])
    assert len(set(looks.values())) == 11


def test_figures_in_words_have_units_and_open_ends() -> None:
    open_ended = replace(
        BASELINE, speeds=(replace(speed(4.0), latency=replace(speed(4.0).latency, p50_ci95_ms=(3.9, None))),)
    )
    assert words(charts.accuracy([open_ended], 1, [], {})) == (
        "savedmodel-fp32: top-1 75.0 % (55.0 to 95.0), p50 4.00 ms (3.90 to open)."
    )
    assert "tflite-int8: 9.5 images/s at batch 1, 9.5 images/s at batch 8" in words(charts.throughput_by_batch(MIXED))
    assert "tflite-int8: 2.00 ms at batch 1, 16.00 ms at batch 8" in words(charts.latency_by_batch(MIXED))
    assert "tflite-int8: 2.0 MB, of which model 2.0 MB" in words(charts.size_by_part(MIXED))


def test_the_chosen_variant_is_marked_by_a_word() -> None:
    chart = charts.accuracy(MIXED, 1, ["tflite-int8"], {"tflite-int8": "chosen"})
    assert "chosen" in Reader(chart).texts("text")


def test_the_pareto_line_leaves_out_who_is_slower_and_no_more_accurate() -> None:
    assert charts.pareto_line([(3, 80), (1, 70), (2, 69), (4, 80)]) == [(1, 70), (3, 80)]
    assert charts.pareto_line([]) == []
    chart = charts.accuracy(MIXED, 1, ["savedmodel-fp32", "tflite-int8"], {})
    assert Reader(chart).texts("text")[-1] == svg.PARETO


def test_parts_add_up_to_the_size() -> None:
    assert charts.parts(row("tftrt-fp32", proof=SAVED, size=5_000_000)) == {
        "variables": 3_000_000, "graph": 400_000, "engines": 1_500_000, "other": 100_000,
    }  # fmt: skip
    assert charts.parts(INT8) == {"model": 2_000_000}


def test_a_part_that_cannot_be_seen_has_no_place_in_the_legend() -> None:
    texts = Reader(charts.size_by_part([row("tftrt-fp32", proof=SAVED, size=4_900_001)])).texts("text")
    assert [text for text in texts if text in charts.PARTS] == ["variables", "graph", "engines"]


@pytest.mark.parametrize("rows", [[], [stopped("tftrt-fp32")]])
def test_without_figures_there_is_no_chart(rows: list[Row]) -> None:
    assert charts.accuracy(rows, 1, [], {}) is None
    assert charts.latency_by_batch(rows) is charts.throughput_by_batch(rows) is charts.size_by_part(rows) is None


def test_a_converted_variant_has_a_size_although_it_failed_later() -> None:
    assert words(charts.size_by_part([FAILED])).startswith("tflite-fp32: 2.0 MB")


def test_one_variant_at_one_batch_size_can_be_drawn() -> None:
    one = [replace(BASELINE, speeds=(speed(4.0),))]
    assert charts.latency_by_batch(one) and charts.accuracy(one, 1, [], {})


def test_more_variants_than_colours_are_all_named() -> None:
    rows = [row(f"r{i}-fp32", 1.0 + i) for i in range(11)]
    for chart in (charts.accuracy(rows, 1, [], {}), charts.latency_by_batch(rows)):
        assert {one.name for one in rows} <= set(Reader(chart).texts("text"))


def test_odd_names_are_text_and_no_mark_up() -> None:
    name = 'a<b>&"$x^2$-fp32'
    odd = replace(row("tflite-fp32"), variant=Variant(name.removesuffix("-fp32"), "fp32"))
    chart = charts.accuracy([odd], 1, [name], {name: "chosen"})
    assert "<b>" not in (chart or "") and name in Reader(chart).texts("text")
