"""Saves a classifier as a SavedModel with one signature, `serving_default`, and compares the two."""

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from stages.contracts.labels import Labels
from stages.core.errors import PipelineError
from stages.model.classifier import Classifier

if TYPE_CHECKING:
    from tensorflow import Tensor

# Largest difference of a probability between the model and its reloaded SavedModel: rounding, and no more.
TOLERANCE = 1e-4


def write(tf: ModuleType, model: Classifier, folder: Path, name: str, tolerance: float = TOLERANCE) -> float:
    """Save in `folder`; returns the largest difference from what was saved, PipelineError if it is too large."""
    save(tf, model, folder)
    gap = difference(tf, model, folder)
    if not gap <= tolerance:
        raise PipelineError(
            f"the SavedModel of {name} differs by {gap:.2g} from the model itself (allowed: {tolerance}): "
            "report it, with the model if you can",
            code="saved-model-differs",
            model=name,
            difference=gap,
        )
    return gap


def refuse_other_classes(name: str, outputs: int, classes: Labels) -> None:
    """PipelineError if there are more or fewer names of classes than outputs."""
    if outputs != len(classes):
        raise PipelineError(
            f"{name} has {outputs} outputs, but its label set has {len(classes)} classes "
            f"({', '.join(classes.names[:3])}, ...): correct custom.labels, or name another model",
            code="classes-differ",
            model=name,
            key="custom.labels",
            outputs=outputs,
            classes=len(classes),
        )


def save(tf: ModuleType, model: Classifier, folder: Path) -> None:
    """Save a tf.Module with one explicit signature."""

    @tf.function(input_signature=[tf.TensorSpec([None, *model.preprocessing.shape], tf.float32, name="images")])  # type: ignore[untyped-decorator]
    def serve(images: "Tensor") -> dict[str, "Tensor"]:
        return {"probabilities": model.call(images)}

    module = tf.Module()
    module.weights = model.tracked
    module.serve = serve
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})


def difference(tf: ModuleType, model: Classifier, folder: Path) -> float:
    """Largest absolute difference of the outputs of `model` and of the SavedModel in `folder`, on seeded pixels."""
    images = tf.constant(model.preprocessing.noise(4))
    signature = tf.saved_model.load(str(folder)).signatures["serving_default"]
    return float(np.abs(signature(images=images)["probabilities"].numpy() - model.call(images).numpy()).max())
