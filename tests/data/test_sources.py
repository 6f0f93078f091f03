from collections.abc import Callable
from pathlib import Path

import pytest

from stages.contracts.images import LeftOut
from stages.contracts.labels import Labels, spelled
from stages.data import sources
from tests.fixtures.errors import assert_helps, refused
from tests.fixtures.errors import named as of
from tests.fixtures.models import Named

Photos = Callable[..., Path]


def table(checkout: Path, photo: Photos, text: str | bytes, *names: str) -> None:
    """A folder `photos` with these images and this labels.csv."""
    (checkout / "photos").mkdir()
    for seed, name in enumerate(names):
        photo(checkout / "photos" / name, seed)
    content = text if isinstance(text, bytes) else text.encode()
    (checkout / "photos/labels.csv").write_bytes(content)


def test_labels_are_wnids_or_names(checkout: Path, photo: Photos, named: Named) -> None:
    table(checkout, photo, "file,label\nsub/b.jpg,n01514668\nc.png, tench \n", "sub/b.jpg", "c.png")
    assert named("photos") == [("sub/b.jpg", 1), ("c.png", 0)]


def test_labels_are_numbers(checkout: Path, photo: Photos, named: Named) -> None:
    table(checkout, photo, "file,label\na.jpg,3\nsub/b.jpg,0\n", "a.jpg", "sub/b.jpg")
    assert named("photos") == [("a.jpg", 3), ("sub/b.jpg", 0)]


def test_names_and_numbers_together_are_refused(checkout: Path, photo: Photos, named: Named) -> None:
    table(checkout, photo, "file,label\na.jpg,3\nb.jpg,tench\n", "a.jpg", "b.jpg")
    assert of(refused(named, "photos"), "labels") == ("labels-mixed", ("3", "tench"))


def test_names_and_numbers_together_are_refused_of_folders(checkout: Path, photo: Photos, named: Named) -> None:
    for folder in ("3", "tench"):
        photo(checkout / "photos" / folder / "a.jpg")
    assert of(refused(named, "photos"), "labels") == ("labels-mixed", ("3", "tench"))


@pytest.mark.parametrize("texts", [("01", "1"), ("001", "01"), ("1", "\u0661")])
@pytest.mark.parametrize("layout", ["folders", "table"])
def test_one_number_written_in_two_ways_is_refused(
    checkout: Path, photo: Photos, named: Named, texts: tuple[str, str], layout: str
) -> None:
    """They went into one class."""
    names = [f"{text}/a.jpg" for text in texts]
    if layout == "folders":
        for name in (*names, "3/a.jpg"):
            photo(checkout / "photos" / name)
    else:
        rows = "".join(f"{name},{text}\n" for name, text in zip(names, texts, strict=True))
        table(checkout, photo, f"file,label\n{rows}", *names)
    error = refused(named, "photos")
    assert of(error, "labels", "file") == ("labels-two-ways", texts, str(checkout / WHERE[layout]))
    assert_helps(error, f"{texts[0]!r} and {texts[1]!r}")


WHERE = {"folders": "photos", "table": "photos/labels.csv"}


def test_the_same_problem_of_many_files_is_told_once(checkout: Path, photo: Photos, named: Named) -> None:
    for index in range(40):
        photo(checkout / f"photos/blu/{index:02d}.png", index)
    (told,) = refused(named, "photos").values["problems"]
    assert told.startswith("blu/00.png lies in") and told.endswith(" (40 files)")


def test_a_byte_order_mark_and_carriage_returns_do_no_harm(checkout: Path, photo: Photos, named: Named) -> None:
    table(checkout, photo, b"\xef\xbb\xbffile,label\r\na.jpg,3\r\n", "a.jpg")
    assert named("photos") == [("a.jpg", 3)]


def test_more_columns_and_another_order_do_no_harm(checkout: Path, photo: Photos, named: Named) -> None:
    table(checkout, photo, "label,width,file\n2,640,a.jpg\n", "a.jpg")
    assert named("photos") == [("a.jpg", 2)]


def test_every_wrong_line_of_labels_csv_is_listed(checkout: Path, photo: Photos, named: Named) -> None:
    table(checkout, photo, "file,label\nmissing.jpg,0\na.jpg,dog\na.jpg,4\na.jpg,crane\n,1\na.jpg\na.jpg,1\n", "a.jpg")
    error = refused(named, "photos")
    assert of(error, "source") == ("source-problems", "photos")
    problems = error.values["problems"]
    assert [problem.partition(":")[0] for problem in problems] == [f"labels.csv line {line}" for line in range(2, 8)]
    expected = ("missing.jpg", "'dog'", "'4'", "'crane'", "(empty)", "''")
    for problem, what in zip(problems, expected, strict=True):
        assert what in problem


