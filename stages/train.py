"""Train the user's model on labelled images, if model.path asks for it: a small network, or a model of the zoo."""

import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from stages.contracts import paths, zoo
from stages.contracts.preprocessing import Preprocessing
from stages.core import errors, files, isolate
from stages.core.tensorflow import tensorflow
from stages.model import classifier, keras_zoo
from stages.params import document
from stages.params.document import SMALL, Params, TrainParams
from stages.training import fit, networks
from stages.training.fit import Best

# How much lower the learning rate is where pretrained layers learn too.
FINE_TUNING = 0.1


def network_for(tf: Any, setting: Params, classes: int) -> tuple[Any, Preprocessing]:
    """What is to be trained, and how its images are prepared: as the backbone was trained, or as `custom` says."""
    custom, name = setting.custom, setting.train.backbone
    if name == SMALL:
        height, width = custom.size or (0, 0)
        prepared = classifier.preprocessing(height, width, custom.channels or "rgb", custom, 1 / 255)
        return networks.small(tf, prepared.shape, classes), prepared
    backbone = keras_zoo.build(tf, name, paths.WEIGHTS / f"weights{zoo.weights_suffix(name)}")
    own = asdict(keras_zoo.preprocessing(tf, name, backbone))
    prepared = Preprocessing(**own | {"resize": custom.resize, "crop_fraction": custom.crop_fraction})
    return networks.on_backbone(tf, backbone, classes), prepared


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


def learn(setting: Params, seed: int, target: Path) -> dict[str, Any]:
    """Train once, in this process: saves the best epoch in `target`, and returns its record and the curve."""
    tf = tensorflow(setting.benchmark.threads)
    tf.keras.utils.set_random_seed(seed)
    sets = fit.photographs(setting)
    network, prepared = network_for(tf, setting, sets.classes)
    model = fit.trainee(tf, network, partial(_answer, network), prepared, setting.train.augment)
    best = Best(network.variables)
    start = time.perf_counter()
    for learns, epochs, rate in phases(setting.train):
        for layer in network.layers:
            layer.trainable = learns or layer.name != "backbone"
        phase = replace(setting.train, epochs=epochs, learning_rate=rate)
        fit.fit(tf, model, sets, prepared, phase, best)
    best.restore()
    network.save(target)
    return {
        "seed": seed,
        **best.summary(),
        "train_s": time.perf_counter() - start,
        "train_images": len(sets.train),
        "validation_images": len(sets.validation),
        "preprocessing": asdict(prepared),
        "curve": [row | {"seed": seed} for row in best.curve],
    }


def _answer(network: Any, images: Any, learning: bool) -> Any:
    return network(images, training=learning)


def train(setting: Params, folder: Path) -> dict[str, Any]:
    """Train once for each seed, each in a process of its own, and keep the best model in `folder`."""
    found = [isolate.call(learn, setting, seed, folder / f"{seed}.keras") for seed in setting.train.seeds]
    best = min(found, key=lambda run: run["best_val_loss"])
    (folder / f"{best['seed']}.keras").rename(folder / paths.TRAINED.name)
    for stale in folder.glob("[0-9]*.keras"):
        stale.unlink()
    fit.write_curves([row for run in found for row in run.pop("curve")], paths.CURVES)
    common = ("train_images", "validation_images", "preprocessing")
    own = {name: best[name] for name in common}
    runs = [{name: value for name, value in run.items() if name not in common} for run in found]
    return {"backbone": setting.train.backbone, "seed": best["seed"]} | own | {"runs": runs}


def main() -> None:
    """Read params, train if they ask for it, and write models/trained, the record and the curves."""
    setting = document.load()
    with files.new_directory(paths.TRAINED.parent) as folder:
        if setting.trains:
            record = {"status": "ok"} | train(setting, folder)
        else:
            record = {"status": "skipped", "reason": "model.path is not trained"}
            fit.write_curves([], paths.CURVES)
    files.write_json(paths.TRAIN, record)


if __name__ == "__main__":
    errors.run(main)
