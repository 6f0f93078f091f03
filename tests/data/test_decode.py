import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image, ImageChops

from stages.contracts.preprocessing import Floats, Preprocessing
from stages.data import batches, decode, fit
from tests.fixtures.errors import named, refused

Photos = Callable[..., Path]
ROOT = Path(__file__).parents[2]
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


STORED_AS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("orientation", STORED_AS)
def test_exif_rotation_is_undone(tmp_path: Path, orientation: int, name: str) -> None:
    turn = STORED_AS[orientation]
    stored = gradient() if turn is None else gradient().transpose(turn)
    stored.save(tmp_path / name, exif=exif(orientation), quality=98)
    found = decode.decode(tmp_path / name)
    assert found.size == (48, 32)
    np.testing.assert_allclose(np.asarray(found, int), np.asarray(gradient(), int), atol=12)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("orientation", STORED_AS)
def test_an_image_may_be_taken_as_it_is_stored(tmp_path: Path, orientation: int, name: str) -> None:
    gradient().save(tmp_path / name, exif=exif(orientation), quality=98)
    found = decode.read(tmp_path / name, upright=False)
    assert found.turned == (orientation != 1)
    np.testing.assert_allclose(np.asarray(found.image, int), np.asarray(gradient(), int), atol=12)
    prepared = Preprocessing(32, 48, "stretch", 1.0, (1.0,) * 3, (0.0,) * 3, "rgb", orientation=False)
    np.testing.assert_allclose(batches.load(tmp_path / name, prepared), np.asarray(gradient(), int), atol=12)


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
    assert decode.decode(tmp_path / "a.jpg").size == (6, 8)


def test_noise_is_the_same_each_time_and_as_the_model_takes_it() -> None:
    found = Preprocessing(4, 6, "crop", 1.0, (2 / 255,) * 3, (-1.0,) * 3, "rgb").noise(3)
    assert (found.shape, found.dtype) == ((3, 4, 6, 3), np.float32)
    assert -1 <= found.min() < -0.9 < 0.9 < found.max() <= 1
    np.testing.assert_array_equal(found, Preprocessing(4, 6, "crop", 1.0, (2 / 255,) * 3, (-1.0,) * 3, "rgb").noise(3))


def segment(content: bytes, marker: int) -> bytes:
    """The first segment of a JPEG with this marker."""
    place = 2
    while content[place + 1] != marker:
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return content[place : place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")]


@pytest.mark.parametrize("adobe", [True, False], ids=["Adobe's, inverted", "as it is"])
def test_cmyk_keeps_its_colours(tmp_path: Path, adobe: bool) -> None:
    stored = gradient().convert("CMYK")
    path = tmp_path / "a.jpg"
    # Pillow inverts what it saves, and says so as Adobe does.
    (stored if adobe else ImageChops.invert(stored)).save(path, quality=98)
    if not adobe:
        path.write_bytes(path.read_bytes().replace(segment(path.read_bytes(), 0xEE), b""))
    with Image.open(path) as found:
        assert (found.mode, "adobe" in found.info) == ("CMYK", adobe)
    np.testing.assert_allclose(np.asarray(decode.decode(path), int), np.asarray(gradient(), int), atol=12)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_greyscale_becomes_three_equal_channels(tmp_path: Path, name: str) -> None:
    grey = gradient().convert("L")
    grey.save(tmp_path / name, quality=98)
    found = np.asarray(decode.decode(tmp_path / name), int)
    assert found.shape == (32, 48, 3)
    np.testing.assert_allclose(found, np.asarray(grey, int)[..., None].repeat(3, axis=2), atol=4)


def test_sixteen_bit_greyscale_keeps_its_tones(tmp_path: Path) -> None:
    deep = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    found = np.asarray(decode.decode(tmp_path / "a.png"), int)
    np.testing.assert_allclose(found[..., 0], deep / 257, atol=1)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_sixteen_bit_colour_keeps_its_tones(tmp_path: Path) -> None:
    deep = np.arange(16 * 16 * 3, dtype=np.uint16).reshape(16, 16, 3) * 85
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    header = struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    np.testing.assert_allclose(np.asarray(decode.decode(tmp_path / "a.png"), int), deep / 257, atol=1)


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.float32([[0, 0.5, 1]]), "fractions"),
        (np.int32([[0, 5, 70_000]]), "32 bits"),
        (np.int32([[0, 5, -1]]), "32 bits"),
    ],
    ids=["float", "beyond 16 bits", "negative"],
)
def test_pixels_whose_white_is_unknown_are_refused(tmp_path: Path, pixels: np.ndarray, reason: str) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    assert reason in refusal(tmp_path / "a.tif")


