"""Trains a Keras network on images: what the stages `train` and `qat` share.

Knows nothing of where a network comes from or what becomes of it.
"""

import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.contracts.preprocessing import Preprocessing
from stages.contracts.training import Run
from stages.core.errors import PipelineError
from stages.params.training import AugmentParams, TrainParams
from stages.training import dataset, networks
from stages.training.curves import COLUMNS, Epoch
from stages.training.dataset import Sets

if TYPE_CHECKING:
    from keras import Model as Network
    from tensorflow import Tensor, Variable

# What a network makes of prepared images, while training or not.
Answer = Callable[["Tensor", bool], "Tensor"]
# Share of the steps in which the learning rate rises.
WARM_UP = 0.1


def trainee(
    tf: ModuleType,
    network: "Network",
    answer: Answer,
    prepared: Preprocessing,
    augment: AugmentParams,
) -> "Network":
    """Keras model from pixels to probabilities: the network learns from images that vary, and is kept without.

    `answer` turns prepared images into probabilities.
    """
    varied = networks.augmentation(tf, augment)

    base: type = tf.keras.Model

    class Trainee(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network  # what Keras finds variables in

        def call(self, pixels: "Tensor", training: bool = False) -> "Tensor":
            images = varied(tf.cast(pixels, tf.float32), training=training)
            ordered = tf.reverse(images, [-1]) if prepared.channels == "bgr" else images
            return answer(ordered * prepared.scale + prepared.offset, bool(training))

    return Trainee()


class Best:
    """The curve of a training, and the weights after its best epoch.

    Keras's EarlyStopping would restore them only where it stops, and of the last phase alone.
    """

    def __init__(self, variables: Sequence["Variable"], block: str = "train") -> None:
        """Keep these variables; `block` of params.yaml says how they are trained."""
        self.curve: list[Epoch] = []
        self._variables, self._values, self._block = variables, list[Any](), block

    @property
    def next_epoch(self) -> float:
        """The number of the epoch that comes."""
        return self.curve[-1]["epoch"] + 1 if self.curve else 1

    @property
    def epoch(self) -> Epoch:
        """The best one, by the loss on the validation images."""
        return min(self.curve, key=lambda epoch: epoch["val_loss"])

    def run(self, seed: int, seconds: float) -> Run:
        """The record of this training."""
        best = self.epoch
        return Run(seed, int(best["epoch"]), best["val_loss"], best["val_accuracy"], seconds)

    def note(self, epoch: Epoch) -> None:
        """The end of an epoch; PipelineError if it learned nothing that is a number."""
        values = [variable.numpy() for variable in self._variables]
        # The loss alone does not tell: pooling passes over what is no number.
        if not all(np.isfinite(value).all() for value in (epoch.get("loss", 0), epoch["val_loss"], *values)):
            raise PipelineError(
                f"after epoch {epoch['epoch']} the loss or a weight is not finite: lower {self._block}.learning_rate, "
                "or check custom.scale, mean and std",
                code="training-not-finite",
                key=f"{self._block}.learning_rate",
                epoch=epoch["epoch"],
            )
        self.curve.append(epoch)
        if epoch is self.epoch:
            self._values = values

    def restore(self) -> None:
        """Give the variables the values of the best epoch."""
        for variable, value in zip(self._variables, self._values, strict=True):
            variable.assign(value)


def fit(
    tf: ModuleType, model: "Network", sets: Sets, prepared: Preprocessing, setting: TrainParams, best: Best
) -> None:
    """One phase, with epochs and learning_rate of its own in `setting`; `best` keeps its curve and the weights."""
    from tqdm.keras import TqdmCallback

    train = dataset.batches(tf, sets.train, prepared, setting.batch_size, shuffled=True)
    steps = setting.epochs * len(train)
    schedule = tf.keras.optimizers.schedules.CosineDecay(
        0.0, (1 - WARM_UP) * steps, warmup_target=setting.learning_rate, warmup_steps=WARM_UP * steps
    )
    model.compile(tf.keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(
        train,
        validation_data=dataset.batches(tf, sets.validation, prepared, setting.batch_size, shuffled=False),
        epochs=setting.epochs,
        shuffle=False,  # the images are, before they come in batches
        class_weight=dataset.weights_by_class(sets.train, sets.classes) if setting.class_weights else None,
        callbacks=[
            # Its own way to restore the best weights does nothing where training runs to its last epoch.
            tf.keras.callbacks.EarlyStopping("val_loss", patience=setting.patience),
            tf.keras.callbacks.LambdaCallback(on_epoch_end=_noting(best, schedule, len(train))),
            TqdmCallback(verbose=0, leave=False, disable=None),
        ],
        verbose=0,
    )


def _noting(best: Best, schedule: Callable[[int], float], steps: int) -> Callable[[int, dict[str, float]], None]:
    """Notes the end of each epoch of so many steps, with the learning rate there and the seconds that it took."""
    start_s = time.perf_counter()

    def note(epoch: int, logs: dict[str, float]) -> None:
        nonlocal start_s
        end_s = time.perf_counter()
        own = {"epoch": best.next_epoch, "learning_rate": float(schedule((epoch + 1) * steps))}
        best.note(own | {"epoch_s": end_s - start_s} | {name: float(logs[name]) for name in COLUMNS if name in logs})
        start_s = end_s

    return note
