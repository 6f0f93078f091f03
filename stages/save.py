"""Save the model as a SavedModel with one signature, `serving_default`: a zoo's with its weights, or the user's own."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from stages.common import classifiers, custom_models, errors, files, keras_models, labels, params, paths, zoo
from stages.common.classifiers import Classifier
from stages.common.errors import PipelineError
from stages.common.images import Preprocessing
from stages.common.params import CUSTOM, CustomParams, Params
from stages.common.tf import tensorflow

# Largest difference of a probability between the model and its reloaded SavedModel: rounding, and no more.
TOLERANCE = 1e-4


def of_zoo(tf: Any, name: str, weights: Path) -> Classifier:
    """A model of the zoo with its weights."""
    model = keras_models.build(tf, name, weights)
    return _of_keras(model, keras_models.preprocessing(tf, name, model))


def of_training(tf: Any) -> Classifier:
    """What the stage `train` made."""
    model = tf.keras.models.load_model(paths.TRAINED, compile=False)
    return _of_keras(model, Preprocessing.from_json(files.read_json(paths.TRAIN)["preprocessing"]))


def _of_keras(model: Any, preprocessing: Preprocessing) -> Classifier:
    def call(images: Any) -> Any:
        return model(images, training=False)

    # The variables alone: a whole Keras model takes four times as long to load.
    return Classifier(call, model.variables, preprocessing, model.output_shape[-1], model.count_params())


def of_user(tf: Any, path: Path, custom: CustomParams) -> Classifier:
    """The user's own model, as params.yaml describes it."""
    return classifiers.classifier(tf, custom_models.open_model(tf, path), custom)


def model_of(tf: Any, setting: Params) -> tuple[Path, Classifier]:
    """The file or folder that holds the model, and the model."""
    name = setting.model.name
    if setting.trains:
        return paths.TRAINED, of_training(tf)
    if name == CUSTOM:
        (path,) = (found for found in paths.WEIGHTS.iterdir() if found.stem == paths.OWN)
        return path, of_user(tf, path, setting.custom)
    path = paths.WEIGHTS / f"weights{zoo.weights_suffix(name)}"
    return path, of_zoo(tf, name, path)


def save(tf: Any, model: Classifier, folder: Path) -> None:
    """Save a tf.Module with one explicit signature."""

    @tf.function(input_signature=[tf.TensorSpec([None, *model.preprocessing.shape], tf.float32, name="images")])  # type: ignore[untyped-decorator]
    def serve(images: Any) -> dict[str, Any]:
        return {"probabilities": model.call(images)}

    module = tf.Module()
    module.weights = model.tracked
    module.serve = serve
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})


def difference(tf: Any, model: Classifier, folder: Path) -> float:
    """Largest absolute difference of the outputs of `model` and of the SavedModel in `folder`, on seeded pixels."""
    images = tf.constant(model.preprocessing.noise(4))
    signature = tf.saved_model.load(str(folder)).signatures["serving_default"]
    return float(np.abs(signature(images=images)["probabilities"].numpy() - model.call(images).numpy()).max())


def main() -> None:
    """Read params, build, save, compare with the reloaded model, and write the SavedModel and its record."""
    setting = params.load()
    name, classes, tf = setting.model.name, labels.read(), tensorflow()
    source, model = model_of(tf, setting)
    if model.classes != len(classes):
        raise PipelineError(
            f"{name} has {model.classes} outputs, but its label set has {len(classes)} classes "
            f"({', '.join(classes.names[:3])}, ...)" + (": correct custom.labels" if name == CUSTOM else "")
        )
    with files.new_directory(paths.SAVED_MODEL) as folder:
        save(tf, model, folder)
        gap = difference(tf, model, folder)
        if not gap <= TOLERANCE:
            raise PipelineError(
                f"the SavedModel of {name} answers {gap:.2g} away from the model itself (allowed: {TOLERANCE})"
            )
    record = {
        "name": name,
        "weights_sha256": files.digest(source),
        "parameters": model.parameters,
        "input_shape": model.preprocessing.shape,
        "classes": model.classes,
        "preprocessing": asdict(model.preprocessing),
        "training": files.read_json(paths.TRAIN) if setting.trains else None,
        "save_difference": gap,
        "size_bytes": sum(files.sizes(paths.SAVED_MODEL).values()),
    }
    files.write_json(paths.MODEL, record)


if __name__ == "__main__":
    errors.run(main)
