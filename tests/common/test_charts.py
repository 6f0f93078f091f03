from typing import Any

from matplotlib import pyplot

from stages.common import charts


def test_more_variants_than_colours_are_all_drawn() -> None:
    rows: list[dict[str, Any]] = [
        {"variant": f"v{i}", "top1": 0.8, "top1_ci95": [0.7, 0.9], "latency": {"1": {"p50_ms": 1.0 + i}}}
        for i in range(11)
    ]
    for plot in (charts._accuracy, charts._latency):
        figure, axes = pyplot.subplots()
        plot(axes, rows)
        assert [text.get_text() for text in axes.get_legend().get_texts()] == [row["variant"] for row in rows]
        pyplot.close(figure)
