"""Our arithmetic against what each library itself makes of photographs; make_reference.py wrote that down."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.contracts.preprocessing import Library, Preprocessing, Resize
from stages.data import batches, fit
from stages.params.pixels import PRESETS, Given
from tests.data.make_reference import FOLDER, HEIGHT, METHODS, PHOTOS, WIDTH, given, photo, tag

REFERENCES = {path.stem: np.load(path) for path in sorted(FOLDER.glob("*.npz"))}
CASES = [(library, name) for library, found in REFERENCES.items() for name in found.files]
PLAIN = (1.0,) * 3, (0.0,) * 3, "rgb"


def prepared(said: Given, height: int = HEIGHT, width: int = WIDTH) -> Preprocessing:
    resize, fraction, *rest = said.seen
    return Preprocessing(height, width, resize, fraction, *PLAIN, *rest)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both photographs and a part of one, and one with a tag."""
    folder = tmp_path_factory.mktemp("photos")
    for name in (*PHOTOS, "flower part"):
        photo(name).save(folder / f"{name}.png", compress_level=1)
    photo("china").save(folder / "turned.jpg", quality=95, exif=tag(6))
    return folder


def allowed(case: str) -> float:
    """How far we may be from a library: not at all, by a rounding of float32, or by a step of 8 bits."""
    if case in PRESETS or "/nearest/" in case or case.startswith("pillow") or case.endswith("bilinear/plain"):
        return 0
    return 0.003 if case.startswith("tensorflow") else 1 if "bicubic" in case else 0


@pytest.mark.parametrize(("library", "name"), [case for case in CASES if not case[1].startswith("turned")])
def test_pixels_are_those_of_the_library(photos: Path, library: str, name: str) -> None:
    shown, _, case = name.partition(": ")
    found, expected = batches.load(photos / f"{shown}.png", prepared(given(case))), REFERENCES[library][name]
    assert found.shape == expected.shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_allclose(found, expected.astype(np.float32), rtol=0, atol=allowed(case))


@pytest.mark.parametrize(("library", "name"), [case for case in CASES if case[1].startswith("turned")])
def test_a_tag_is_followed_where_the_library_follows_it(photos: Path, library: str, name: str) -> None:
    preset, expected = PRESETS[name.partition(": ")[2]], REFERENCES[library][name].astype(np.float32)  # type: ignore[index]
    found = batches.load(photos / "turned.jpg", prepared(preset))
    other = batches.load(photos / "turned.jpg", prepared(preset._replace(orientation=not preset.orientation)))
    # Decoders of JPEG differ by a few steps of 8 bits, and a photograph from itself turned by 60 in the mean.
    assert np.abs(found - expected).mean() < 3 < 30 < np.abs(other - expected).mean()


@pytest.mark.parametrize("library", ["pillow", "tensorflow", "opencv"])
@pytest.mark.parametrize("resize", ["crop", "stretch", "pad", "resize-crop"])
def test_an_image_of_any_size_fits_in_each_way(library: Library, resize: Resize) -> None:
    for method in METHODS:
        for size in ((1, 1), (1, 90), (7, 3), (24, 20)):
            said = Given(resize, 0.3, method, None, library)
            found = fit.pixels(Image.new("RGB", size, (200, 100, 50)), prepared(said))
            assert found.shape == (HEIGHT, WIDTH, 3)
            assert found.dtype == (np.float32 if library == "tensorflow" else np.uint8)
            # What is no black border has the colour that all of the image has.
            np.testing.assert_allclose(found.max(axis=(0, 1)), (200, 100, 50), atol=0.001)


def test_what_an_image_is_resized_to_first_is_cut_to_its_middle() -> None:
    image = Image.new("RGB", (80, 40), (255, 0, 0))
    image.paste((0, 0, 255), (20, 0, 60, 40))
    found = fit.pixels(image, prepared(Given("resize-crop", method="nearest", resize_side=30), 20, 20))
    np.testing.assert_array_equal(found, np.broadcast_to((0, 0, 255), (20, 20, 3)))
    small = fit.pixels(image, prepared(Given("resize-crop", method="nearest", resize_side=10), 20, 20))
    assert small[5:15].any(axis=2).all() and not small[:5].any() and not small[15:].any()


def test_gray_is_resized_as_one_channel() -> None:
    for library in ("pillow", "tensorflow", "opencv"):
        resize, fraction, *rest = Given("stretch", library=library).seen  # type: ignore[arg-type]
        found = fit.pixels(photo("china"), Preprocessing(4, 6, resize, fraction, (1.0,), (0.0,), "gray", *rest))
        assert found.shape == (4, 6, 1)
