"""The images of data/train: a share of each class set apart to validate, and both as tf.data."""

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stages.contracts import codec, labels
from stages.contracts.images import IMAGES, TABLE, TRAINING, ImagesRecord
from stages.contracts.preprocessing import Pixels, Preprocessing
from stages.core import files
from stages.core.errors import PipelineError
from stages.data import decode, split
from stages.data.fit import pixels
from stages.data.image_file import ImageFile

if TYPE_CHECKING:
    from tensorflow import Tensor
    from tensorflow.data import Dataset

# A decoded data set this large stays in memory from one epoch to the next.
MOST_CACHED_BYTES = 2 << 30


class Sets(NamedTuple):
    """What is learned from, and what chooses the best epoch."""

    train: list[ImageFile]
    validation: list[ImageFile]
    classes: int


def read(validation: float, seed: int) -> Sets:
    """The training images, the share `validation` of each class set apart; near duplicates are on one side.

    What is set apart is the same for each of train.seeds: their losses are compared. `seed` is split.seed.
    """
    rows = [row for _, row in files.read_csv(TRAINING / TABLE, "file", "label", "group")]
    if not rows:
        raise _nothing()
    images = [ImageFile(TRAINING / row["file"], row["file"], int(row["label"])) for row in rows]
    groups = [int(row["group"]) for row in rows]
    try:
        sides = split.divide(images, groups, validation, seed)
    except PipelineError as error:
        raise PipelineError(
            f"train.validation: {error}", code=error.code, **{"key": "train.validation"} | error.values
        ) from None
    return Sets(*sides, len(labels.read()))


def _nothing() -> PipelineError:
    """What `images` says of a set that it could not make."""
    train = codec.read(ImagesRecord, IMAGES).train
    reason = train and train.failed
    return PipelineError(f"there is nothing to train on; {reason}", code="no-training-images", key="train.source")


def batches(
    tf: ModuleType, images: Sequence[ImageFile], prepared: Preprocessing, batch_size: int, shuffled: bool
) -> "Dataset":
    """tf.data of pixels [n, height, width, channels] and classes [n], decoded ahead, and once if they fit."""

    def example(index: "Tensor", label: "Tensor") -> tuple["Tensor", "Tensor"]:
        seen = tf.numpy_function(decoded, [index], prepared.pixel_type, stateful=False)
        return tf.ensure_shape(seen, prepared.shape), label

    def decoded(index: int) -> Pixels:
        return pixels(decode.decode(images[index].path, upright=prepared.orientation), prepared)

    classes = np.array([image.label for image in images], np.int64)
    data = tf.data.Dataset.from_tensor_slices((np.arange(len(images)), classes))
    fits = len(images) * prepared.bytes_per_image <= MOST_CACHED_BYTES
    data = data.shuffle(len(images)) if shuffled and not fits else data  # of indices, which are small
    data = data.map(example, num_parallel_calls=tf.data.AUTOTUNE)
    if fits:
        data = data.cache()
        data = data.shuffle(len(images)) if shuffled else data
    return data.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def weights_by_class(images: Sequence[ImageFile], classes: int) -> dict[int, float]:
    """How much an image of each class counts, so that all classes count alike (scikit-learn's `balanced`)."""
    from sklearn.utils.class_weight import compute_class_weight

    numbers = np.array([image.label for image in images])
    present = np.unique(numbers)
    weights = dict(zip(present.tolist(), compute_class_weight("balanced", classes=present, y=numbers), strict=True))
    return {label: float(weights.get(label, 0)) for label in range(classes)}  # Keras wants one for each
