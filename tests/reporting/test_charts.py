from pathlib import Path
from typing import Any

import pytest
from matplotlib import pyplot
from PIL import Image

from stages.contracts.labels import Labels
from stages.contracts.predictions import Prediction
from stages.reporting import charts
from stages.statistics.per_class import ClassReport


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


def report(classes: int) -> ClassReport:
    """Two images of each class, one of which is taken for another."""
    pairs = [(label, best) for label in range(classes) for best in (label, label + 1)]
    return ClassReport.from_predictions(
        [Prediction(f"{i}.jpg", label, [best], [0.5]) for i, (label, best) in enumerate(pairs)]
    )


@pytest.mark.parametrize("classes", [2, 30])
def test_a_confusion_matrix_is_drawn(tmp_path: Path, classes: int) -> None:
    names = Labels((r"$\no$ & <b>", "an extraordinarily long name of a class"), ("n1", "n2"))
    charts.draw_confusion(report(classes), names, "tflite-int8", tmp_path / "matrix.png")
    with Image.open(tmp_path / "matrix.png") as drawn:
        assert drawn.width == drawn.height > 400
    assert pyplot.get_fignums() == []


def test_long_names_are_cut_and_the_last_column_is_of_others() -> None:
    names = Labels(("tench", "an extraordinarily long name of a class"), ("n1", "n2"))
    assert charts.confusion_names(report(2), names) == ["tench", "an extraordinaril…", "other"]
