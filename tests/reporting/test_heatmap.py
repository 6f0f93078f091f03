import re
from xml.etree import ElementTree

import pytest

from stages.contracts.labels import Labels
from stages.contracts.predictions import Prediction
from stages.reporting import heatmap, svg
from stages.statistics.per_class import ClassReport

LABELS = Labels(("tench", 'cats & <dogs> "x"', "an extraordinarily long name of a class"), ("n1", "n2", "n3"))


def report(*pairs: tuple[int, int]) -> ClassReport:
    """From (label, predicted) of each image."""
    answers = [Prediction.plain(f"{i}.jpg", label, [best], [0.5]) for i, (label, best) in enumerate(pairs)]
    return ClassReport.from_predictions(answers)


MIXED = report((0, 0), (0, 0), (0, 0), (0, 1), (1, 1), (1, 77))


def drawn(one: ClassReport, name: str = "confusion-a-before") -> ElementTree.Element:
    return ElementTree.fromstring(heatmap.confusion(one, LABELS, name, "Confusion matrix, a"))


def cells(chart: ElementTree.Element) -> dict[str, str]:
    """What each coloured cell says, and its colour with its strength."""
    return {
        cell[0].text or "": f"{cell.get('fill')} {cell.get('fill-opacity')}" for cell in chart.iter("rect") if len(cell)
    }


def test_long_names_are_cut_and_the_last_column_is_of_others() -> None:
    labels = Labels(("tench", "an extraordinarily long name of a class"), ("n1", "n2"))
    assert heatmap.confusion_names(report((0, 0), (1, 1)), labels) == ["tench", "an extraordinaril…", "other"]


def test_every_cell_with_images_says_what_it_is() -> None:
    # 0.12 and the root of the share of 0.48 more.
    assert cells(drawn(MIXED)) == {
        "tench, predicted tench: 3 (75 %)": "var(--series-5) 0.54",
        'tench, predicted cats & <dogs> "x": 1 (25 %)': "var(--series-6) 0.36",
        'cats & <dogs> "x", predicted cats & <dogs> "x": 1 (50 %)': "var(--series-5) 0.46",
        'cats & <dogs> "x", predicted classes without images: 1 (50 %)': "var(--series-6) 0.46",
    }


def test_a_matrix_has_a_title_its_figures_in_words_and_names_on_both_axes() -> None:
    chart = drawn(MIXED)
    assert chart.get("role") == "img"
    assert chart.get("aria-labelledby") == "confusion-a-before-title confusion-a-before-desc"
    assert [chart[0].text, chart[1].text] == [
        "Confusion matrix, a",
        'tench: 3 of 4 right, 1 as cats & <dogs> "x"; cats & <dogs> "x": 1 of 2 right, 1 as classes without images.',
    ]
    texts = [text.text for text in chart.iter("text")]
    assert texts.count("tench") == texts.count('cats & <dogs> "x"') == 2 and texts.count("other") == 1
    assert [text for text in texts if text and text.isdecimal()] == ["3", "1", "1", "1"]


def test_colours_are_the_pages_own() -> None:
    chart = heatmap.confusion(MIXED, LABELS, "a", "b")
    assert set(re.findall(r"var\(--([a-z0-9-]+)\)", chart)) <= set(svg.VARIABLES.values())
    assert not re.search(r"#[0-9a-f]{6}\b|font-family", chart)


@pytest.mark.parametrize(("classes", "numbers"), [(2, 4), (15, 30), (16, 0), (30, 0)])
def test_cells_stay_inside_and_carry_numbers_while_those_fit(classes: int, numbers: int) -> None:
    chart = drawn(report(*((label, best) for label in range(classes) for best in (label, (label + 1) % classes))))
    _, _, width, height = map(float, (chart.get("viewBox") or "").split())
    for cell in (cell for cell in chart.iter("rect") if len(cell)):
        x, y, side = (float(cell.get(key) or "nan") for key in ("x", "y", "width"))
        assert x >= heatmap.NAMES and x + side <= width and y >= 0 and y + side <= height and side > 8
    assert len([text for text in chart.iter("text") if (text.text or "").isdecimal()]) == numbers


def test_long_numbers_are_set_smaller() -> None:
    few, many = drawn(report((0, 0), (1, 1))), drawn(report(*[(0, 0)] * 12_345, *((i, i) for i in range(1, 14))))
    sizes = [float(next(group for group in chart.iter("g")).get("font-size") or "nan") for chart in (few, many)]
    assert sizes[0] == heatmap.FONT and sizes[1] < 7
