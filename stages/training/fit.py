"""Trains a Keras network on the images of data/train: what the stages `train` and `qat` share.

Knows nothing of where a network comes from or what becomes of it.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stages.contracts import labels, paths
from stages.contracts.preprocessing import Preprocessing
from stages.core import files
from stages.core.errors import PipelineError
from stages.data import decode, split
from stages.data.fit import pixels
from stages.data.image_file import Photo
from stages.params.document import AugmentParams, Params, TrainParams
from stages.training import networks

COLUMNS = ("seed", "epoch", "learning_rate", "loss", "accuracy", "val_loss", "val_accuracy", "epoch_s")
# A decoded data set this large stays in memory from one epoch to the next.
MOST_CACHED_BYTES = 2 << 30
# Share of the steps in which the learning rate rises.
WARM_UP = 0.1


class Sets(NamedTuple):
    """What is learned from, and what chooses the best epoch."""

    train: list[Photo]
    validation: list[Photo]
    classes: int


def photographs(setting: Params) -> Sets:
    """The training images, a share of each class set apart; near duplicates are on one side.

    What is set apart is the same for each of train.seeds: their losses are compared.
    """
    rows = [row for _, row in files.read_csv(paths.TRAINING / "labels.csv", "file", "label", "group")]
    found = [Photo(paths.TRAINING / row["file"], row["file"], int(row["label"])) for row in rows]
    groups = [int(row["group"]) for row in rows]
    try:
        sides = split.divide(found, groups, setting.train.validation, setting.split.seed)
    except PipelineError as error:
        raise PipelineError(f"train.validation: {error}") from None
    return Sets(*sides, len(labels.read()))


def dataset(tf: Any, photos: Sequence[Photo], prepared: Preprocessing, batch_size: int, shuffled: bool) -> Any:
    """tf.data of uint8 pixels [n, height, width, channels] and classes [n], decoded ahead, and once if they fit."""

    def example(index: Any, label: Any) -> tuple[Any, Any]:
        seen = tf.numpy_function(decoded, [index], tf.uint8, stateful=False)
        return tf.ensure_shape(seen, prepared.shape), label

    def decoded(index: int) -> Any:
        return pixels(decode.decode(photos[index].path), prepared)

    classes = np.array([photo.label for photo in photos], np.int64)
    found = tf.data.Dataset.from_tensor_slices((np.arange(len(photos)), classes))
    fits = len(photos) * int(np.prod(prepared.shape)) <= MOST_CACHED_BYTES
    found = found.shuffle(len(photos)) if shuffled and not fits else found  # of indices, which are small
    found = found.map(example, num_parallel_calls=tf.data.AUTOTUNE)
    if fits:
        found = found.cache()
        found = found.shuffle(len(photos)) if shuffled else found
    return found.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def trainee(
    tf: Any, network: Any, answer: Callable[[Any, bool], Any], prepared: Preprocessing, augment: AugmentParams
) -> Any:
    """Keras model from uint8 pixels to probabilities: the network learns from images that vary, and is kept without.

    `answer` is how the network turns prepared images into probabilities, while training or not.
    """
    varied = networks.augmentation(tf, augment)

    class Trainee(tf.keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network  # what Keras finds variables in

        def call(self, pixels: Any, training: bool = False) -> Any:
            found = varied(tf.cast(pixels, tf.float32), training=training)
            ordered = tf.reverse(found, [-1]) if prepared.channels == "bgr" else found
            return answer(ordered * prepared.scale + prepared.offset, bool(training))

    return Trainee()


class Best:
    """The curve of a training, and the weights after its best epoch.

    Keras's EarlyStopping would restore them only where it stops, and of the last phase alone.
    """

    def __init__(self, variables: list[Any], block: str = "train") -> None:
        """Keep these variables; `block` of params.yaml says how they are trained."""
        self.curve: list[dict[str, float]] = []
        self._variables, self._values, self._block = variables, list[Any](), block

    @property
    def next_epoch(self) -> float:
        """The number of the epoch that comes."""
        return self.curve[-1]["epoch"] + 1 if self.curve else 1

    @property
    def row(self) -> dict[str, float]:
        """The best epoch, by the loss on the validation images."""
        return min(self.curve, key=lambda row: row["val_loss"])

    def summary(self) -> dict[str, float]:
        """The best epoch's figures under their names in a record."""
        best = self.row
        return {"best_epoch": int(best["epoch"])} | {f"best_{key}": best[key] for key in ("val_loss", "val_accuracy")}

    def note(self, row: dict[str, float]) -> None:
        """The end of an epoch; PipelineError if it learned nothing that is a number."""
        values = [variable.numpy() for variable in self._variables]
        # The loss alone does not tell: pooling passes over what is no number.
        if not all(np.isfinite(value).all() for value in (row.get("loss", 0), row["val_loss"], *values)):
            raise PipelineError(
                f"after epoch {row['epoch']} the loss or a weight is not finite: lower {self._block}.learning_rate, or "
                "check custom.scale, mean and std"
            )
        self.curve.append(row)
        if row is self.row:
            self._values = values

    def restore(self) -> None:
        """Give the variables the values of the best epoch."""
        for variable, value in zip(self._variables, self._values, strict=True):
            variable.assign(value)


