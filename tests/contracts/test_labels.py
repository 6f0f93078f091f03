import time
from pathlib import Path

import pytest

from stages.contracts import labels
from stages.contracts.labels import Labels
from tests.fixtures.errors import assert_helps, refused


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


def test_a_number_that_python_does_not_read_is_no_class(tiny_labels: Labels) -> None:
    text = "9" * 5000
    assert (tiny_labels.index(text), tiny_labels.is_place(text)) == (None, False)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("fine", "Fine"),
        ("fine", "fine\u200b"),
        ("fine", "\ufefff\u00adine"),
        ("fine", "\uff46\uff49\uff4e\uff45"),
        ("light fine", "light_fine"),
        ("light fine", "light\u3000 fine "),
        ("0", "00"),
        ("7", "\u0667"),
        ("12", "\uff10\uff11\uff12\u200b"),
        ("0" * 5000, "0"),
        ("stra\u00dfe", "STRASSE"),
        ("fine", "fine\ufe0f"),
        ("fine", "fi\u034fne"),
        ("fine", "fine\u3164"),
        ("fine", "\uffa0fine"),
        ("fine", "fine\u2800"),
        ("fine", "fine\x07"),
        ("fine", "\x7ffi\x9bne"),
        ("fine", "fi\u17b4ne\U000e0101"),
        ("fine", "\ufff9fine\ufffb"),
        ("light fine", "light\tfine"),
        ("light fine", "light\u2800\u3164fine"),
        ("\u00e9", "e\u034f\u0301"),
        ("7", "\ufe0f07"),
    ],
)
def test_names_that_look_alike_are_one_to_a_reader(name: str, other: str) -> None:
    assert labels.looks(name) == labels.looks(other)


@pytest.mark.parametrize(
    ("name", "other"),
    [("fine", "fines"), ("light fine", "lightfine"), ("1", "10"), ("1a", "01a"), ("a", "\u00e4"), ("a", "a\u0600")],
)
def test_names_that_do_not_look_alike_are_two(name: str, other: str) -> None:
    assert labels.looks(name) != labels.looks(other)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("blå", "'blå'"),
        ("fine\ufe0f", r"'fine\ufe0f'"),
        ("fi\u034fne\u3164", r"'fi\u034fne\u3164'"),
        ("fine\u2800\x07", r"'fine\u2800\x07'"),
        ("fine\U000e0101", r"'fine\U000e0101'"),
    ],
)
def test_signs_that_nobody_sees_are_written_as_numbers(name: str, written: str) -> None:
    assert labels.spelled(name) == written


def test_a_class_without_a_name_goes_by_its_number(tiny_labels: Labels) -> None:
    assert [tiny_labels.name(index) for index in (1, 7)] == ["cock", "class 7"]


def test_an_ambiguous_name_is_still_reached_by_its_wnids(tiny_labels: Labels) -> None:
    assert [tiny_labels.index(wnid) for wnid in ("n02012849", "n03126707")] == [2, 3]


@pytest.mark.parametrize(("text", "index"), [("10", 0), ("2", 1), ("0", 0), ("1", 1), ("3", None)])
def test_a_class_called_by_a_number_goes_before_the_class_of_that_number(text: str, index: int | None) -> None:
    assert Labels(("10", "2", "dog"), ("", "", "")).index(text) == index


@pytest.mark.parametrize(("text", "index"), [("20", 1), ("2", None), ("0", None)])
def test_where_all_classes_are_called_by_numbers_a_number_is_a_name_alone(text: str, index: int | None) -> None:
    tens = Labels.from_names(("10", "20", "30"))
    assert tens.index(text) == index
    told = "unknown label '2' (the classes are called 10, 20, 30; the nearest is 20)"
    assert tens.unknown("2") == told


COMPOSED, TAKEN_APART = "bl\u00e5", "bla\u030a"


@pytest.mark.parametrize("known", [COMPOSED, TAKEN_APART])
@pytest.mark.parametrize("text", [COMPOSED, TAKEN_APART, f" {COMPOSED} "])
def test_letters_and_accents_apart_are_the_same_name(known: str, text: str) -> None:
    labels = Labels.from_names(("red", known))
    assert (labels.index(text), labels.match([text])) == (1, [1])


def test_an_unknown_label_is_told_with_the_nearest_name() -> None:
    assert Labels.from_names(("tench", "cock")).unknown("tensh").endswith("; the nearest is tench)")


def test_a_number_that_names_two_classes_is_ambiguous() -> None:
    assert Labels(("1", "1", "dog"), ("", "", "")).index("1") is None


def test_a_class_without_a_wordnet_id_is_not_found_by_an_empty_label() -> None:
    assert Labels(("cat", "dog"), ("", "")).index("") is None


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (["cock", "n01440764"], [1, 0]),
        (["cock", "dog"], [1, None]),
        (["dog", "cat", "cow", "hen"], [0, 1, 2, 3]),
        (["dog", "cat", "cow", "cock"], [None, None, None, 1]),
        (["dog", "cat", "cow", "crane"], [None, None, None, None]),
        (["0", "1"], [None, None]),
    ],
    ids=["known", "in part", "as many", "as many, in part", "as many, one ambiguous", "numbers are no names"],
)
def test_another_list_of_classes_is_matched_by_name_or_else_by_place(
    tiny_labels: Labels, names: list[str], numbers: list[int | None]
) -> None:
    assert tiny_labels.match(names) == numbers


def test_twenty_thousand_classes_are_looked_up_in_no_time() -> None:
    many = Labels(tuple(f"class {index}" for index in range(20_000)), ("",) * 20_000)
    start = time.perf_counter()
    assert many.index("class 19999") == 19_999
    assert time.perf_counter() - start < 1  # 10 ms; counting each name anew took 6 s


def test_the_table_of_a_set_is_read_with_its_classes(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text('file,label\n"a, b.jpg",7\nsub/ö.png,0\n', encoding="utf-8")
    assert labels.read_table(tmp_path / "labels.csv") == [("a, b.jpg", 7), ("sub/ö.png", 0)]


def test_reading_gives_back_what_was_written(tmp_path: Path) -> None:
    before = Labels(("hen, the bird", 'a "quoted" name', "café"), ("n1", "n2", "n3"))
    labels.write(before, tmp_path / "labels.csv")
    assert labels.read(tmp_path / "labels.csv") == before
    assert len(before) == 3


@pytest.mark.parametrize("cut", [1, 2, 10, 25])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, tiny_labels: Labels, cut: int) -> None:
    path = tmp_path / "labels.csv"
    labels.write(tiny_labels, path)
    path.write_bytes(path.read_bytes()[:-cut])
    error = refused(labels.read, path)
    assert error.code in ("labels-cut", "table-damaged") and error.values == {"file": str(path)}
    assert_helps(error, str(path))


def test_a_file_that_lacks_a_class_is_refused(tmp_path: Path, tiny_labels: Labels) -> None:
    path = tmp_path / "labels.csv"
    labels.write(tiny_labels, path)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:2] + lines[3:]), encoding="utf-8")
    assert refused(labels.read, path).code == "labels-cut"


def test_the_file_has_one_line_per_class(tmp_path: Path, tiny_labels: Labels) -> None:
    labels.write(tiny_labels, tmp_path / "labels.csv")
    lines = (tmp_path / "labels.csv").read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["index,wnid,name", "0,n01440764,tench"]
    assert len(lines) == 5
