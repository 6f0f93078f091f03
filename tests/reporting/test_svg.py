import re
from collections.abc import Callable

import numpy as np
import pytest

from stages.reporting import charts, curves, distributions, reliability, svg
from stages.reporting.svg import Look
from stages.statistics.per_class import Bin, ClassReport
from tests.reporting.reader import Reader
from tests.reporting.rows import BASELINE, INT8, row

ROWS = (BASELINE, INT8)
NAMES = [one.name for one in ROWS]
BINS = (Bin(0.6, 2 / 3, 3, 0.65, 1 / 3), Bin(14 / 15, 1.0, 1, 0.99, 1.0))
CALLS = np.random.default_rng(0).gamma(9, 1, 300)
SPREADS = [
    distributions.Spread(name, svg.SERIES[0], CALLS, *np.percentile(CALLS, (1, 25, 50, 75, 99))) for name in NAMES
]
CURVE = [{"epoch": 0.0, "val_loss": 0.35}, {"epoch": 1.0, "loss": 0.5, "val_loss": 0.3}]

DRAWN: dict[str, Callable[[], str | None]] = {
    "accuracy": lambda: charts.accuracy(ROWS, 1, ["tflite-int8"], {"tflite-int8": "chosen"}),
    "distributions": lambda: distributions.distributions(SPREADS, 1),
    "latency": lambda: charts.latency_by_batch(ROWS),
    "throughput": lambda: charts.throughput_by_batch(ROWS),
    "size": lambda: charts.size_by_part(ROWS),
    "reliability": lambda: reliability.reliability({name: ClassReport((), {}, BINS) for name in NAMES}),
    "training": lambda: curves.chart(dict.fromkeys(NAMES, CURVE)),
}


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    """Every chart."""
    return {name: draw() or "" for name, draw in DRAWN.items()}


@pytest.mark.parametrize("name", DRAWN)
def test_a_chart_takes_font_and_colours_from_the_page(drawn: dict[str, str], name: str) -> None:
    chart = drawn[name]
    assert chart and "font-family" not in chart and "<style" not in chart and "<?xml" not in chart
    # A colour that no variable stands for would not follow the page into the dark.
    assert set(re.findall(r"#[0-9a-f]{6}\b", chart)) == set()
    assert set(re.findall(r"var\(--([a-z0-9-]+)\)", chart)) <= set(svg.VARIABLES.values())
    assert "http" not in chart and "script" not in chart


@pytest.mark.parametrize("name", DRAWN)
def test_a_chart_has_a_title_and_its_figures_in_words(drawn: dict[str, str], name: str) -> None:
    read = Reader(drawn[name])
    (chart,) = read.all("svg", role="img")
    assert set(chart["aria-labelledby"].split()) <= set(read.ids)
    (words,) = read.texts("desc")
    assert all(f"{one}: " in words for one in NAMES)


def test_ids_differ_between_charts_and_every_reference_has_its_target(drawn: dict[str, str]) -> None:
    ids = [one for chart in drawn.values() for one in Reader(chart).ids]
    assert len(ids) == len(set(ids))
    for chart in drawn.values():
        assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', chart)) <= set(Reader(chart).ids)


@pytest.mark.parametrize("name", DRAWN)
def test_the_same_figures_give_the_same_bytes(drawn: dict[str, str], name: str) -> None:
    assert DRAWN[name]() == drawn[name]


def test_text_that_looks_like_a_colour_or_a_number_stays() -> None:
    drawn = '<svg viewBox="0 0 1 1"><text style="fill: #010000" x="1.23456">#010000 1.23456</text></svg>'
    assert 'style="fill: var(--ink)" x="1.23">#010000 1.23456<' in svg.inline(drawn, "n", "t", "d")


def test_colour_and_marker_together_repeat_after_56() -> None:
    assert len({Look.of(place) for place in range(56)}) == 56 and Look.of(56) == Look.of(0)


@pytest.mark.parametrize(
    ("ends", "lengths"),
    [
        ((3.5, 4.25), [[0.5], [0.25]]),
        ((3.5, None), [[0.5], [0.0]]),
        ((4.1, 3.9), [[0.0], [0.0]]),
        (None, [[0.0], [0.0]]),
    ],
)
def test_an_open_end_has_no_error_bar(ends: tuple[float | None, float | None], lengths: list[list[float]]) -> None:
    assert svg.error_bar(4.0, ends) == lengths


@pytest.mark.parametrize(("longest", "columns"), [("onnxruntime-int8", 3), ("onnxruntime-int8-qat", 2)])
def test_a_legend_has_as_many_columns_as_have_room(longest: str, columns: int) -> None:
    names = ["savedmodel-fp32", "tflite-int8", longest]
    chart = charts.latency_by_batch([row(name) for name in names]) or ""
    starts = [re.search(rf'<text [^>]*x="([\d.]+)"[^>]*>{name}</text>', chart) for name in names]
    assert len({start[1] for start in starts if start}) == columns


@pytest.mark.parametrize("faster", [7.99, 7.0, 5.0, 2.0, 0.1, 0.001])
def test_an_axis_has_ticks_however_little_it_spans(faster: float) -> None:
    spreads = [distributions.Spread(f"{ms}", svg.SERIES[0], np.full(9, ms), *[ms] * 5) for ms in (8.0, faster)]
    texts = Reader(distributions.distributions(spreads, 1)).texts("text")
    numbers = [text for text in texts if re.fullmatch(r"[\d.,e-]+", text)]
    assert svg.TICKS <= len(numbers) <= 18
