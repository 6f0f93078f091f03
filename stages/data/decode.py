"""Image files to RGB, upright or as it is stored, by Pillow."""

import io
import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageChops, UnidentifiedImageError

from ..core.errors import PipelineError

# How to undo each EXIF orientation. Pillow's exif_transpose also rewrites the other tags, and fails on odd ones.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What undoes them; the others undo themselves.
BACK = {Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270}
# Of the formats that Pillow reads by itself those whose files hold pictures; EPS is a program for Ghostscript. The
# first five are those that it knows without an import of all its plug-ins.
FORMATS = (
    *("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000", "DIB", "SGI", "ICO", "TGA", "PCX", "PSD"),
    *("DDS", "QOI"),
)
# Files so called should be images, and are told where they are damaged. HEIC cannot be read, but a folder of it should
# say so and not look empty.
SUFFIXES = frozenset(
    [
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp"),
        *(".avif", ".avifs", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc"),
        *(".sgi", ".rgb", ".rgba", ".bw", ".ico", ".tga", ".icb", ".vda", ".vst", ".pcx", ".psd", ".dds", ".qoi"),
        *(".heic", ".heif"),
    ]
)
# Formats that can be told by their first bytes; of others only the suffix tells.
MARKED = tuple(name for name in FORMATS if name not in {"TGA", "PCX"})
# The brands in its header.
HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
# From here on Pillow warns of a decompression bomb, and from twice as many on it refuses; `decode` refuses both.
MAX_PIXELS = 89_478_485
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def is_image(path: Path) -> bool:
    """Whether its first bytes say so, whatever its name."""
    try:
        with Image.open(path, formats=MARKED):
            return True
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


class Decoded(NamedTuple):
    """An RGB image, and whether its file has a tag that turns it."""

    image: Image.Image
    turned: bool


def decode(
    path: Path, formats: tuple[str, ...] = FORMATS, content: bytes | None = None, upright: bool = True
) -> Image.Image:
    """RGB image of a file of any of these formats, as its orientation tag says or, unless `upright`, as it is stored.

    Of an animation or of several pages it is the first. `content` is that of a file that lies elsewhere.
    PipelineError names a file that is none.
    """
    return read(path, formats, content, upright).image


def read(path: Path, formats: tuple[str, ...] = FORMATS, content: bytes | None = None, upright: bool = True) -> Decoded:
    """The same, with what its tag says."""
    try:
        if content is None and path.exists() and not path.is_file():
            raise ValueError("it is no regular file")  # a pipe would be waited for
        with Image.open(path if content is None else io.BytesIO(content), formats=formats) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(_too_large(image.width * image.height))
            found = _oriented(image, upright)
            # Adobe's JPEGs store CMYK inverted. Pillow takes every JPEG for one, but each of Adobe's says that it is.
            if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
                found = found._replace(image=ImageChops.invert(found.image))
        return found._replace(image=_rgb(found.image))
    except FileNotFoundError:
        raise PipelineError(
            f"there is no file {path}: correct the path", code="image-missing", file=str(path)
        ) from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PipelineError(
            f"{path} cannot be read as an image ({_reason(path, content, error)}): replace or remove it",
            code="image-unreadable",
            file=str(path),
        ) from None


def turns(path: Path) -> bool:
    """Whether the file has a tag that turns it."""
    with Image.open(path, formats=FORMATS) as image:
        return _turn(image) is not None


def _oriented(image: Image.Image, upright: bool) -> Decoded:
    # Loading turns a TIFF, which has no tag afterwards; a PNG's may lie behind its pixels.
    before = _turn(image) if image.format == "TIFF" else None
    image.load()
    turn = _turn(image)
    needed = turn if upright else BACK.get(before, before) if before is not None else None
    return Decoded(image.copy() if needed is None else image.transpose(needed), turn is not None or before is not None)


def _turn(image: Image.Image) -> Image.Transpose | None:
    return TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("its pixels are fractions without a known black and white: save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        # 16 bits per pixel, or in older versions of Pillow 32: it would cut off all above 255.
        pixels = np.asarray(image)
        if pixels.min() < 0 or pixels.max() >= 1 << 16:
            raise ValueError("its pixels have 32 bits: save it with 8 or 16")
        image = Image.fromarray((pixels >> 8).astype(np.uint8))
    # Transparency is dropped and not laid on a colour, as Keras, torchvision and tf.io.decode_image(channels=3) do it:
    # a model has seen in its training what lies below. Pillow would warn where it drops some kinds.
    image.info.pop("transparency", None)
    return image if image.mode == "RGB" else image.convert("RGB")


def _too_large(pixels: int) -> str:
    return f"it has {pixels:,} pixels, and at most {MAX_PIXELS:,} are read, lest a small file unpack to any number"


def _reason(path: Path, content: bytes | None, error: Exception) -> object:
    if isinstance(error, Image.DecompressionBombError):
        return _too_large(int(re.findall(r"\d+", str(error))[0]))
    if not isinstance(error, UnidentifiedImageError):
        return error
    with path.open("rb") if content is None else io.BytesIO(content) as file:
        start = file.read(12)
    if start[4:8] == b"ftyp" and start[8:12] in HEIC:
        return "it is HEIC, which phones write and Pillow does not read: save it as JPEG or PNG"
    return "not an image" if start else "the file is empty"
