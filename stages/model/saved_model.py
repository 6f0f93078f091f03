"""Saves a classifier as a SavedModel with one signature, `serving_default`, and compares the two."""

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from stages.contracts import closeness
from stages.contracts.closeness import Gap
from stages.contracts.labels import Labels
from stages.contracts.preprocessing import Floats
from stages.core.errors import PipelineError
from stages.core.tensorflow import has_half
from stages.data.examples import Examples
from stages.model import tolerance
from stages.model.classifier import Answer, Classifier

if TYPE_CHECKING:
    from tensorflow import Tensor


def write(
    tf: ModuleType, model: Classifier, folder: Path, name: str, shown: Examples, allowed: float | None = None
) -> Gap:
    """Save in `folder`; how far its answers are from what was saved, PipelineError if that is too far."""
    save(tf, model, folder)
    gap = difference(tf, model, folder, shown, allowed)
    if not gap.close:
        raise PipelineError(
            f"the SavedModel of {name} answers otherwise than the model itself: {gap}; report it, with the model if "
            "you can",
            code="saved-model-differs",
            model=name,
            difference=gap.difference,
        )
    return gap


def refuse_other_answers(tf: ModuleType, name: str, model: Classifier, shown: Examples) -> float | None:
    """PipelineError if a model answers otherwise than its file's own runtime; how far they are apart.

    None for a model that was not converted to be opened.
    """
    tolerance.refuse_alike(name, _numpy(tf, model.call)(shown.images), shown)
    if model.original is None:
        return None
    most = max(closeness.REBUILT, closeness.allowed(model.original_half, model.logits))
    gap = tolerance.compare(_numpy(tf, model.original), _numpy(tf, model.call), shown, most)
    if not gap.close:
        raise PipelineError(
            f"the SavedModel that onnx2tf makes of {name} answers otherwise than ONNX Runtime: {gap}; export the model "
            "from its own framework as a SavedModel, and set model.path to it",
            code="onnx-import-differs",
            model=name,
            key="model.path",
            difference=gap.difference,
        )
    return gap.difference


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
    _forget_when(folder / "fingerprint.pb")


def _forget_when(fingerprint: Path) -> None:
    """Without the number that TensorFlow draws for each saving: the same model is the same bytes, and runs nothing."""
    from tensorflow.core.protobuf.fingerprint_pb2 import FingerprintDef

    told = FingerprintDef.FromString(fingerprint.read_bytes())
    told.ClearField("uuid")
    fingerprint.write_bytes(told.SerializeToString(deterministic=True))


def difference(tf: ModuleType, model: Classifier, folder: Path, shown: Examples, allowed: float | None = None) -> Gap:
    """Of the answers of the SavedModel in `folder` from those of `model`; where no more is allowed, for rounding."""
    saved = tf.saved_model.load(str(folder))  # its variables live as long as this
    signature = saved.signatures["serving_default"]
    most = allowed or closeness.allowed(has_half(signature.graph), model.logits)
    served = _numpy(tf, lambda images: signature(images=images)["probabilities"])
    return tolerance.compare(_numpy(tf, model.call), served, shown, most)


def _numpy(tf: ModuleType, answer: Answer) -> tolerance.Answers:
    def answers(images: Floats) -> Floats:
        found: Floats = answer(tf.constant(images)).numpy()
        return found

    return answers
