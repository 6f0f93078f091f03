import json
import struct
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.common import images
from stages.common.errors import PipelineError
from stages.common.images import Preprocessing

Photo = Callable[..., Path]
ORIENTATION = 0x0112
PLAIN = Preprocessing(8, 8, "crop", 1.0, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), "rgb")


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[ORIENTATION] = orientation
    return found


def gradient() -> Image.Image:
    """48 x 32, red grows to the right, green downwards; smooth enough to survive JPEG."""
    x, y = np.meshgrid(np.linspace(0, 255, 48), np.linspace(0, 255, 32))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 128)], axis=2).astype(np.uint8))


@pytest.mark.parametrize(
    ("orientation", "stored_as"),
    [
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
    ],
)
def test_exif_rotation_is_undone(tmp_path: Path, orientation: int, stored_as: Image.Transpose) -> None:
    gradient().transpose(stored_as).save(tmp_path / "a.jpg", exif=exif(orientation), quality=98)
    found = images.decode(tmp_path / "a.jpg")
    assert found.size == (48, 32)
    np.testing.assert_allclose(np.asarray(found, int), np.asarray(gradient(), int), atol=12)


@pytest.mark.parametrize(
    "tag",
    [(0x010F, 12, 1, 0), (0x0154, 12, 0, 0), (0x013E, 2, 1, 66), (0x011A, 5, 1, 9999), (0x8769, 4, 1, 9999)],
    ids=["float as text", "no value", "text as ratio", "cut short", "lost block"],
)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_another_exif_tag_that_is_odd_does_not_keep_an_image_from_being_turned(
    tmp_path: Path, tag: tuple[int, int, int, int]
) -> None:
    entries = [(ORIENTATION, 3, 1, 6), tag]
    block = b"II*\0" + struct.pack("<IH", 8, len(entries))
    block += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    Image.new("RGB", (8, 6)).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + block)
    assert images.decode(tmp_path / "a.jpg").size == (6, 8)


def test_noise_is_the_same_each_time_and_as_the_model_takes_it() -> None:
    found = Preprocessing(4, 6, "crop", 1.0, (2 / 255,) * 3, (-1.0,) * 3, "rgb").noise(3)
    assert (found.shape, found.dtype) == ((3, 4, 6, 3), np.float32)
    assert -1 <= found.min() < -0.9 < 0.9 < found.max() <= 1
    np.testing.assert_array_equal(found, Preprocessing(4, 6, "crop", 1.0, (2 / 255,) * 3, (-1.0,) * 3, "rgb").noise(3))


def test_cmyk_keeps_its_colours(tmp_path: Path) -> None:
    gradient().convert("CMYK").save(tmp_path / "a.jpg", quality=98)
    with Image.open(tmp_path / "a.jpg") as stored:
        assert stored.mode == "CMYK"
    found = images.decode(tmp_path / "a.jpg")
    assert found.mode == "RGB"
    np.testing.assert_allclose(np.asarray(found, int), np.asarray(gradient(), int), atol=12)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_greyscale_becomes_three_equal_channels(tmp_path: Path, name: str) -> None:
    grey = gradient().convert("L")
    grey.save(tmp_path / name, quality=98)
    found = np.asarray(images.decode(tmp_path / name), int)
    assert found.shape == (32, 48, 3)
    np.testing.assert_allclose(found, np.asarray(grey, int)[..., None].repeat(3, axis=2), atol=4)


def test_sixteen_bit_greyscale_keeps_its_tones(tmp_path: Path) -> None:
    deep = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    found = np.asarray(images.decode(tmp_path / "a.png"), int)
    np.testing.assert_allclose(found[..., 0], deep / 257, atol=1)


@pytest.mark.parametrize("mode", ["1", "LA", "P", "RGBA"])
def test_other_modes_become_rgb(photo: Photo, tmp_path: Path, mode: str) -> None:
    found = images.decode(photo(tmp_path / "a.png", mode=mode))
    assert (found.mode, found.size) == ("RGB", (24, 16))


def test_a_truncated_jpeg_is_named(photo: Photo, tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(PipelineError) as caught:
        images.decode(path)
    assert str(caught.value).startswith(f"{path} cannot be read as an image (")
    assert "truncated" in str(caught.value)
    assert str(caught.value).endswith("): replace or remove it")


@pytest.mark.parametrize("content", [b"", b"<html>404</html>"])
def test_a_file_that_is_no_image_says_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(
        PipelineError, match=r"a\.jpg cannot be read as an image \(not an image\): replace or remove it"
    ):
        images.decode(tmp_path / "a.jpg")


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"there is no file .*a\.jpg: correct the path"):
        images.decode(tmp_path / "a.jpg")


