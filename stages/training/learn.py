"""Trains the user's model with each seed, each time in a process of its own, and keeps the best one."""

import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from stages.contracts import zoo
from stages.contracts.model import WEIGHTS
from stages.contracts.preprocessing import Preprocessing
from stages.contracts.training import TRAINED, Run, Training
from stages.core import isolate
from stages.core.tensorflow import tensorflow
from stages.model import classifier, keras_zoo
from stages.params.model import SMALL, CustomParams
from stages.params.training import TrainParams
from stages.training import dataset, fit, networks
from stages.training.curves import Epoch
from stages.training.fit import Best

if TYPE_CHECKING:
    from keras import Model as Network
    from tensorflow import Tensor

# How much lower the learning rate is where pretrained layers learn too.
FINE_TUNING = 0.1


@dataclass(frozen=True)
class Job:
    """What to train, and how; `split_seed` is split.seed, `threads` the CPU threads of TensorFlow (None: all cores)."""

    train: TrainParams
    custom: CustomParams
    split_seed: int
    threads: int | None


@dataclass(frozen=True)
class Result:
    """The training with one seed."""

    run: Run
    train_images: int
    validation_images: int
    preprocessing: Preprocessing
    curve: list[Epoch]


def train(job: Job, folder: Path) -> tuple[Training, list[Epoch]]:
    """Train once for each seed and keep the best model in `folder`; its record, and the curves of all."""
    results = [isolate.call(learn, job, seed, folder / f"{seed}.keras") for seed in job.train.seeds]
    best = min(results, key=lambda result: result.run.best_val_loss)
    (folder / f"{best.run.seed}.keras").rename(folder / TRAINED.name)
    for worse in folder.glob("[0-9]*.keras"):
        worse.unlink()
    training = Training(
        backbone=job.train.backbone,
        seed=best.run.seed,
        train_images=best.train_images,
        validation_images=best.validation_images,
        preprocessing=best.preprocessing,
        runs=tuple(result.run for result in results),
    )
    return training, [epoch for result in results for epoch in result.curve]


def learn(job: Job, seed: int, target: Path) -> Result:
    """Train once, in this process, and save the best epoch in `target`."""
    tf = tensorflow(job.threads)
    tf.keras.utils.set_random_seed(seed)
    sets = dataset.read(job.train.validation, job.split_seed)
    network, prepared = network_for(tf, job, sets.classes)
    model = fit.trainee(tf, network, partial(_answer, network), prepared, job.train.augment)
    best = Best(network.variables)
    start_s = time.perf_counter()
    for learns, epochs, rate in phases(job.train):
        networks.learning(tf, network, learns)
        phase = replace(job.train, epochs=epochs, learning_rate=rate)
        fit.fit(tf, model, sets, prepared, phase, best)
    best.restore()
    network.save(target)
    run = best.run(seed, time.perf_counter() - start_s)
    return Result(run, len(sets.train), len(sets.validation), prepared, [row | {"seed": seed} for row in best.curve])


def network_for(tf: ModuleType, job: Job, classes: int) -> tuple["Network", Preprocessing]:
    """What is to be trained, and how its images are prepared: as the backbone was trained, or as `custom` says."""
    custom, name = job.custom, job.train.backbone
    if name == SMALL:
        height, width = custom.size or (0, 0)
        prepared = classifier.preprocessing(height, width, custom.channels or "rgb", custom, 1 / 255)
        return networks.small(tf, prepared.shape, classes), prepared
    backbone = keras_zoo.build(tf, name, WEIGHTS / f"weights{zoo.weights_suffix(name)}")
    published = keras_zoo.preprocessing(tf, name, backbone)
    prepared = replace(published, **custom.seen._asdict())
    return networks.on_backbone(tf, backbone, classes), prepared


def phases(setting: TrainParams) -> list[tuple[bool, int, float]]:
    """Whether a backbone learns, for how many epochs, and the highest learning rate."""
    if setting.backbone == SMALL:
        return [(True, setting.epochs, setting.learning_rate)]
    frozen = min(setting.frozen_epochs, setting.epochs)
    both = [
        (False, frozen, setting.learning_rate),
        (True, setting.epochs - frozen, FINE_TUNING * setting.learning_rate),
    ]
    return [phase for phase in both if phase[1]]


def _answer(network: "Network", images: "Tensor", training: bool) -> "Tensor":
    return network(images, training=training)
