from pathlib import Path

import pytest

from stages.model import door, formats
from tests.fixtures.errors import named, refused
from tests.fixtures.kept import keras_archive, layer, network


def test_a_model_that_is_a_program_is_refused_with_all_that_was_found(tmp_path: Path) -> None:
    path = keras_archive(tmp_path / "a.keras", network(*(layer("Lambda", f"l{number}") for number in range(5))))
    error = refused(door.admit, path)
    assert named(error, "file", "key") == ("model-refused", "a.keras", "model.trusted")
    found = error.values["found"]
    assert isinstance(found, list) and len(found) == 5
    assert "layer l0 is a Lambda" in str(error) and "and 2 more" in str(error)


def test_a_trusted_one_is_admitted_without_a_look(tmp_path: Path) -> None:
    assert door.admit(keras_archive(tmp_path / "a.keras", network(layer("Lambda"))), trusted=True) == ".keras"


@pytest.mark.parametrize("name", ["engine.plan", "model.tflite", "weights.pt", "nothing.onnx", "folder"])
def test_a_kind_without_a_door_does_not_come_in_trusted_or_not(tmp_path: Path, name: str) -> None:
    """An engine is a program: a kind that is added to those that open needs an entry of its own."""
    if name == "folder":
        (tmp_path / name).mkdir()
    elif name != "nothing.onnx":
        (tmp_path / name).write_bytes(b"a program")
    for trusted in (False, True):
        assert named(refused(door.admit, tmp_path / name, trusted), "file") == ("model-kind", str(tmp_path / name))
    assert set(formats.KERAS) < set(door.DOORS)
