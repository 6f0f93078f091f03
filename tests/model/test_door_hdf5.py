from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from stages.model import door_hdf5, keras_zoo
from tests.fixtures.errors import named, refused


def external(group: h5py.Group) -> None:
    group.create_dataset("planted", (2,), "f4", external=[("/etc/passwd", 0, 8)])


def link(group: h5py.Group) -> None:
    group["planted"] = h5py.ExternalLink("/etc/other.h5", "/a")


def soft(group: h5py.Group) -> None:
    group["planted"] = h5py.SoftLink("/elsewhere")


def virtual(group: h5py.Group) -> None:
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "a", (2,))
    group.create_virtual_dataset("planted", layout)


HOSTILE: dict[str, tuple[Callable[[h5py.Group], None], str]] = {
    "values in another file": (external, "the weights /a/b/planted lie in the file /etc/passwd"),
    "a link to another file": (link, "planted in /a/b is a link to /a of /etc/other.h5"),
    "a link within": (soft, "planted in /a/b is a link to /elsewhere"),
    "a view of another file": (virtual, "the weights /a/b/planted are put together from other data sets"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_lies_in_another_file_is_named_with_its_place(tmp_path: Path, kind: str) -> None:
    plant, said = HOSTILE[kind]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        plant(file.create_group("a/b"))
    with h5py.File(tmp_path / "a.h5") as file:
        assert list(door_hdf5.findings(file)) == [said]
    with pytest.raises(ValueError, match="planted"):
        door_hdf5.refuse_other_files(tmp_path / "a.h5")


def test_weights_for_the_zoo_are_all_in_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras_zoo, "_keras_class", lambda *_: lambda **_: SimpleNamespace())
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        external(file)
    error = refused(keras_zoo.build, SimpleNamespace(), "mobilenet_v2", tmp_path / "weights.h5")
    assert named(error, "key") == ("weights-not-of-model", "model.weights") and "/etc/passwd" in str(error)


def test_values_of_the_file_itself_pass_and_a_group_that_holds_itself_ends(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("a")
        group.create_dataset("large", data=np.ones((64, 64)), chunks=(8, 8), compression="gzip")
        group["kind"] = np.dtype("f4")
        group["again"] = group
    door_hdf5.refuse_other_files(tmp_path / "a.h5")
