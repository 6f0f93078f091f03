"""Networks to train: a small one from scratch, or a new last layer on a model of the zoo, and how images are varied."""

from types import ModuleType
from typing import TYPE_CHECKING

from stages.params.training import AugmentParams

if TYPE_CHECKING:
    from keras import Model as Network
    from keras.layers import Layer
    from tensorflow import Tensor

# The small network: two convolutions of so many filters, twice as many (at most LARGEST) after each halving of the
# image, until its shorter side is this small.
FILTERS, LARGEST, SIDE = 16, 128, 7
DROPOUT = 0.3
BACKBONE = "backbone"
# Of the statistics that batch normalisation keeps: Keras's 0.99 takes longer to settle than a small data set lasts.
MOMENTUM = 0.9


def small(tf: ModuleType, shape: tuple[int, int, int], classes: int) -> "Network":
    """Keras model: float32 [n, *shape] to probabilities [n, classes], in the manner of VGG with batch normalisation."""
    layers = tf.keras.layers
    images = x = layers.Input(shape)
    filters, side = FILTERS, min(shape[:2])
    while True:
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization(momentum=MOMENTUM)(x))
        if side <= SIDE:
            break
        x = layers.MaxPool2D()(x)
        filters, side = min(2 * filters, LARGEST), side // 2
    return tf.keras.Model(images, _head(tf, layers.GlobalAveragePooling2D()(x), classes))


def on_backbone(tf: ModuleType, backbone: "Network", classes: int) -> "Network":
    """The backbone up to its last layer with weights, and a new one in its place; `backbone` is a part by itself.

    Its batch normalisation runs as in inference, and so keeps the statistics that it was pretrained with.
    """
    layers = tf.keras.layers
    last = next(layer for layer in reversed(backbone.layers) if layer.weights)
    features = tf.keras.Model(backbone.input, last.input, name=BACKBONE)
    images = layers.Input(backbone.input_shape[1:])
    x = features(images)
    x = layers.GlobalAveragePooling2D()(x) if len(x.shape) == 4 else x
    network = tf.keras.Model(images, _head(tf, x, classes))
    learning(tf, network, True)
    return network


def learning(tf: ModuleType, network: "Network", backbone: bool) -> None:
    """Whether the backbone learns, if there is one."""
    for part in network.layers:
        if part.name == BACKBONE:
            part.trainable = backbone
            for layer in part._flatten_layers():
                if isinstance(layer, tf.keras.layers.BatchNormalization):
                    _hold_statistics(layer, backbone)


def _hold_statistics(norm: "Layer", learns: bool) -> None:
    """Have batch normalisation run as in inference, as Keras does where it is not trainable; its factors may learn."""
    norm.trainable = False
    for factor in (norm.gamma, norm.beta):
        if factor is not None:
            factor.trainable = learns


def _head(tf: ModuleType, features: "Tensor", classes: int) -> "Tensor":
    dropped = tf.keras.layers.Dropout(DROPOUT)(features)
    return tf.keras.layers.Dense(classes, "softmax")(dropped)


def augmentation(tf: ModuleType, setting: AugmentParams) -> "Network":
    """Keras layers that vary pixels [n, height, width, channels] while training, and do nothing otherwise."""
    layers, empty = tf.keras.layers, {"fill_mode": "constant"}
    turn = setting.rotate_degrees / 360
    varied = [layers.RandomFlip("horizontal")] if setting.flip else []
    varied += [layers.RandomRotation(turn, **empty)] if turn else []
    varied += [layers.RandomTranslation(setting.shift, setting.shift, **empty)] if setting.shift else []
    varied += [layers.RandomZoom(setting.zoom, **empty)] if setting.zoom else []
    return tf.keras.Sequential(varied or [layers.Activation("linear")])
