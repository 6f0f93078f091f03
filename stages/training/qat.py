"""Quantisation-aware training: trains the model on with its INT8 arithmetic simulated."""

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from stages.contracts.images import TRAINING
from stages.contracts.model import SAVED_MODEL
from stages.contracts.status import OK, Status
from stages.contracts.training import QAT_ONNX, QAT_SAVED_MODEL, QatRecord, QatTraining
from stages.core import files, isolate
from stages.core.errors import PipelineError
from stages.core.tensorflow import tensorflow
from stages.data import examples
from stages.model import onnx_export, saved_model
from stages.model.chosen import ChosenModel
from stages.model.classifier import Classifier
from stages.params.training import QatParams, TrainParams, asks_qat
from stages.training import calls, dataset, fake_quant, fit, rounding
from stages.training.curves import Epoch
from stages.training.dataset import Sets
from stages.training.fit import Best

if TYPE_CHECKING:
    from keras import Model as Network
    from tensorflow import Tensor

NO_KERAS = (
    "quantisation-aware training needs the layers of a Keras model, which {} does not have: set model.path to a .keras "
    "or .h5 file, or to trained"
)
# What a value that is rounded to the next INT8 step, by another order of sums, may change of a probability.
STEPS = 0.1


@dataclass(frozen=True)
class Job:
    """What to train, and how; `split_seed` is split.seed, `threads` the CPU threads of TensorFlow (None: all cores)."""

    chosen: ChosenModel
    train: TrainParams
    qat: QatParams
    split_seed: int
    threads: int | None


@dataclass(frozen=True)
class Result:
    """What became of it; the training is None, and the curve empty, unless the status is ok."""

    status: Status
    training: QatTraining | None = None
    curve: tuple[Epoch, ...] = ()

    def record(self, folder: Path) -> QatRecord:
        """With a digest of what lies in `folder`: those that take it are converted again where it is another."""
        digest = files.tree_digest(folder) if self.status.ok else self.status.reason
        return QatRecord(self.status, digest, self.training)


def train(job: Job, variants: Iterable[str], folder: Path) -> Result:
    """Train if a variant asks for it and the model allows; what fails is a reason of those variants alone."""
    if not asks_qat(variants):
        return Result(Status("skipped", "no variant ends in -int8-qat"))
    if not job.chosen.has_layers:
        return Result(Status("skipped", NO_KERAS.format(job.chosen.model.path)))
    try:
        training, curve = isolate.walled([folder], learn, job, folder)
    except PipelineError as error:
        shutil.rmtree(folder)
        folder.mkdir()
        return Result(Status("failed", f"qat: {error}"))
    return Result(OK, training, tuple(curve))


def learn(job: Job, folder: Path) -> tuple[QatTraining, list[Epoch]]:
    """Train in this process, and write what the runtimes convert into `folder`; returns the record and the curve."""
    tf = tensorflow(job.threads)
    seed = job.train.seeds[0]
    tf.keras.utils.set_random_seed(seed)
    sets = dataset.read(job.train.validation, job.split_seed)
    simulated, not_simulated = fake_quant.simulate(tf, flat(tf, job.chosen))
    start_s = time.perf_counter()
    best = train_on(tf, job, simulated, sets)
    best.restore()
    run = best.run(seed, time.perf_counter() - start_s)
    _write(tf, job.chosen, simulated, folder)
    training = QatTraining(
        run, best.curve[0]["val_accuracy"], len(sets.train), len(sets.validation), layers_not_simulated=not_simulated
    )
    return training, [epoch | {"seed": seed} for epoch in best.curve]


def _write(tf: ModuleType, chosen: ChosenModel, simulated: "Network", folder: Path) -> None:
    """A SavedModel and an ONNX file of the trained network."""
    model, name, saved = chosen.classifier_of(tf, simulated), chosen.model.name, folder / QAT_SAVED_MODEL.name
    shown = examples.read(model.preprocessing, TRAINING)
    saved_model.write(tf, model, saved, name, shown, STEPS)
    onnx_export.write(tf, saved, folder / QAT_ONNX.name, name, shown, most=STEPS)


def flat(tf: ModuleType, chosen: ChosenModel) -> "Network":
    """The model as a network without others inside; PipelineError if it does not answer as the SavedModel does."""
    network = calls.flatten(tf, chosen.network(tf))
    model = chosen.classifier_of(tf, network)
    gap = saved_model.difference(tf, model, SAVED_MODEL, examples.read(model.preprocessing, TRAINING))
    if not gap.close:
        raise PipelineError(
            f"its layers, called one by one, answer otherwise than the model itself: {gap}; leave out the variants "
            "that end in -int8-qat",
            code="qat-layers-differ",
            difference=gap.difference,
        )
    return network


def train_on(tf: ModuleType, job: Job, simulated: "Network", sets: Sets) -> Best:
    """Train, from ranges that fit; epoch 0 is the simulation before it learned anything."""
    answers = {training: job.chosen.classifier_of(tf, simulated, training) for training in (False, True)}
    prepared = answers[False].preprocessing
    model = fit.trainee(tf, simulated, partial(_answer, answers), prepared, job.train.augment)
    images = partial(dataset.batches, tf, prepared=prepared, batch_size=job.train.batch_size)
    with rounding.first_ranges():
        model(next(iter(images(sets.train, shuffled=True)))[0], training=True)
    best = Best(simulated.variables, "qat")
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    loss, accuracy = model.evaluate(images(sets.validation, shuffled=False), verbose=0)
    best.note({"epoch": 0, "val_loss": loss, "val_accuracy": accuracy})
    phase = replace(job.train, epochs=job.qat.epochs, learning_rate=job.qat.learning_rate)
    fit.fit(tf, model, sets, prepared, phase, best)
    return best


def _answer(answers: dict[bool, Classifier], images: "Tensor", training: bool) -> "Tensor":
    return answers[training].call(images)
