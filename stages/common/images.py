"""Photographs to model input: decode, crop, resize, scale; several at once, a bounded number ahead."""

import io
import re
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageChops, UnidentifiedImageError

from stages.common.cores import cores
from stages.common.errors import PipelineError

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
# HEIC cannot be read, but a folder of it should say so and not look empty.
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".heic", ".heif"})
# The brands in its header.
HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
# From here on Pillow warns of a decompression bomb, and from twice as many on it refuses; `decode` refuses both.
MAX_PIXELS = 89_478_485
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes model input: cut or fitted to the shape, resized, then x * scale + offset by channel."""

    height: int
    width: int
    # crop: centred, of the shape's proportions, `crop_fraction` of the largest that fits. stretch: the whole image.
    # pad: the whole image in its own proportions, on black.
    resize: str
    crop_fraction: float
    # One value for each channel, in the order of `channels`: rgb, bgr, or gray for a single one.
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    channels: str

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Preprocessing":
        """The inverse of dataclasses.asdict after a trip through JSON."""
        return cls(**{**value, "scale": tuple(value["scale"]), "offset": tuple(value["offset"])})

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the model's input."""
        return self.height, self.width, len(self.scale)

    def apply(self, image: Image.Image) -> Floats:
        """Model input of one RGB image: float32 [height, width, channels]."""
        return self.normalise(self.pixels(image))

    def pixels(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """The part of an RGB image that the model sees, in its size: uint8 RGB or gray [height, width, channels]."""
        fitted = self._fitted(image.convert("L") if self.channels == "gray" else image)
        return np.asarray(fitted).reshape(self.shape)

    def _fitted(self, image: Image.Image) -> Image.Image:
        size = (self.width, self.height)
        if self.resize == "pad":
            return self._padded(image)
        box = self._crop(image) if self.resize == "crop" else image
        return box if box.size == size else box.resize(size, Image.Resampling.BICUBIC)

    def _padded(self, image: Image.Image) -> Image.Image:
        ratio = min(self.width / image.width, self.height / image.height)
        # ImageOps.pad fails on an image so long that it would have no width.
        inner = max(1, round(image.width * ratio)), max(1, round(image.height * ratio))
        page = Image.new(image.mode, (self.width, self.height))
        fitted = image if image.size == inner else image.resize(inner, Image.Resampling.BICUBIC)
        page.paste(fitted, ((self.width - inner[0]) // 2, (self.height - inner[1]) // 2))
        return page

    def _crop(self, image: Image.Image) -> Image.Image:
        if image.width * self.height <= image.height * self.width:
            across = image.width * self.crop_fraction
            down = across * (self.height / self.width)
        else:
            down = image.height * self.crop_fraction
            across = down * (self.width / self.height)
        width, height = max(1, round(across)), max(1, round(down))
        left, top = (image.width - width + 1) // 2, (image.height - height + 1) // 2
        return image.crop((left, top, left + width, top + height))

    def normalise(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        """Scale RGB or gray pixels [..., width, channels] in 0-255 to what the model was trained on."""
        ordered = pixels[..., ::-1] if self.channels == "bgr" else pixels
        # Whole rows at a time: NumPy is ten times slower on an inner dimension of 3.
        rows = ordered.reshape(*pixels.shape[:-2], -1)
        scale, offset = (np.array(values * pixels.shape[-2], np.float32) for values in (self.scale, self.offset))
        scaled: Floats = rows * scale
        scaled += offset
        return scaled.reshape(pixels.shape)

    def noise(self, count: int) -> Floats:
        """The same seeded pixels each time as so many model inputs, for where what they show does not matter."""
        return self.normalise(np.random.default_rng(0).integers(0, 256, (count, *self.shape), np.uint8))


def decode(path: Path, formats: tuple[str, ...] | None = None, content: bytes | None = None) -> Image.Image:
    """Upright RGB image, of any format that Pillow knows or of these; PipelineError names a file that is none.

    Of an animation or of several pages it is the first. `content` is that of a file that lies elsewhere.
    """
    try:
        with Image.open(path if content is None else io.BytesIO(content), formats=formats) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(_too_large(image.width * image.height))
            image.load()  # before its orientation is read: a TIFF is turned by this, and then has none
            turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
            upright = image.copy() if turn is None else image.transpose(turn)
            # Adobe's JPEGs store CMYK inverted. Pillow takes every JPEG for one, but each of Adobe's says that it is.
            if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
                upright = ImageChops.invert(upright)
        return _rgb(upright)
    except FileNotFoundError:
        raise PipelineError(f"there is no file {path}: correct the path") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PipelineError(
            f"{path} cannot be read as an image ({_reason(path, content, error)}): replace or remove it"
        ) from None


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


def files(folder: Path) -> list[Path]:
    """Every image file below `folder`, in a stable order."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def load(path: Path, preprocessing: Preprocessing) -> Floats:
    """One image file as model input."""
    return preprocessing.apply(decode(path))


def batches(paths: Sequence[Path], preprocessing: Preprocessing, size: int) -> Iterator[Floats]:
    """Model input [<= size, height, width, channels] in order; decoding runs ahead by at most two batches."""
    with ThreadPoolExecutor(cores()) as pool:
        ahead: deque[Future[Floats]] = deque()
        waiting = iter(paths)
        try:
            for start in range(0, len(paths), size):
                while len(ahead) < 3 * size and (path := next(waiting, None)) is not None:
                    ahead.append(pool.submit(load, path, preprocessing))
                yield np.stack([ahead.popleft().result() for _ in range(min(size, len(paths) - start))])
        finally:
            for future in ahead:
                future.cancel()
