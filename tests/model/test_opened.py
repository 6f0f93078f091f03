import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import save
from stages.contracts import labels
from stages.contracts.labels import Labels
from stages.contracts.model import SAVED_MODEL, WEIGHTS, ModelRecord
from stages.core import wall
from stages.model import opened
from stages.model.chosen import ChosenModel
from stages.model.opened import Saved
from stages.params import load
from stages.params.model import CustomParams, ModelParams
from tests.fixtures.errors import named, refused

Edit = Callable[..., None]


@pytest.fixture
def program(checkout: Path, edit: Edit, tf: Any, tmp_path: Path) -> Path:
    """A model where `download` leaves it that writes a file when it is opened; returns that file."""
    mark = tmp_path / "ran"
    layers = tf.keras.layers
    image = layers.Input((6, 8, 3))
    hostile = layers.Lambda(eval(f"lambda x: (open({str(mark)!r}, 'w').close(), x)[1]"))(image)
    WEIGHTS.mkdir(parents=True)
    tf.keras.Model(image, layers.Dense(3, "softmax")(layers.Flatten()(hostile))).save(WEIGHTS / "custom.h5")
    labels.write(Labels(("cat", "dog", "cow"), ("",) * 3))
    edit(("model.name", "custom"), ("model.path", "mine.h5"))
    mark.unlink()  # building ran it too
    return mark


@pytest.mark.skipif(bool(wall.missing()), reason="this kernel has no wall")
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_program_is_refused_at_the_door_and_a_trusted_one_stays_behind_the_wall(program: Path, edit: Edit) -> None:
    chosen = ChosenModel(load.read(ModelParams), load.read(CustomParams))
    assert named(refused(opened.make, chosen, labels.read(), SAVED_MODEL), "file") == ("model-refused", "custom.h5")
    edit(("model.trusted", True))
    assert refused(save.main).code == "model-does-not-load"
    assert not program.exists() and not SAVED_MODEL.exists()


def test_the_process_that_opens_is_another_and_what_it_lacks_is_recorded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(wall, "missing", lambda: ("the network",))
    monkeypatch.setattr(opened, "make", made)
    record, answers = opened.save(None, None, tmp_path)  # type: ignore[arg-type]
    assert record.unguarded == ("the network",)
    assert record.parameters != os.getpid() and (tmp_path / "written").exists()
    assert answers.tolist() == [[0.5, 0.5]]


def made(chosen: None, names: None, folder: Path) -> Saved:
    (folder / "written").touch()
    record = ModelRecord("tiny", "", os.getpid(), (1, 1, 3), 2, None, None, 0.0, 1)  # type: ignore[arg-type]
    return Saved(record, np.full((1, 2), 0.5, np.float32))
