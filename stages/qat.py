"""Train the model on with its INT8 arithmetic simulated, if a variant ends in -int8-qat."""

import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from stages.contracts import paths
from stages.contracts.variant import Variant
from stages.core import errors, files, isolate
from stages.core.errors import PipelineError
from stages.core.tensorflow import tensorflow
from stages.model import chosen, onnx_export, saved_model
from stages.model.classifier import Classifier
from stages.params import document
from stages.params.document import Params
from stages.runtimes.registry import VALID
from stages.training import fake_quant, fit
from stages.training.fit import Best, Sets

NO_KERAS = (
    "quantisation-aware training needs the layers of a Keras model, which {} does not have: set model.path to a .keras "
    "or .h5 file, or to trained"
)
# What a value that is rounded to the next INT8 step, by another order of sums, may change of a probability.
STEPS = 0.1


def learn(setting: Params, folder: Path) -> dict[str, Any]:
    """Train in this process, and write what the runtimes convert into `folder`; returns the record and the curve."""
    tf = tensorflow(setting.benchmark.threads)
    seed = setting.train.seeds[0]
    tf.keras.utils.set_random_seed(seed)
    sets, name = fit.photographs(setting), setting.model.name
    simulated, left = fake_quant.simulate(tf, flat(tf, setting))
    start = time.perf_counter()
    best = train_on(tf, setting, simulated, sets)
    best.restore()
    seconds = time.perf_counter() - start
    taught = chosen.of_keras(tf, setting, simulated)
    saved_model.write(tf, taught, folder / paths.QAT_SAVED_MODEL.name, name, STEPS)
    onnx_export.write(
        tf, folder / paths.QAT_SAVED_MODEL.name, taught.preprocessing, folder / paths.QAT_ONNX.name, name, STEPS
    )
    return {
        "seed": seed,
        **best.summary(),
        "first_val_accuracy": best.curve[0]["val_accuracy"],
        "train_s": seconds,
        "train_images": len(sets.train),
        "validation_images": len(sets.validation),
        "layers_not_simulated": left,
        "curve": [row | {"seed": seed} for row in best.curve],
    }


def flat(tf: Any, setting: Params) -> Any:
    """The model as a network without others inside; PipelineError if it does not answer as the SavedModel does."""
    network = fake_quant.flatten(tf, chosen.keras(tf, setting))
    gap = saved_model.difference(tf, chosen.of_keras(tf, setting, network), paths.SAVED_MODEL)
    if not gap <= saved_model.TOLERANCE:
        raise PipelineError(f"its layers, called one by one, answer {gap:.2g} away from the model itself")
    return network


def train_on(tf: Any, setting: Params, simulated: Any, sets: Sets) -> Best:
    """Train, from ranges that fit; epoch 0 is the simulation before it learned anything."""
    answers = {learning: chosen.of_keras(tf, setting, simulated, learning) for learning in (False, True)}
    prepared = answers[False].preprocessing
    model = fit.trainee(tf, simulated, partial(_answer, answers), prepared, setting.train.augment)
    images = partial(fit.dataset, tf, prepared=prepared, batch_size=setting.train.batch_size)
    with fake_quant.first_ranges():
        model(next(iter(images(sets.train, shuffled=True)))[0], training=True)
    best = Best(simulated.variables, "qat")
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    loss, accuracy = model.evaluate(images(sets.validation, shuffled=False), verbose=0)
    best.note({"epoch": 0, "val_loss": loss, "val_accuracy": accuracy})
    phase = replace(setting.train, epochs=setting.qat.epochs, learning_rate=setting.qat.learning_rate)
    fit.fit(tf, model, sets, prepared, phase, best)
    return best


def _answer(answers: dict[bool, Classifier], images: Any, learning: bool) -> Any:
    return answers[learning].call(images)


def outcome(setting: Params, folder: Path) -> dict[str, Any]:
    """Train if a variant asks for it and the model allows; what fails is a reason of those variants alone."""
    if not setting.asks_qat:
        return {"status": "skipped", "reason": "no variant ends in -int8-qat", "curve": []}
    if not chosen.has_layers(setting):
        return {"status": "skipped", "reason": NO_KERAS.format(setting.model.path), "curve": []}
    try:
        record: dict[str, Any] = {"status": "ok", "reason": None} | isolate.call(learn, setting, folder)
        return record
    except PipelineError as error:
        shutil.rmtree(folder)
        folder.mkdir()
        return {"status": "failed", "reason": f"qat: {error}", "curve": []}


def main() -> None:
    """Read params, train if they ask for it, and write models/qat, the record and the curve."""
    setting = document.load()
    with files.new_directory(paths.QAT) as folder:
        record = outcome(setting, folder)
        fit.write_curves(record.pop("curve"), paths.QAT_CURVE)
        digest = files.tree_digest(folder) if record["status"] == "ok" else record["reason"]
    # DVC converts a variant again only if its own entry is another.
    sources = {name: digest if Variant.parse(name).qat and setting.asks_qat else None for name in VALID}
    files.write_json(paths.QAT_RECORD, record | {"sources": sources})


if __name__ == "__main__":
    errors.run(main)
