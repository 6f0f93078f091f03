"""Train the user's model on labelled images, if model.path asks for it: a small network, or a model of the zoo."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stages.common import (
    classifiers,
    errors,
    files,
    images,
    isolate,
    keras_models,
    labels,
    networks,
    params,
    paths,
    zoo,
)
from stages.common.errors import PipelineError
from stages.common.images import Preprocessing
from stages.common.params import SMALL, Params, TrainParams
from stages.common.photos import Photo
from stages.common.tf import tensorflow

COLUMNS = ("seed", "epoch", "learning_rate", "loss", "accuracy", "val_loss", "val_accuracy", "epoch_s")
# A decoded data set this large stays in memory from one epoch to the next.
MOST_CACHED_BYTES = 2 << 30
# Share of the steps in which the learning rate rises, and how much lower it is where pretrained layers learn too.
WARM_UP, FINE_TUNING = 0.1, 0.1


class Sets(NamedTuple):
    """What is learned from, and what chooses the best epoch."""

    train: list[Photo]
    validation: list[Photo]


def photographs(setting: Params) -> Sets:
    """The training images, a share of each class set apart; near duplicates are on one side.

    What is set apart is the same for each of train.seeds: their losses are compared.
    """
    from stages.common import splits  # takes a second to import, and most pipelines train nothing

    rows = [row for _, row in files.read_csv(paths.TRAINING / "labels.csv", "file", "label", "group")]
    found = [Photo(paths.TRAINING / row["file"], row["file"], int(row["label"])) for row in rows]
    groups = [int(row["group"]) for row in rows]
    try:
        return Sets(*splits.divide(found, groups, setting.train.validation, setting.split.seed))
    except PipelineError as error:
        raise PipelineError(f"train.validation: {error}") from None


def network_for(tf: Any, setting: Params, classes: int) -> tuple[Any, Preprocessing]:
    """What is to be trained, and how its images are prepared: as the backbone was trained, or as `custom` says."""
    custom, name = setting.custom, setting.train.backbone
    if name == SMALL:
        height, width = custom.size or (0, 0)
        prepared = classifiers.preprocessing(height, width, custom.channels or "rgb", custom, 1 / 255)
        return networks.small(tf, prepared.shape, classes), prepared
    backbone = keras_models.build(tf, name, paths.WEIGHTS / f"weights{zoo.weights_suffix(name)}")
    own = asdict(keras_models.preprocessing(tf, name, backbone))
    prepared = Preprocessing(**own | {"resize": custom.resize, "crop_fraction": custom.crop_fraction})
    return networks.on_backbone(tf, backbone, classes), prepared


def dataset(tf: Any, photos: Sequence[Photo], prepared: Preprocessing, batch_size: int, shuffled: bool) -> Any:
    """tf.data of uint8 pixels [n, height, width, channels] and classes [n], decoded ahead, and once if they fit."""

    def example(index: Any, label: Any) -> tuple[Any, Any]:
        pixels = tf.numpy_function(decoded, [index], tf.uint8, stateful=False)
        return tf.ensure_shape(pixels, prepared.shape), label

    def decoded(index: int) -> Any:
        return prepared.pixels(images.decode(photos[index].path))

    classes = np.array([photo.label for photo in photos], np.int64)
    found = tf.data.Dataset.from_tensor_slices((np.arange(len(photos)), classes))
    fits = len(photos) * int(np.prod(prepared.shape)) <= MOST_CACHED_BYTES
    found = found.shuffle(len(photos)) if shuffled and not fits else found  # of indices, which are small
    found = found.map(example, num_parallel_calls=tf.data.AUTOTUNE)
    if fits:
        found = found.cache()
        found = found.shuffle(len(photos)) if shuffled else found
    return found.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def trainer(tf: Any, network: Any, prepared: Preprocessing, setting: TrainParams) -> Any:
    """The network with augmentation and normalisation before it: it learns from pixels, and is saved without them."""
    pixels = tf.keras.layers.Input(prepared.shape, dtype=tf.uint8)
    varied = networks.augmentation(tf, setting.augment)(tf.cast(pixels, tf.float32))
    ordered = tf.reverse(varied, [-1]) if prepared.channels == "bgr" else varied
    return tf.keras.Model(pixels, network(ordered * prepared.scale + prepared.offset))


def phases(setting: TrainParams) -> list[tuple[bool, int, float]]:
    """Whether a backbone learns, for how many epochs, and the highest learning rate."""
    if setting.backbone == SMALL:
        return [(True, setting.epochs, setting.learning_rate)]
    frozen = min(setting.frozen_epochs, setting.epochs)
    found = [
        (False, frozen, setting.learning_rate),
        (True, setting.epochs - frozen, FINE_TUNING * setting.learning_rate),
    ]
    return [phase for phase in found if phase[1]]


class Best:
    """The curve of a training, and the weights after its best epoch.

    Keras's EarlyStopping would restore them only where it stops, and of the last phase alone.
    """

    def __init__(self, variables: list[Any]) -> None:
        """Keep these variables."""
        self.curve: list[dict[str, float]] = []
        self._variables, self._values = variables, list[Any]()

    @property
    def row(self) -> dict[str, float]:
        """The best epoch, by the loss on the validation images."""
        return min(self.curve, key=lambda row: row["val_loss"])

    def note(self, row: dict[str, float]) -> None:
        """The end of an epoch; PipelineError if it learned nothing that is a number."""
        values = [variable.numpy() for variable in self._variables]
        # The loss alone does not tell: pooling passes over what is no number.
        if not all(np.isfinite(value).all() for value in (row["loss"], row["val_loss"], *values)):
            raise PipelineError(
                f"after epoch {row['epoch']} the loss or a weight is not finite: lower train.learning_rate, or check "
                "custom.scale, mean and std"
            )
        self.curve.append(row)
        if row is self.row:
            self._values = values

    def restore(self) -> None:
        """Give the variables the values of the best epoch."""
        for variable, value in zip(self._variables, self._values, strict=True):
            variable.assign(value)


def learn(setting: Params, seed: int, target: Path) -> dict[str, Any]:
    """Train once, in this process: saves the best epoch in `target`, and returns its record and the curve."""
    tf = tensorflow(setting.benchmark.threads)
    tf.keras.utils.set_random_seed(seed)
    sets, classes = photographs(setting), len(labels.read())
    network, prepared = network_for(tf, setting, classes)
    model = trainer(tf, network, prepared, setting.train)
    best = Best(network.variables)
    start = time.perf_counter()
    for learns, epochs, rate in phases(setting.train):
        for layer in network.layers:
            layer.trainable = learns or layer.name != "backbone"
        fit(tf, model, sets, prepared, setting.train, epochs, rate, best)
    best.restore()
    network.save(target)
    return {
        "seed": seed,
        "best_epoch": int(best.row["epoch"]),
        "best_val_loss": best.row["val_loss"],
        "best_val_accuracy": best.row["val_accuracy"],
        "train_s": time.perf_counter() - start,
        "train_images": len(sets.train),
        "validation_images": len(sets.validation),
        "preprocessing": asdict(prepared),
        "curve": [row | {"seed": seed} for row in best.curve],
    }


def fit(
    tf: Any,
    model: Any,
    sets: Sets,
    prepared: Preprocessing,
    setting: TrainParams,
    epochs: int,
    rate: float,
    best: Best,
) -> None:
    """One phase, of which `best` keeps the curve and the weights."""
    from tqdm.keras import TqdmCallback

    lessons = dataset(tf, sets.train, prepared, setting.batch_size, shuffled=True)
    steps = epochs * len(lessons)
    schedule = tf.keras.optimizers.schedules.CosineDecay(
        0.0, (1 - WARM_UP) * steps, warmup_target=rate, warmup_steps=WARM_UP * steps
    )
    model.compile(tf.keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy", ["accuracy"])
    start = [time.perf_counter()]

    def note(epoch: int, logs: dict[str, float]) -> None:
        start.append(time.perf_counter())
        own = {"epoch": len(best.curve) + 1, "learning_rate": float(schedule((epoch + 1) * len(lessons)))}
        own["epoch_s"] = start[-1] - start[-2]
        best.note(own | {name: float(logs[name]) for name in COLUMNS if name in logs})

    model.fit(
        lessons,
        validation_data=dataset(tf, sets.validation, prepared, setting.batch_size, shuffled=False),
        epochs=epochs,
        class_weight=weights_by_class(sets.train, model.output_shape[-1]) if setting.class_weights else None,
        callbacks=[
            # Its own way to restore the best weights does nothing where training runs to its last epoch.
            tf.keras.callbacks.EarlyStopping("val_loss", patience=setting.patience),
            tf.keras.callbacks.LambdaCallback(on_epoch_end=note),
            TqdmCallback(verbose=0, leave=False, disable=None),
        ],
        verbose=0,
    )


def weights_by_class(photos: Sequence[Photo], classes: int) -> dict[int, float]:
    """How much an image of each class counts, so that all classes count alike (scikit-learn's `balanced`)."""
    from sklearn.utils.class_weight import compute_class_weight

    found = np.array([photo.label for photo in photos])
    present = np.unique(found)
    weights = dict(zip(present.tolist(), compute_class_weight("balanced", classes=present, y=found), strict=True))
    return {label: float(weights.get(label, 0)) for label in range(classes)}  # Keras wants one for each


def train(setting: Params, folder: Path) -> dict[str, Any]:
    """Train once for each seed, each in a process of its own, and keep the best model in `folder`."""
    found = [isolate.call(learn, setting, seed, folder / f"{seed}.keras") for seed in setting.train.seeds]
    best = min(found, key=lambda run: run["best_val_loss"])
    (folder / f"{best['seed']}.keras").rename(folder / paths.TRAINED.name)
    for stale in folder.glob("[0-9]*.keras"):
        stale.unlink()
    rows = [[row.get(name, "") for name in COLUMNS] for run in found for row in run.pop("curve")]
    files.write_csv(paths.CURVES, COLUMNS, rows)
    common = ("train_images", "validation_images", "preprocessing")
    own = {name: best[name] for name in common}
    runs = [{name: value for name, value in run.items() if name not in common} for run in found]
    return {"backbone": setting.train.backbone, "seed": best["seed"]} | own | {"runs": runs}


def main() -> None:
    """Read params, train if they ask for it, and write models/trained, the record and the curves."""
    setting = params.load()
    with files.new_directory(paths.TRAINED.parent) as folder:
        if setting.trains:
            record = {"status": "ok"} | train(setting, folder)
        else:
            record = {"status": "skipped", "reason": "model.path is not trained"}
            files.write_csv(paths.CURVES, COLUMNS, [])
    files.write_json(paths.TRAIN, record)


if __name__ == "__main__":
    errors.run(main)
