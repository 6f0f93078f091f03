"""Saves a classifier as a SavedModel with one signature, `serving_default`, and compares the two."""

from pathlib import Path
from typing import Any

import numpy as np

from stages.core.errors import PipelineError
from stages.model.classifier import Classifier

# Largest difference of a probability between the model and its reloaded SavedModel: rounding, and no more.
TOLERANCE = 1e-4


def write(tf: Any, model: Classifier, folder: Path, name: str, tolerance: float = TOLERANCE) -> float:
    """Save in `folder`; returns the largest difference from what was saved, PipelineError if it is too large."""
    save(tf, model, folder)
    gap = difference(tf, model, folder)
    if not gap <= tolerance:
        raise PipelineError(
            f"the SavedModel of {name} answers {gap:.2g} away from the model itself (allowed: {tolerance})"
        )
    return gap


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