def test_sixteen_bits_in_thirty_two_keep_their_tones(tmp_path: Path) -> None:
    Image.fromarray(np.int32([[0, 32896, 65535]])).save(tmp_path / "a.tif")
    assert np.asarray(decode.decode(tmp_path / "a.tif"))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("mode", ["1", "LA", "P", "RGBA"])
def test_other_modes_become_rgb(photo: Photos, tmp_path: Path, mode: str) -> None:
    found = decode.decode(photo(tmp_path / "a.png", mode=mode))
    assert (found.mode, found.size) == ("RGB", (24, 16))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_the_colour_below_transparent_pixels_is_kept(tmp_path: Path, mode: str, name: str) -> None:
    image = Image.new("RGBA", (8, 8), (90, 90, 90, 0)).convert(mode)
    image.save(tmp_path / name, **({"lossless": True, "exact": True} if name == "a.webp" else {}))
    assert decode.decode(tmp_path / name).getpixel((3, 3)) == (90, 90, 90)


@pytest.mark.parametrize("transparency", [1, b"\xff\x00\x80"], ids=["one colour", "by degrees"])
@pytest.mark.filterwarnings("error")
def test_a_palette_with_transparency_keeps_its_colours(tmp_path: Path, transparency: int | bytes) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([0, 1, 2])
    image.save(tmp_path / "a.png", transparency=transparency)
    assert np.asarray(decode.decode(tmp_path / "a.png")).tolist() == [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]]


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif", "a.tiff"])
def test_of_an_animation_or_several_pages_the_first_is_taken(tmp_path: Path, name: str) -> None:
    first, second = (Image.new("RGB", (24, 16), colour) for colour in ((200, 30, 30), (30, 30, 200)))
    options = {"lossless": True} if name == "a.webp" else {}
    first.save(tmp_path / name, save_all=True, append_images=[second], **options)
    with Image.open(tmp_path / name) as stored:
        assert stored.n_frames == 2
    assert decode.decode(tmp_path / name).getpixel((5, 5)) == (200, 30, 30)
    assert batches.files(tmp_path) == [tmp_path / name]


def test_a_progressive_jpeg_is_read(tmp_path: Path) -> None:
    gradient().save(tmp_path / "a.jpg", progressive=True, quality=98)
    with Image.open(tmp_path / "a.jpg") as stored:
        assert stored.info["progressive"]
    np.testing.assert_allclose(np.asarray(decode.decode(tmp_path / "a.jpg"), int), np.asarray(gradient(), int), atol=12)


def refusal(path: Path) -> str:
    """What is said of an image that cannot be read."""
    error = refused(decode.decode, path)
    assert named(error, "file") == ("image-unreadable", str(path))
    assert "\n" not in str(error)
    return str(error)


