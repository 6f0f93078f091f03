from dataclasses import replace

from stages.contracts.row import Resized
from stages.reporting import notes, resizes
from stages.statistics.accuracy import share
from tests.reporting.rows import BASELINE, MIXED, accuracy, summary

HERE = Resized("bicubic with antialiasing, by Pillow", share(20, 60))
BETTER = Resized("nearest, by Pillow", share(60, 60), 1e-9)
ALIKE = Resized("bilinear with antialiasing, by Pillow", share(21, 60), 1.0)


def test_the_table_has_each_way_and_how_sure_a_difference_is() -> None:
    assert resizes.section(summary(*MIXED)) is None
    row = replace(BASELINE, accuracy=replace(accuracy(20, 60), resized=(HERE, BETTER, ALIKE)))
    table = resizes.section(summary(row))
    assert table is not None and "60 images" in table.name
    assert [(line[0], line[1].split()[0], line[2]) for line in table.cells[1:]] == [
        (HERE.way, "33.3", ""),
        (BETTER.way, "100.0", "1e-09"),
        (ALIKE.way, "35.0", "1"),
    ]


def test_what_depends_on_the_resize_is_told_with_the_largest_difference() -> None:
    assert resizes.depends(()) is resizes.depends((HERE, ALIKE)) is None
    told = resizes.depends((HERE, ALIKE, BETTER))
    assert told is not None and "33.3 % as here (bicubic" in told and "100.0 % otherwise (nearest" in told
    row = replace(BASELINE, accuracy=replace(accuracy(20, 60), resized=(HERE, BETTER)))
    assert any("depends strongly on how images are resized" in note for note in notes.notes([row], 10))