@pytest.mark.parametrize("text", ["", "name,class\na.jpg,1\n", "a.jpg,1\n", "file;label\na.jpg;1\n"])
def test_labels_csv_without_its_header_says_what_belongs_there(
    checkout: Path, photo: Photos, named: Named, text: str
) -> None:
    table(checkout, photo, text, "a.jpg")
    assert "photos/labels.csv" in str(refused(named, "photos"))


@pytest.mark.parametrize(
    "content",
    [
        "file,label\nphotografía.jpg,1\n".encode("latin-1"),
        "file,label\na.jpg,1\n".encode("utf-16"),
        b"file,label\n\0,1",
    ],
    ids=["latin-1", "utf-16", "nul"],
)
def test_labels_csv_that_is_not_utf8_text_is_named(checkout: Path, photo: Photos, named: Named, content: bytes) -> None:
    table(checkout, photo, content, "a.jpg")
    assert "labels.csv" in str(refused(named, "photos"))


@pytest.mark.parametrize("place", ["absolute", "parent"])
def test_labels_csv_may_not_name_files_outside_its_folder(
    checkout: Path, photo: Photos, named: Named, place: str
) -> None:
    outside = photo(checkout / "elsewhere/a.jpg")
    name = {"absolute": str(outside), "parent": "../elsewhere/a.jpg"}[place]
    table(checkout, photo, f"file,label\n{name},1\n")
    (problem,) = refused(named, "photos").values["problems"]
    assert problem.startswith("labels.csv line 2: ") and name in problem


def test_labels_csv_with_nothing_but_its_header_is_refused(checkout: Path, photo: Photos, named: Named) -> None:
    table(checkout, photo, "file,label\n", "a.jpg")
    assert of(refused(named, "photos"), "source") == ("source-empty", "photos")


def test_sub_folders_name_the_classes(checkout: Path, photo: Photos, named: Named) -> None:
    for name in ("n01514668/a.jpg", "n01440764/b.png", "tench/deep/c.jpg"):
        photo(checkout / "photos" / name)
    (checkout / "photos/n01440764/readme.txt").write_text("no image")
    assert named("photos") == [("n01440764/b.png", 0), ("n01514668/a.jpg", 1), ("tench/deep/c.jpg", 0)]


def test_every_wrong_folder_is_listed(checkout: Path, photo: Photos, named: Named) -> None:
    for name in ("dogs/a.jpg", "crane/b.jpg", "top.jpg", "0/c.jpg"):
        photo(checkout / "photos" / name)
    first, second, third = refused(named, "photos").values["problems"]
    assert first.startswith("crane/b.jpg ") and "'crane'" in first
    assert second.startswith("dogs/a.jpg ") and "'dogs'" in second
    assert third.startswith("top.jpg ")


def test_an_empty_folder_says_what_belongs_there(checkout: Path, named: Named) -> None:
    (checkout / "photos").mkdir()
    assert of(refused(named, "photos"), "source") == ("source-empty", "photos")


@pytest.mark.parametrize("kind", ["missing", "a file"])
def test_a_source_that_is_no_folder_is_named_as_written_and_as_resolved(
    checkout: Path, named: Named, kind: str
) -> None:
    if kind == "a file":
        (checkout / "photos").write_text("")
    error = refused(named, "photos")
    assert of(error, "source", "file") == ("source-missing", "photos", f"{checkout}/photos")


def test_the_home_folder_of_an_unknown_user_is_named(checkout: Path, named: Named) -> None:
    assert of(refused(named, "~nobody-here/photos"), "source") == ("path-unknown-user", "~nobody-here/photos")


