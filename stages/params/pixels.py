"""What makes pixels of an image: presets for what people trained with, and what is left open."""

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from stages.contracts.preprocessing import Library, Method, Resize

Preset = Literal[
    "load_img",
    "image_dataset_from_directory",
    "image_dataset_from_directory_crop",
    "torchvision",
    "tf.image.resize",
    "opencv",
]
# A value for all channels, or one for each.
Values = tuple[float, ...]
# What each library does where nothing else is asked of it.
USUAL_METHOD: dict[Library, Method] = {"pillow": "bicubic", "tensorflow": "bilinear", "opencv": "bilinear"}
CROP_FRACTION = 0.875


class Seen(NamedTuple):
    """What a model sees of an image; all as in Preprocessing."""

    resize: Resize
    crop_fraction: float
    method: Method
    antialias: bool
    library: Library
    resize_side: int | None
    orientation: bool


class Scaling(NamedTuple):
    """A pixel becomes (pixel * scale - mean) / std; None: as the model itself says."""

    scale: Values | None
    mean: Values | None
    std: Values | None


class Given(NamedTuple):
    """The same as in Seen, where None stands for what is left open."""

    resize: Resize | None = None
    crop_fraction: float | None = None
    method: Method | None = None
    antialias: bool | None = None
    library: Library | None = None
    resize_side: int | None = None
    orientation: bool | None = None

    @property
    def seen(self) -> Seen:
        """With what is usual where nothing is said."""
        library = self.library or "pillow"
        method = self.method or USUAL_METHOD[library]
        growing = library == "pillow" if self.antialias is None else self.antialias
        return Seen(
            self.resize or "crop",
            self.crop_fraction or CROP_FRACTION,
            method,
            method == "area" or (growing and method != "nearest"),
            library,
            self.resize_side,
            self.orientation is not False,
        )

    def over(self, preset: "Given") -> "Given":
        """What is given here, and else there."""
        return preset._replace(**{key: value for key, value in self._asdict().items() if value is not None})


TENSORFLOW = Given("stretch", method="bilinear", antialias=False, library="tensorflow", orientation=False)
# By preset what it fixes.
PRESETS: Mapping[Preset, Given] = {
    "load_img": Given("stretch", method="nearest", library="pillow", orientation=False),
    "image_dataset_from_directory": TENSORFLOW,
    "image_dataset_from_directory_crop": TENSORFLOW._replace(resize="crop", crop_fraction=1.0),
    "torchvision": Given("resize-crop", CROP_FRACTION, "bilinear", antialias=True, library="pillow", orientation=False),
    "tf.image.resize": TENSORFLOW,
    # cv2.imread turns an image as its tag says.
    "opencv": Given("stretch", method="bilinear", antialias=False, library="opencv", orientation=True),
}
# By preset what a key of the same name replaces: these are parameters there, too.
SCALINGS: Mapping[Preset, Scaling] = {"torchvision": Scaling((1 / 255,), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}


def contradicted(given: Given, preset: Preset) -> Iterator[tuple[str, object]]:
    """The keys that are set to something else than the preset fixes, and what it fixes."""
    for key, here, there in zip(Given._fields, given, PRESETS[preset], strict=True):
        if None not in (here, there) and here != there:
            yield key, there


def impossible(given: Given) -> tuple[str, str] | None:
    """The key that asks a library for what it does not have, and why; None where all is possible."""
    seen = given.seen
    if seen.method == "nearest" and given.antialias:
        return "antialias", "nearest takes single pixels, which antialiasing would mix"
    if seen.library == "opencv" and given.antialias and seen.method != "area":
        return "antialias", "OpenCV averages with the method area alone"
    if seen.library == "pillow" and seen.method == "lanczos" and not seen.antialias:
        return "antialias", "Pillow has lanczos with antialiasing alone"
    if seen.method == "area" and given.antialias is False:
        return "antialias", "area is an average"
    if given.resize_side is not None and seen.resize != "resize-crop":
        return "resize_side", "only resize-crop resizes the shorter side"
    if given.crop_fraction not in (None, 1) and seen.resize in ("stretch", "pad"):
        return "crop_fraction", f"{seen.resize} takes the whole image"
    return None
