"""Writes reference/LIBRARY.npz: what a library itself makes of two photographs, to compare our own arithmetic with.

Run once, in an environment with these versions, from the root of the checkout:

    python -m tests.data.make_reference tensorflow    # tensorflow 2.14.1, pillow 12.3.0
    python -m tests.data.make_reference torchvision   # torchvision 0.20.1, torch 2.5.1, pillow 12.3.0
    python -m tests.data.make_reference opencv        # opencv-python-headless 4.10.0.84

Each also needs scikit-learn, whose package has the photographs, NumPy and msgspec.
"""

import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from stages.params.pixels import PRESETS, Given

FOLDER = Path(__file__).parent / "reference"
HEIGHT, WIDTH = 20, 24
PHOTOS = ("china", "flower")
ORIENTATION = 0x0112
METHODS = ("nearest", "bilinear", "bicubic", "lanczos", "area")
Pixels = npt.NDArray[Any]
# How a library makes pixels of a file.
Way = Callable[[Path], Pixels]


def photo(name: str) -> Image.Image:
    """One of scikit-learn's, of 640 x 427 pixels, or the middle of it, which has to grow."""
    package = find_spec("sklearn")
    assert package and package.origin
    name, _, part = name.partition(" ")
    image = Image.open(Path(package.origin).parent / "datasets" / "images" / f"{name}.jpg").convert("RGB")
    return image.crop((300, 200, 317, 213)) if part else image


def tag(orientation: int) -> Image.Exif:
    """EXIF data that says how an image was held."""
    found = Image.Exif()
    found[ORIENTATION] = orientation
    return found


def given(case: str) -> Given:
    """What custom would say of a case: a preset, or a library, a way and a method."""
    if case in PRESETS:
        return PRESETS[case]  # type: ignore[index]
    library, resize, method, growing = case.split("/")
    return Given(resize, 1.0, method, {"antialias": True, "plain": False}.get(growing), library, None, False)  # type: ignore[arg-type]


def tensorflow() -> dict[str, Way]:
    """tf.image and keras.utils."""
    import tensorflow as tf

    def read(path: Path) -> Any:
        return tf.io.decode_image(tf.io.read_file(str(path)), channels=3, expand_animations=False)

    def resized(method: str, antialias: bool) -> Way:
        named = {"lanczos": "lanczos3"}.get(method, method)
        return lambda path: tf.image.resize(read(path), (HEIGHT, WIDTH), named, antialias=antialias).numpy()

    def listed(path: Path, **options: Any) -> Pixels:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "a").mkdir()
            (Path(folder) / "a" / path.name).write_bytes(path.read_bytes())
            found = tf.keras.utils.image_dataset_from_directory(folder, image_size=(HEIGHT, WIDTH), **options)
            return next(iter(found))[0][0].numpy()

    def padded(path: Path) -> Pixels:
        return tf.image.resize_with_pad(read(path), HEIGHT, WIDTH).numpy()

    def loaded(method: str) -> Way:
        load = tf.keras.utils.load_img
        return lambda path: np.asarray(load(path, target_size=(HEIGHT, WIDTH), interpolation=method))

    plain = {f"tensorflow/stretch/{method}/plain": resized(method, False) for method in METHODS if method != "area"}
    smooth = {f"tensorflow/stretch/{method}/antialias": resized(method, True) for method in METHODS[1:4]}
    return (
        plain
        | smooth
        | {
            "tensorflow/stretch/area/": resized("area", False),
            "tensorflow/pad/bilinear/plain": padded,
            "tf.image.resize": resized("bilinear", False),
            "image_dataset_from_directory": listed,
            "image_dataset_from_directory_crop": lambda path: listed(path, crop_to_aspect_ratio=True),
            "load_img": loaded("nearest"),
            **{f"pillow/stretch/{method}/antialias": loaded(method) for method in METHODS[1:4]},
            "pillow/stretch/area/": loaded("box"),
        }
    )


def torchvision() -> dict[str, Way]:
    """Transforms of PIL images."""
    from torchvision import transforms
    from torchvision.datasets.folder import default_loader

    def classification(side: int, method: str) -> Way:
        resize = transforms.Resize(side, transforms.InterpolationMode(method))
        both = transforms.Compose([resize, transforms.CenterCrop((HEIGHT, WIDTH))])
        return lambda path: np.asarray(both(default_loader(str(path))))

    return {
        "torchvision": classification(int(HEIGHT / 0.875), "bilinear"),
        "pillow/resize-crop/bicubic/antialias": classification(HEIGHT, "bicubic"),
    }


def opencv() -> dict[str, Way]:
    """cv2.imread, turned to RGB, and cv2.resize."""
    import cv2

    flags = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4, cv2.INTER_AREA)

    def resized(flag: int) -> Way:
        def way(path: Path) -> Pixels:
            pixels = cv2.resize(cv2.imread(str(path)), (WIDTH, HEIGHT), interpolation=flag)
            return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)

        return way

    return {"opencv": resized(cv2.INTER_LINEAR)} | {
        f"opencv/stretch/{method}/": resized(flag) for method, flag in zip(METHODS, flags, strict=True)
    }


def main(library: str) -> None:
    """All photographs, each way; and one with a tag that turns it, by the ways that have a preset."""
    ways: dict[str, Way] = {"tensorflow": tensorflow, "torchvision": torchvision, "opencv": opencv}[library]()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in (*PHOTOS, "flower part"):
            photo(name).save(path := Path(folder) / "photo.png")
            found |= {f"{name}: {case}": way(path) for case, way in ways.items()}
        photo("china").save(path := Path(folder) / "turned.jpg", quality=95, exif=tag(6))
        found |= {f"turned: {case}": way(path) for case, way in ways.items() if case in PRESETS}
    FOLDER.mkdir(exist_ok=True)
    np.savez_compressed(FOLDER / f"{library}.npz", **found)


if __name__ == "__main__":
    main(sys.argv[1])