def test_a_home_folder_and_an_absolute_path_are_found(
    checkout: Path, photo: Photos, named: Named, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    photo(tmp_path / "home/photos/0/a.jpg")
    assert named("~/photos") == named(str(tmp_path / "home/photos")) == [("0/a.jpg", 0)]


def test_unlabelled_images_come_from_every_depth(checkout: Path, photo: Photos, work: Path) -> None:
    for name in ("b.jpg", "a/c.png", "a/b/d.bmp"):
        photo(checkout / "photos" / name)
    found = sources.unlabelled("photos", checkout, work).images
    assert [(image.name, image.label) for image in found] == [("a/b/d.bmp", None), ("a/c.png", None), ("b.jpg", None)]
    assert all(image.path.is_file() for image in found)


@pytest.mark.parametrize("target", ["0", "1/a.jpg/deeper"])
def test_a_link_that_leads_nowhere_beside_the_classes_is_left_out(
    checkout: Path, photo: Photos, tiny_labels: Labels, work: Path, target: str
) -> None:
    photo(checkout / "photos/1/a.jpg")
    (checkout / "photos/0").symlink_to(target)
    found = sources.labelled("photos", tiny_labels, checkout, work)
    assert [(image.name, image.label) for image in found.images] == [("1/a.jpg", 1)]
    assert found.left_out == (LeftOut("dead link", 1, "0"),)


@pytest.fixture
def classes(checkout: Path, work: Path) -> Callable[[str], sources.Classes]:
    return lambda source: sources.class_names(source, checkout, work)


Classes = Callable[[str], sources.Classes]


@pytest.mark.parametrize("written", ["{place}/a/1.png", "./a/1.png", "a/../a/1.png", "{link}/a/1.png"])
def test_a_table_may_name_its_files_by_any_path_inside_the_folder(
    checkout: Path, photo: Photos, named: Named, written: str
) -> None:
    photo(checkout / "photos/a/1.png")
    (checkout / "link").symlink_to("photos")
    path = written.format(place=checkout / "photos", link=checkout / "link")
    (checkout / "photos/labels.csv").write_text(f"file,label\n{path},0\n")
    assert named("photos") == [("a/1.png", 0)]


@pytest.mark.parametrize("written", ["link/../0.png", "{place}/link/../0.png", "sub/../link/../0.png"])
def test_a_path_that_goes_up_from_a_link_names_the_file_it_leads_to(
    checkout: Path, photo: Photos, named: Named, written: str
) -> None:
    """Up from where the link leads, and not from where it lies: two files went by one name."""
    row = written.format(place=checkout / "photos")
    table(checkout, photo, f"file,label\n0.png,0\n{row},1\n", "0.png", "sub/deep/1.png", "sub/0.png")
    (checkout / "photos/link").symlink_to("sub/deep")
    assert named("photos") == [("0.png", 0), ("sub/0.png", 1)]


def test_folders_name_classes_in_the_order_that_keras_numbers_them(
    checkout: Path, photo: Photos, classes: Classes
) -> None:
    for name in ("dog/a.jpg", "Zebra/b.jpg", "cat/deep/c.jpg", "10/d.jpg", "9/e.jpg"):
        photo(checkout / "photos" / name)
    (checkout / "photos/empty").mkdir()
    (checkout / "photos/notes").mkdir()
    (checkout / "photos/notes/readme.txt").write_text("no image")
    (checkout / "photos/a file").write_text("no folder")
    order = (
        "the folders of the images, in alphabetical order, without empty and 1 more, which have no image of their own"
    )
    assert classes("photos") == (("10", "9", "Zebra", "cat", "dog"), order)


@pytest.mark.parametrize(("link", "target"), [("alpha", "cat"), ("kitty", "cat"), ("all/cat", "../cat")])
def test_a_link_to_a_class_is_no_class_and_is_named(
    checkout: Path, photo: Photos, classes: Classes, work: Path, link: str, target: str
) -> None:
    for name in ("cat/a.jpg", "dog/a.jpg"):
        photo(checkout / "photos" / name)
    (checkout / "photos" / link).parent.mkdir(exist_ok=True)
    (checkout / "photos" / link).symlink_to(target)
    no_class = link.partition("/")[0]
    order = f"the folders of the images, in alphabetical order, without {no_class}, which has no image of its own"
    assert classes("photos") == (("cat", "dog"), order)
    found = sources.labelled("photos", Labels.from_names(("cat", "dog")), checkout, work)
    assert [(image.name, image.label) for image in found.images] == [("cat/a.jpg", 0), ("dog/a.jpg", 1)]
    assert found.left_out == (LeftOut("second way to a folder", 1, link),)


def test_a_link_that_custom_labels_names_takes_no_images_of_another_class(
    checkout: Path, photo: Photos, work: Path
) -> None:
    for name in ("cat/a.jpg", "dog/a.jpg"):
        photo(checkout / "photos" / name)
    (checkout / "photos/alpha").symlink_to("cat")
    found = sources.labelled("photos", Labels.from_names(("alpha", "cat", "dog")), checkout, work)
    assert [(image.name, image.label) for image in found.images] == [("cat/a.jpg", 1), ("dog/a.jpg", 2)]


def test_a_link_to_an_empty_folder_is_an_empty_one(
    checkout: Path, photo: Photos, tiny_labels: Labels, work: Path
) -> None:
    photo(checkout / "photos/1/a.jpg")
    (checkout / "nothing").mkdir()
    (checkout / "photos/0").symlink_to(checkout / "nothing")
    found = sources.labelled("photos", tiny_labels, checkout, work)
    assert found.left_out == (LeftOut("empty folder", 1, "0"),)


def test_a_table_may_name_its_files_through_a_link(
    checkout: Path, photo: Photos, tiny_labels: Labels, work: Path
) -> None:
    table(checkout, photo, "file,label\nall/a.jpg,3\n", "sub/a.jpg", "sub/b.jpg")
    (checkout / "photos/all").symlink_to("sub")
    found = sources.labelled("photos", tiny_labels, checkout, work)
    assert [(image.name, image.label) for image in found.images] == [("all/a.jpg", 3)]
    assert set(found.left_out) == {
        LeftOut("not in labels.csv", 1, "sub/b.jpg"),
        LeftOut("second way to a folder", 1, "all"),
    }


@pytest.mark.parametrize(
    ("written", "found", "order"),
    [
        (("dog", "cat", " dog "), ("cat", "dog"), "in alphabetical order"),
        (("10", "9", "0"), ("0", "9", "10"), "by number"),
        (("9" * 5000, "10"), ("10", "9" * 5000), "by number"),
        (("10", "9", "b"), ("10", "9", "b"), "in alphabetical order"),
        (("dog", "", "cat"), ("cat", "dog"), "in alphabetical order"),
    ],
)
def test_a_table_names_classes_too_and_numbers_in_their_order(
    checkout: Path, photo: Photos, classes: Classes, written: tuple[str, ...], found: tuple[str, ...], order: str
) -> None:
    names = [f"{index}.png" for index in range(len(written))]
    rows = "".join(f"{name},{label}\n" for name, label in zip(names, written, strict=True))
    table(checkout, photo, f"file,label\n{rows}", *names)
    assert classes("photos") == (found, f"the labels.csv of the images, {order}")


@pytest.mark.parametrize(
    ("written", "twins"),
    [
        (("Fine", "fine", "dog"), ("Fine", "fine")),
        (("fine", "fine\u200b"), ("fine", "fine\u200b")),
        (("light_fine", "light fine"), ("light fine", "light_fine")),
        (("00", "7", "0", "000"), ("0", "00")),
        (("01", "1", "b"), ("01", "1")),
        (("fine", "fine\ufe0f"), ("fine", "fine\ufe0f")),
        (("fine\x07", "fine"), ("fine", "fine\x07")),
    ],
)
def test_two_classes_that_look_alike_are_told_by_both_names(
    checkout: Path, photo: Photos, classes: Classes, written: tuple[str, ...], twins: tuple[str, str]
) -> None:
    rows = "".join(f"{index}.png,{label}\n" for index, label in enumerate(written))
    table(checkout, photo, f"file,label\n{rows}", *(f"{index}.png" for index in range(len(written))))
    error = refused(classes, "photos")
    assert of(error, "source", "classes") == ("classes-twins", "photos", twins)
    assert_helps(error, f"{spelled(twins[0])} and {spelled(twins[1])}")


def test_two_folders_that_look_alike_are_told(checkout: Path, photo: Photos, classes: Classes) -> None:
    for name in ("fine", "\uff46ine"):
        photo(checkout / "photos" / name / "a.jpg")
    assert of(refused(classes, "photos"), "classes") == ("classes-twins", ("fine", "\uff46ine"))


def test_folders_of_systems_name_no_classes(
    checkout: Path, photo: Photos, classes: Classes, tiny_labels: Labels, work: Path
) -> None:
    for name in ("tench/a.jpg", "tench/@eaDir/a.jpg/SYNOPHOTO_THUMB_M.png", "$RECYCLE.BIN/S-1/x.png"):
        photo(checkout / "photos" / name)
    for name in ("lost+found", "Network Trash Folder", "Temporary Items"):
        (checkout / "photos" / name).mkdir()
    assert classes("photos").names == ("tench",)
    found = sources.labelled("photos", tiny_labels, checkout, work)
    assert [image.name for image in found.images] == ["tench/a.jpg"]
    assert found.left_out == (LeftOut("hidden", 2, "$RECYCLE.BIN/S-1/x.png"),)


def test_a_label_of_more_digits_than_python_reads_is_told(checkout: Path, photo: Photos, named: Named) -> None:
    table(checkout, photo, f"file,label\na.jpg,{'9' * 5000}\n", "a.jpg")
    assert of(refused(named, "photos"), "source") == ("source-problems", "photos")


def test_digits_have_ten_classes(classes: Classes) -> None:
    assert classes("digits") == (tuple("0123456789"), "the digits, by number")


@pytest.mark.parametrize("source", ["sample", "tfds:mnist", "photos"])
def test_a_source_that_names_no_classes_says_which_key_does(
    checkout: Path, photo: Photos, classes: Classes, source: str
) -> None:
    photo(checkout / "photos/ILSVRC2012_val_00000001.JPEG", format="JPEG")
    expected = ("source-no-classes", source, "custom.labels")
    assert of(refused(classes, source), "source", "key") == expected


def test_a_missing_folder_of_classes_is_named(checkout: Path, classes: Classes) -> None:
    assert of(refused(classes, "photos"), "file") == ("source-missing", f"{checkout}/photos")
