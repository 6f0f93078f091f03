"""Save the model as a SavedModel with one signature, `serving_default`: a zoo's with its weights, or the user's own."""

from stages.contracts import codec, labels, reference
from stages.contracts.model import MODEL, SAVED_MODEL
from stages.core import errors, files
from stages.model import opened
from stages.model.chosen import ChosenModel
from stages.params import load
from stages.params.model import CustomParams, ModelParams


def main() -> None:
    """Read params, build, save, compare with the reloaded model; write the SavedModel, its record and its answers."""
    chosen = ChosenModel(load.read(ModelParams), load.read(CustomParams))
    with files.new_directory(SAVED_MODEL) as folder:
        saved = opened.save(chosen, labels.read(), folder)
    codec.write(saved.record, MODEL)
    reference.write(saved.answers)


if __name__ == "__main__":
    errors.run(main)