def test_an_image_that_unpacks_to_far_too_much_is_refused(
    photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(PipelineError, match=r"could be decompression bomb.*: replace or remove it"):
        images.decode(photo(tmp_path / "a.png"))


def test_image_files_are_found_in_a_stable_order(photo: Photo, tmp_path: Path) -> None:
    for name in ("b/2.PNG", "b/10.jpg", "a.jpeg", "c.webp", "d.bmp"):
        photo(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder.jpg").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in images.files(tmp_path)]
    assert found == ["a.jpeg", "b/10.jpg", "b/2.PNG", "c.webp", "d.bmp"]


@pytest.mark.parametrize("size", [(40, 20), (20, 40)])
def test_the_crop_is_central_and_square(size: tuple[int, int]) -> None:
    width, height = size
    image = Image.new("RGB", size, (255, 0, 0))
    image.paste((0, 0, 255), ((width - 20) // 2, (height - 20) // 2, (width + 20) // 2, (height + 20) // 2))
    found = PLAIN.apply(image)
    assert found.shape == (8, 8, 3)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.broadcast_to(np.float32([0, 0, 255]), (8, 8, 3)))


@pytest.mark.parametrize("size", [(33, 21), (21, 33), (8, 9), (1, 7), (3, 2)])
def test_a_crop_of_any_size_lies_inside_the_image(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (10, 20, 30))
    found = Preprocessing(8, 8, "crop", 0.875, (1.0,) * 3, (0.0,) * 3, "rgb").apply(image)
    np.testing.assert_array_equal(found, np.broadcast_to(np.float32([10, 20, 30]), (8, 8, 3)))


@pytest.mark.parametrize("fraction", [0.875, 0.9, 1.0, 1 / 3])
def test_a_square_crop_is_what_it_always_was(fraction: float) -> None:
    prepared = Preprocessing(16, 16, "crop", fraction, (1.0,) * 3, (0.0,) * 3, "rgb")
    for width, height in ((33, 21), (21, 33), (40, 40), (17, 16), (101, 64), (8, 9)):
        pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
        image = Image.fromarray(pixels)
        side = round(min(image.size) * fraction)
        left, top = (width - side + 1) // 2, (height - side + 1) // 2
        box = image.crop((left, top, left + side, top + side))
        expected = box if side == 16 else box.resize((16, 16), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(prepared.pixels(image), np.asarray(expected))


def test_the_crop_fraction_leaves_the_border_out() -> None:
    image = Image.new("RGB", (32, 32), (255, 0, 0))
    image.paste((0, 255, 0), (8, 8, 24, 24))
    half = Preprocessing(8, 8, "crop", 0.5, (1.0,) * 3, (0.0,) * 3, "rgb")
    assert half.apply(image)[..., 0].max() == 0
    assert PLAIN.apply(image)[0, 0].tolist() == [255, 0, 0]


def test_height_and_width_are_not_mixed_up() -> None:
    assert Preprocessing(4, 6, "crop", 1.0, (1.0,) * 3, (0.0,) * 3, "rgb").apply(gradient()).shape == (4, 6, 3)


def test_an_image_of_one_pixel_works() -> None:
    found = PLAIN.apply(Image.new("RGB", (1, 1), (1, 2, 3)))
    np.testing.assert_array_equal(found[7, 7], [1, 2, 3])


def test_scale_and_offset_are_per_channel_and_in_the_order_of_the_output() -> None:
    pixels = np.array([[[10, 20, 30]]], np.uint8)
    rgb = Preprocessing(1, 1, "crop", 1.0, (1.0, 2.0, 3.0), (0.5, 0.0, -1.0), "rgb")
    bgr = Preprocessing(1, 1, "crop", 1.0, (1.0, 2.0, 3.0), (0.5, 0.0, -1.0), "bgr")
    np.testing.assert_allclose(rgb.normalise(pixels)[0, 0], [10.5, 40, 89])
    np.testing.assert_allclose(bgr.normalise(pixels)[0, 0], [30.5, 40, 29])
    assert bgr.normalise(pixels).flags.c_contiguous
    assert bgr.normalise(pixels).dtype == np.float32


def test_preprocessing_survives_json() -> None:
    before = Preprocessing(3, 4, "crop", 0.875, (1 / 127.5, 0.1, 0.2), (-1.0, 0.0, 1.0), "bgr")
    assert Preprocessing.from_json(json.loads(json.dumps(asdict(before)))) == before


def test_batches_keep_the_order_and_the_last_one_is_ragged(photo: Photo, tmp_path: Path) -> None:
    paths = [photo(tmp_path / f"{i}.png", seed=i) for i in range(7)]
    found = list(images.batches(paths, PLAIN, 3))
    assert [len(batch) for batch in found] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(found), np.stack([images.load(path, PLAIN) for path in paths]))


def test_no_images_make_no_batches() -> None:
    assert list(images.batches([], PLAIN, 3)) == []


def test_decoding_runs_ahead_by_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Path] = []

    def load(path: Path, _: Preprocessing) -> images.Floats:
        started.append(path)
        return np.zeros((8, 8, 3), np.float32)

    monkeypatch.setattr(images, "load", load)
    batches = images.batches([Path(str(i)) for i in range(100)], PLAIN, 4)
    for consumed in range(1, 6):
        next(batches)
        assert len(started) <= (consumed + 2) * 4
    batches.close()  # type: ignore[attr-defined]
    assert len(started) <= 28


def test_a_bad_image_among_many_is_named(photo: Photo, tmp_path: Path) -> None:
    paths = [photo(tmp_path / f"{i}.png", seed=i) for i in range(5)]
    paths[3].write_bytes(b"no image")
    with pytest.raises(PipelineError, match=r"3\.png cannot be read as an image"):
        list(images.batches(paths, PLAIN, 2))