def test_a_truncated_jpeg_is_named(photo: Photos, tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes()[:-200])
    assert "truncated" in refusal(path)


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"<html>404</html>", "not an image"),
        (b"a", "not an image"),
        (HEIC, "it is HEIC"),
    ],
    ids=["empty", "text", "one byte", "HEIC"],
)
@pytest.mark.parametrize("name", ["a.jpg", "a.heic"])
def test_a_file_that_is_no_image_says_what_it_is(tmp_path: Path, content: bytes, reason: str, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert f"({reason}" in refusal(tmp_path / name)
    assert batches.files(tmp_path) == [tmp_path / name]


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    assert named(refused(decode.decode, tmp_path / "a.jpg"), "file") == ("image-missing", str(tmp_path / "a.jpg"))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # pytest forgets what the module ignores
@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "image.jpg"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert "no regular file" in refusal(path)


@pytest.mark.parametrize("side", [9_460, 13_378], ids=["where Pillow warns", "where Pillow refuses"])
def test_an_image_that_unpacks_to_far_too_much_is_refused_without_a_warning(tmp_path: Path, side: int) -> None:
    path = tmp_path / "a.png"
    Image.new("1", (side, side)).save(path)
    assert path.stat().st_size < 100_000
    assert f"{side * side:,} pixels" in refusal(path)
    code = f"from pathlib import Path; from stages.data import decode; decode.decode(Path({str(path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "PipelineError" in done.stderr
    assert "Warning" not in done.stderr


def test_the_largest_image_that_is_read_is_read(tmp_path: Path) -> None:
    Image.new("1", (decode.MAX_PIXELS // 5, 5)).save(tmp_path / "a.png")
    assert decode.decode(tmp_path / "a.png").size == (decode.MAX_PIXELS // 5, 5)


def test_image_files_are_found_in_a_stable_order(photo: Photos, tmp_path: Path) -> None:
    for name in ("b/2.PNG", "b/10.jpg", "a.jpeg", "c.webp", "d.bmp"):
        photo(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder.jpg").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in batches.files(tmp_path)]
    assert found == ["a.jpeg", "b/10.jpg", "b/2.PNG", "c.webp", "d.bmp"]


@pytest.mark.parametrize("size", [(40, 20), (20, 40)])
def test_the_crop_is_central_and_square(size: tuple[int, int]) -> None:
    width, height = size
    image = Image.new("RGB", size, (255, 0, 0))
    image.paste((0, 0, 255), ((width - 20) // 2, (height - 20) // 2, (width + 20) // 2, (height + 20) // 2))
    found = fit.model_input(image, PLAIN)
    assert found.shape == (8, 8, 3)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.broadcast_to(np.float32([0, 0, 255]), (8, 8, 3)))


@pytest.mark.parametrize("size", [(33, 21), (21, 33), (8, 9), (1, 7), (3, 2)])
def test_a_crop_of_any_size_lies_inside_the_image(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (10, 20, 30))
    found = fit.model_input(image, Preprocessing(8, 8, "crop", 0.875, (1.0,) * 3, (0.0,) * 3, "rgb"))
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
        np.testing.assert_array_equal(fit.pixels(image, prepared), np.asarray(expected))


def test_the_crop_fraction_leaves_the_border_out() -> None:
    image = Image.new("RGB", (32, 32), (255, 0, 0))
    image.paste((0, 255, 0), (8, 8, 24, 24))
    half = Preprocessing(8, 8, "crop", 0.5, (1.0,) * 3, (0.0,) * 3, "rgb")
    assert fit.model_input(image, half)[..., 0].max() == 0
    assert fit.model_input(image, PLAIN)[0, 0].tolist() == [255, 0, 0]


def test_height_and_width_are_not_mixed_up() -> None:
    prepared = Preprocessing(4, 6, "crop", 1.0, (1.0,) * 3, (0.0,) * 3, "rgb")
    assert fit.model_input(gradient(), prepared).shape == (4, 6, 3)


def test_an_image_of_one_pixel_works() -> None:
    found = fit.model_input(Image.new("RGB", (1, 1), (1, 2, 3)), PLAIN)
    np.testing.assert_array_equal(found[7, 7], [1, 2, 3])


def test_scale_and_offset_are_per_channel_and_in_the_order_of_the_output() -> None:
    pixels = np.array([[[10, 20, 30]]], np.uint8)
    rgb = Preprocessing(1, 1, "crop", 1.0, (1.0, 2.0, 3.0), (0.5, 0.0, -1.0), "rgb")
    bgr = Preprocessing(1, 1, "crop", 1.0, (1.0, 2.0, 3.0), (0.5, 0.0, -1.0), "bgr")
    np.testing.assert_allclose(rgb.normalize(pixels)[0, 0], [10.5, 40, 89])
    np.testing.assert_allclose(bgr.normalize(pixels)[0, 0], [30.5, 40, 29])
    assert bgr.normalize(pixels).flags.c_contiguous
    assert bgr.normalize(pixels).dtype == np.float32


def test_preprocessing_survives_json() -> None:
    before = Preprocessing(3, 4, "crop", 0.875, (1 / 127.5, 0.1, 0.2), (-1.0, 0.0, 1.0), "bgr")
    assert msgspec.json.decode(msgspec.json.encode(before), type=Preprocessing) == before


def test_batches_keep_the_order_and_the_last_one_is_ragged(photo: Photos, tmp_path: Path) -> None:
    paths = [photo(tmp_path / f"{i}.png", seed=i) for i in range(7)]
    found = list(batches.batches(paths, PLAIN, 3))
    assert [len(batch) for batch in found] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(found), np.stack([batches.load(path, PLAIN) for path in paths]))


def test_no_images_make_no_batches() -> None:
    assert list(batches.batches([], PLAIN, 3)) == []


def test_decoding_runs_ahead_by_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Path] = []

    def load(path: Path, _: Preprocessing) -> Floats:
        started.append(path)
        return np.zeros((8, 8, 3), np.float32)

    monkeypatch.setattr(batches, "load", load)
    going = batches.batches([Path(str(i)) for i in range(100)], PLAIN, 4)
    for consumed in range(1, 6):
        next(going)
        assert len(started) <= (consumed + 2) * 4
    going.close()  # type: ignore[attr-defined]
    assert len(started) <= 28


def test_a_bad_image_among_many_is_named(photo: Photos, tmp_path: Path) -> None:
    paths = [photo(tmp_path / f"{i}.png", seed=i) for i in range(5)]
    paths[3].write_bytes(b"no image")
    assert named(refused(list, batches.batches(paths, PLAIN, 2)), "file") == ("image-unreadable", str(paths[3]))


@pytest.mark.parametrize(
    ("size", "box"),
    [((40, 20), (0, 2, 8, 6)), ((20, 40), (2, 0, 6, 8)), ((8, 8), (0, 0, 8, 8)), ((1000, 1), (0, 3, 8, 4))],
)
def test_padding_shows_the_whole_image_on_black(size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    prepared = Preprocessing(8, 8, "pad", 0.5, (1.0,) * 3, (0.0,) * 3, "rgb")
    found = fit.pixels(Image.new("RGB", size, (10, 20, 30)), prepared)
    expected = Image.new("RGB", (8, 8))
    expected.paste((10, 20, 30), box)
    np.testing.assert_array_equal(found, np.asarray(expected))


def test_stretching_shows_the_whole_image() -> None:
    prepared = Preprocessing(8, 6, "stretch", 0.5, (1.0,) * 3, (0.0,) * 3, "rgb")
    expected = gradient().resize((6, 8), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(fit.pixels(gradient(), prepared), np.asarray(expected))


@pytest.mark.parametrize(
    ("shape", "box"),
    [((8, 8), (8, 0, 40, 32)), ((4, 12), (0, 8, 48, 24)), ((16, 4), (20, 0, 28, 32)), ((2, 3), (0, 0, 48, 32))],
)
def test_a_crop_has_the_proportions_of_the_input(shape: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    prepared = Preprocessing(*shape, "crop", 1.0, (1.0,) * 3, (0.0,) * 3, "rgb")
    expected = gradient().crop(box).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(fit.pixels(gradient(), prepared), np.asarray(expected))


@pytest.mark.parametrize("resize", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 3)])
def test_an_image_of_any_size_fits_an_input_of_any_shape(resize: str, size: tuple[int, int]) -> None:
    for shape in ((1, 1), (5, 90), (90, 5)):
        prepared = Preprocessing(*shape, resize, 0.3, (1.0,) * 3, (0.0,) * 3, "rgb")
        assert fit.model_input(Image.new("RGB", size), prepared).shape == (*shape, 3)


def test_gray_is_one_channel_of_luminance() -> None:
    prepared = Preprocessing(4, 6, "stretch", 1.0, (0.5,), (-1.0,), "gray")
    found = fit.model_input(Image.new("RGB", (6, 4), (200, 100, 50)), prepared)
    assert found.shape == prepared.shape == (4, 6, 1)
    np.testing.assert_allclose(found, (0.299 * 200 + 0.587 * 100 + 0.114 * 50) / 2 - 1, atol=0.5)
    assert prepared.noise(2).shape == (2, 4, 6, 1)
