from collections.abc import Callable
from pathlib import Path

import pytest

from stages.contracts.labels import Labels
from stages.core.errors import PipelineError
from stages.data import sources
from tests.fixtures.errors import named, refused

Photos = Callable[..., Path]
SYNSETS = "imagenet_2012_validation_synset_labels.txt"
# Classes 1, 0, 3, 1.
WNIDS = ["n01514668", "n01440764", "n03126707", "n01514668"]


def name(number: int) -> str:
    return f"ILSVRC2012_val_{number:08d}.JPEG"


@pytest.fixture
def folder(checkout: Path, photo: Photos) -> Path:
    """Four images, numbered as the first four of ImageNet's."""
    for number in (4, 2, 1, 3):
        photo(checkout / "val" / name(number), number, format="JPEG")
    return checkout / "val"


def labelled(folder: Path, labels: Labels) -> list[tuple[str, int | None]]:
    return [(found.name, found.label) for found in sources.labelled(str(folder), labels, folder, folder).images]


def refusal(folder: Path, labels: Labels) -> PipelineError:
    return refused(labelled, folder, labels)


@pytest.mark.parametrize("text", ["\n".join(WNIDS), "\r\n".join([*WNIDS, "", ""])], ids=["plain", "Windows"])
def test_line_by_line_the_synset_file_labels_the_images_in_their_order(
    folder: Path, tiny_labels: Labels, text: str
) -> None:
    (folder / SYNSETS).write_text(text)
    (folder / "readme.txt").write_text("images of ILSVRC2012\nfor research\nonly\nthanks\n")
    assert labelled(folder, tiny_labels) == [(name(1), 1), (name(2), 0), (name(3), 3), (name(4), 1)]


def test_kaggles_table_labels_the_images_by_their_names(folder: Path, tiny_labels: Labels) -> None:
    rows = [f"ILSVRC2012_val_{number:08d},{WNIDS[number - 1]} 1 2 3 4 n01440764 5 6 7 8" for number in (3, 1, 2, 4)]
    (folder / "LOC_val_solution.csv").write_text(
        "\n".join(["ImageId,PredictionString", *rows, "ILSVRC2012_val_00000009,n9 1"])
    )
    assert labelled(folder, tiny_labels) == [(name(1), 1), (name(2), 0), (name(3), 3), (name(4), 1)]


def test_images_that_kaggles_table_leaves_out_are_listed(folder: Path, tiny_labels: Labels) -> None:
    (folder / "LOC_val_solution.csv").write_text(
        f"ImageId,PredictionString\nILSVRC2012_val_00000002,{WNIDS[1]} 1 2 3 4\nILSVRC2012_val_00000004,\n"
    )
    missing, empty = refusal(folder, tiny_labels).values["problems"]
    assert missing == f"LOC_val_solution.csv does not list {name(1)} (2 files)"
    assert empty.startswith(name(4)) and "''" in empty


@pytest.mark.parametrize("count", [3, 5])
def test_a_synset_file_of_another_length_shows_both_numbers_and_both_names(
    folder: Path, tiny_labels: Labels, count: int
) -> None:
    (folder / SYNSETS).write_text("\n".join((WNIDS * 2)[:count]))
    error = refusal(folder, tiny_labels)
    assert named(error, "file") == ("imagenet-no-list", str(folder))
    assert f"{SYNSETS} has {count} lines" in str(error)


def test_ilsvrcs_own_numbers_are_refused_with_the_file_to_get(folder: Path, tiny_labels: Labels) -> None:
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("490\n361\n171\n822\n")
    error = refusal(folder, tiny_labels)
    assert error.code == "imagenet-no-list"
    assert "ILSVRC2012_validation_ground_truth.txt" in str(error) and SYNSETS in str(error)
    assert "\n" not in str(error)


def test_images_without_any_list_say_which_to_get(folder: Path, tiny_labels: Labels) -> None:
    error = refusal(folder, tiny_labels)
    assert error.code == "imagenet-no-list" and SYNSETS in str(error)


def test_two_synset_files_that_differ_are_refused(folder: Path, tiny_labels: Labels) -> None:
    (folder / "a.txt").write_text("\n".join(WNIDS))
    (folder / "b.txt").write_text("\n".join(WNIDS[::-1]))
    assert named(refusal(folder, tiny_labels), "files") == ("imagenet-lists-differ", ["a.txt", "b.txt"])
    (folder / "b.txt").write_text("\n".join(WNIDS))
    assert len(labelled(folder, tiny_labels)) == 4


def test_classes_that_the_model_does_not_have_are_listed_with_their_images(folder: Path, tiny_labels: Labels) -> None:
    (folder / SYNSETS).write_text("\n".join([*WNIDS[:3], "n99999999"]))
    (problem,) = refusal(folder, tiny_labels).values["problems"]
    assert problem.startswith(name(4)) and "'n99999999'" in problem


def test_labels_csv_goes_before_the_synset_file(folder: Path, tiny_labels: Labels) -> None:
    (folder / SYNSETS).write_text("\n".join(WNIDS))
    (folder / "labels.csv").write_text(f"file,label\n{name(2)},2\n")
    assert labelled(folder, tiny_labels) == [(name(2), 2)]


def test_the_same_images_in_folders_named_by_class_are_taken_as_such(
    checkout: Path, photo: Photos, tiny_labels: Labels
) -> None:
    photo(checkout / "val/n01514668" / name(1), format="JPEG")
    assert labelled(checkout / "val", tiny_labels) == [(f"n01514668/{name(1)}", 1)]


def test_the_images_serve_without_labels_for_calibration(folder: Path) -> None:
    assert [found.name for found in sources.unlabelled(str(folder), folder, folder).images] == [
        name(i) for i in (1, 2, 3, 4)
    ]
