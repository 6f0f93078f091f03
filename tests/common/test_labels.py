from pathlib import Path

import pytest

from stages.common import labels
from stages.common.labels import Labels


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("0", 0),
        ("3", 3),
        ("4", None),
        ("-1", None),
        ("1.0", None),
        ("n01514668", 1),
        ("n99999999", None),
        ("cock", 1),
        ("crane", None),
        ("Cock", None),
        ("", None),
    ],
)
def test_a_class_is_found_by_number_wnid_or_unique_name(tiny_labels: Labels, text: str, index: int | None) -> None:
    assert tiny_labels.index(text) == index


def test_a_class_without_a_name_goes_by_its_number(tiny_labels: Labels) -> None:
    assert [tiny_labels.name(index) for index in (1, 7)] == ["cock", "class 7"]


def test_an_ambiguous_name_is_still_reached_by_its_wnids(tiny_labels: Labels) -> None:
    assert [tiny_labels.index(wnid) for wnid in ("n02012849", "n03126707")] == [2, 3]


def test_reading_gives_back_what_was_written(tmp_path: Path) -> None:
    before = Labels(("hen, the bird", 'a "quoted" name', "café"), ("n1", "n2", "n3"))
    labels.write(before, tmp_path / "labels.csv")
    assert labels.read(tmp_path / "labels.csv") == before
    assert len(before) == 3


def test_the_file_has_one_line_per_class(tmp_path: Path, tiny_labels: Labels) -> None:
    labels.write(tiny_labels, tmp_path / "labels.csv")
    lines = (tmp_path / "labels.csv").read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["index,wnid,name", "0,n01440764,tench"]
    assert len(lines) == 5
