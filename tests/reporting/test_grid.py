from stages.reporting import grid
from tests.reporting.rows import BASELINE, INT8


def test_words_stand_left_and_numbers_right() -> None:
    assert grid.grid([["name", "ms"], ["a", "1.00"], ["longer", ""]], texts=1) == [
        "| name   |   ms |",
        "|--------|-----:|",
        "| a      | 1.00 |",
        "| longer |      |",
    ]


def test_a_column_is_a_heading_and_what_each_row_has_below_it() -> None:
    columns = {"variant": lambda row: row.name, "size": lambda row: str(row.size_bytes)}
    assert grid.lines([BASELINE, INT8], columns) == [
        ["variant", "size"],
        ["savedmodel-fp32", "2000000"],
        ["tflite-int8", "2000000"],
    ]
