"""The model as the stage `save` has it: a process behind a wall opens it, since its file may be a program."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from stages.contracts.labels import Labels
from stages.contracts.model import ModelRecord
from stages.contracts.preprocessing import Floats
from stages.core import files, isolate, wall
from stages.core.tensorflow import tensorflow
from stages.data import examples
from stages.model import saved_model, steady
from stages.model.chosen import ChosenModel


class Saved(NamedTuple):
    """The record, and what the SavedModel answers on a few images: float32 [images, classes]."""

    record: ModelRecord
    answers: Floats


def save(chosen: ChosenModel, names: Labels, folder: Path) -> Saved:
    """Save into `folder`. What this system cannot keep the process from stands in the record."""
    record, answers = isolate.walled([folder], make, chosen, names, folder)
    return Saved(replace(record, unguarded=wall.missing()), answers)


def make(chosen: ChosenModel, names: Labels, folder: Path) -> Saved:
    """Build, compare with its file's own runtime, save and compare again, in this process."""
    tf, name = tensorflow(tf32=False), chosen.model.name
    model = chosen.classifier(tf)
    saved_model.refuse_other_classes(name, model.classes, names)
    shown = examples.read(model.preprocessing)
    steady.refuse(tf, name, model, shown.few)
    moved = saved_model.refuse_other_answers(tf, name, model, shown)
    gap = saved_model.write(tf, model, folder, name, shown)
    record = ModelRecord(
        name=name,
        weights_sha256=files.digest(chosen.path),
        parameters=model.parameters,
        input_shape=model.preprocessing.shape,
        classes=model.classes,
        preprocessing=model.preprocessing,
        training=chosen.training,
        save_difference=gap.difference,
        size_bytes=sum(files.sizes(folder).values()),
        compared_on=shown.words,
        import_difference=moved,
        largest_logit=model.logits,
        inside=model.inside,
        trusted=chosen.model.trusted,
        allowed_difference=gap.allowed,
    )
    return Saved(record, gap.answers[: len(shown.asked)])
