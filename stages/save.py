"""Save the model as a SavedModel with one signature, `serving_default`: a zoo's with its weights, or the user's own."""

from stages.contracts import codec, labels
from stages.contracts.model import MODEL, SAVED_MODEL, ModelRecord
from stages.core import errors, files
from stages.core.tensorflow import tensorflow
from stages.model import examples, saved_model, steady
from stages.model.chosen import ChosenModel
from stages.params import load
from stages.params.model import CustomParams, ModelParams


def main() -> None:
    """Read params, build, save, compare with the reloaded model, and write the SavedModel and its record."""
    chosen, tf = ChosenModel(load.read(ModelParams), load.read(CustomParams)), tensorflow()
    name, model = chosen.model.name, chosen.classifier(tf)
    saved_model.refuse_other_classes(name, model.classes, labels.read())
    shown = examples.read(model.preprocessing)
    steady.refuse(tf, name, model, shown.few)
    moved = saved_model.refuse_other_answers(tf, name, model, shown)
    with files.new_directory(SAVED_MODEL) as folder:
        difference = saved_model.write(tf, model, folder, name, shown)
    record = ModelRecord(
        name=name,
        weights_sha256=files.digest(chosen.path),
        parameters=model.parameters,
        input_shape=model.preprocessing.shape,
        classes=model.classes,
        preprocessing=model.preprocessing,
        training=chosen.training,
        save_difference=difference,
        size_bytes=sum(files.sizes(SAVED_MODEL).values()),
        compared_on=shown.words,
        import_difference=moved,
        largest_logit=model.logits,
        inside=model.inside,
    )
    codec.write(record, MODEL)


if __name__ == "__main__":
    errors.run(main)
