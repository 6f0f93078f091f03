"""The model as the stage `save` has it: a process behind a wall opens it, since its file may be a program."""

from dataclasses import replace
from pathlib import Path

from stages.contracts.labels import Labels
from stages.contracts.model import ModelRecord
from stages.core import files, isolate, wall
from stages.core.tensorflow import tensorflow
from stages.model import examples, saved_model, steady
from stages.model.chosen import ChosenModel


def save(chosen: ChosenModel, names: Labels, folder: Path) -> ModelRecord:
    """Save into `folder`: the record. What this system cannot keep the process from stands in it."""
    return replace(isolate.walled([folder], make, chosen, names, folder), unguarded=wall.missing())


def make(chosen: ChosenModel, names: Labels, folder: Path) -> ModelRecord:
    """Build, compare with its file's own runtime, save and compare again, in this process."""
    tf, name = tensorflow(tf32=False), chosen.model.name
    model = chosen.classifier(tf)
    saved_model.refuse_other_classes(name, model.classes, names)
    shown = examples.read(model.preprocessing)
    steady.refuse(tf, name, model, shown.few)
    moved = saved_model.refuse_other_answers(tf, name, model, shown)
    difference = saved_model.write(tf, model, folder, name, shown)
    return ModelRecord(
        name=name,
        weights_sha256=files.digest(chosen.path),
        parameters=model.parameters,
        input_shape=model.preprocessing.shape,
        classes=model.classes,
        preprocessing=model.preprocessing,
        training=chosen.training,
        save_difference=difference,
        size_bytes=sum(files.sizes(folder).values()),
        compared_on=shown.words,
        import_difference=moved,
        largest_logit=model.logits,
        inside=model.inside,
        trusted=chosen.model.trusted,
    )
