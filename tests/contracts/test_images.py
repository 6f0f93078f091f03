"""What a person is told of the files of a set."""

import pytest

from stages.contracts.images import AGAIN, EMPTY, ImageSet, LeftOut, Twins


@pytest.mark.parametrize(
    ("left_out", "told"),
    [
        (LeftOut(EMPTY, 1, "fox"), "1 of its folders has no image, such as fox"),
        (LeftOut(EMPTY, 1200, "fox"), "1,200 of its folders have no image, such as fox"),
        (LeftOut(AGAIN, 1, "alpha"), "1 link was left out, since its folder counts under another name, such as alpha"),
        (LeftOut(AGAIN, 2, "a"), "2 links were left out, since their folders count under other names, such as a"),
        (LeftOut("dead link", 1, "a"), "1 file was left out: 1 dead link, such as a"),
    ],
)
def test_one_is_told_as_one_and_more_as_more(left_out: LeftOut, told: str) -> None:
    assert ImageSet("photos", 3, "", left_out=(left_out,)).remarks == [told]


@pytest.mark.parametrize(("pairs", "told"), [(2, "and so in 1 more pair"), (3, "and so in 2 more pairs")])
def test_pairs_that_are_not_shown_are_counted(pairs: int, told: str) -> None:
    found = ImageSet("photos", 4, "", contradictions=pairs, twins=(Twins("a", "cat", "b", "dog"),))
    assert found.remarks[-1] == told