def fit(tf: Any, model: Any, sets: Sets, prepared: Preprocessing, setting: TrainParams, best: Best) -> None:
    """One phase, with epochs and learning_rate of its own in `setting`; `best` keeps its curve and the weights."""
    from tqdm.keras import TqdmCallback

    lessons = dataset(tf, sets.train, prepared, setting.batch_size, shuffled=True)
    steps = setting.epochs * len(lessons)
    schedule = tf.keras.optimizers.schedules.CosineDecay(
        0.0, (1 - WARM_UP) * steps, warmup_target=setting.learning_rate, warmup_steps=WARM_UP * steps
    )
    model.compile(tf.keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy", ["accuracy"])
    start = [time.perf_counter()]

    def note(epoch: int, logs: dict[str, float]) -> None:
        start.append(time.perf_counter())
        own = {"epoch": best.next_epoch, "learning_rate": float(schedule((epoch + 1) * len(lessons)))}
        own["epoch_s"] = start[-1] - start[-2]
        best.note(own | {name: float(logs[name]) for name in COLUMNS if name in logs})

    model.fit(
        lessons,
        validation_data=dataset(tf, sets.validation, prepared, setting.batch_size, shuffled=False),
        epochs=setting.epochs,
        class_weight=weights_by_class(sets.train, sets.classes) if setting.class_weights else None,
        callbacks=[
            # Its own way to restore the best weights does nothing where training runs to its last epoch.
            tf.keras.callbacks.EarlyStopping("val_loss", patience=setting.patience),
            tf.keras.callbacks.LambdaCallback(on_epoch_end=note),
            TqdmCallback(verbose=0, leave=False, disable=None),
        ],
        verbose=0,
    )


def write_curves(rows: list[dict[str, Any]], target: Path) -> None:
    """One line for each epoch; what an epoch does not have stays empty."""
    files.write_csv(target, COLUMNS, [[row.get(name, "") for name in COLUMNS] for row in rows])


def read_curve(path: Path, seed: int) -> list[dict[str, float]]:
    """The epochs of one training of those that `write_curves` wrote, without what an epoch does not have."""
    rows = files.parse_csv(path, lambda row: {name: float(row[name]) for name in COLUMNS if row[name]}, "epochs")
    return [row for row in rows if row["seed"] == seed]


def weights_by_class(photos: Sequence[Photo], classes: int) -> dict[int, float]:
    """How much an image of each class counts, so that all classes count alike (scikit-learn's `balanced`)."""
    from sklearn.utils.class_weight import compute_class_weight

    found = np.array([photo.label for photo in photos])
    present = np.unique(found)
    weights = dict(zip(present.tolist(), compute_class_weight("balanced", classes=present, y=found), strict=True))
    return {label: float(weights.get(label, 0)) for label in range(classes)}  # Keras wants one for each
