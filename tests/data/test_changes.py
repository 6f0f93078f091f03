"""A change of any file that params.yaml names is noticed, without reading it."""

import dataclasses
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stages import environment
from stages.contracts import codec
from stages.contracts.environment import SOURCES, Sources
from stages.core import errors, files
from stages.data import changes
from stages.params import document

Edit = Callable[..., None]
REMOTE = "not a local file"


def digests(checkout: Path) -> dict[str, Any]:
    return dataclasses.asdict(changes.digests(document.check().sources, checkout))


def test_what_is_not_local_has_no_digests(checkout: Path, edit: Edit) -> None:
    edit(("evaluation.source", "https://host/photos.zip#sha256=" + "0" * 64))
    found = digests(checkout)
    assert {key for key, digest in found.items() if digest and digest.startswith(REMOTE)} == {
        "weights", "evaluation", "calibration"
    }  # fmt: skip
    assert {found[key] for key in ("path", "labels", "split", "train", "qat")} == {None}


def test_a_long_address_is_not_taken_for_a_file(checkout: Path, edit: Edit) -> None:
    edit(("evaluation.source", f"https://bucket.s3.amazonaws.com/photos.zip?version={'f' * 400}#sha256=" + "0" * 64))
    assert digests(checkout)["evaluation"].startswith(REMOTE)


@pytest.fixture
def photos(checkout: Path, edit: Edit) -> Path:
    for name in ("a.jpg", "sub/b.jpg"):
        files.write_text(checkout / "photos" / name, "pixels")
    edit(("calibration.source", "photos"))
    return checkout / "photos"


def test_a_fingerprint_is_stable_and_of_one_key_only(checkout: Path, photos: Path) -> None:
    found = digests(checkout)
    assert found == digests(checkout)
    assert found["weights"].startswith(REMOTE) and found["evaluation"].startswith(REMOTE)
    assert len(found["calibration"]) == 64


def add(photos: Path) -> None:
    files.write_text(photos / "sub/c.jpg", "pixels")


def remove(photos: Path) -> None:
    (photos / "sub/b.jpg").unlink()


def rename(photos: Path) -> None:
    (photos / "a.jpg").rename(photos / "z.jpg")


def grow(photos: Path) -> None:
    (photos / "a.jpg").write_text("more pixels")


def touch(photos: Path) -> None:
    os.utime(photos / "sub/b.jpg", ns=(1, 1))


@pytest.mark.parametrize("target", ["loop", "a.jpg/deeper"])
def test_a_link_that_leads_nowhere_changes_nothing(checkout: Path, photos: Path, target: str) -> None:
    before = digests(checkout)
    (photos / "loop").symlink_to(target)
    assert digests(checkout) == before


@pytest.mark.parametrize("change", [add, remove, rename, grow, touch])
def test_a_change_of_any_file_is_noticed(checkout: Path, photos: Path, change: Callable[[Path], None]) -> None:
    before = digests(checkout)
    change(photos)
    after = digests(checkout)
    assert after["calibration"] != before["calibration"]
    assert after["evaluation"] == before["evaluation"]


def test_a_single_file_is_fingerprinted_too(checkout: Path, edit: Edit) -> None:
    files.write_text(checkout / "mine.h5", "weights")
    edit(("model.weights", "mine.h5"))
    before = digests(checkout)["weights"]
    assert len(before) == 64
    (checkout / "mine.h5").write_text("other weights")
    assert digests(checkout)["weights"] != before


def test_relative_paths_start_at_the_checkout_given(
    photos: Path, checkout: Path, tmp_path: Path, command_line: Callable[..., None]
) -> None:
    photos.rename(tmp_path / "photos")
    assert digests(checkout)["calibration"].startswith(REMOTE)
    command_line("--checkout", tmp_path)
    environment.main()
    calibration = codec.read(Sources, SOURCES).calibration
    assert calibration and len(calibration) == 64


def test_an_absolute_path_and_a_home_folder_are_found(
    photos: Path, tmp_path: Path, edit: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(photos.parent))
    found = []
    for source in (str(photos), "~/photos"):
        edit(("calibration.source", source))
        found.append(digests(tmp_path / "elsewhere")["calibration"])
    assert found[0] == found[1] and len(found[0]) == 64


def test_a_model_of_ones_own_is_fingerprinted_with_what_names_its_classes(checkout: Path, edit: Edit) -> None:
    files.write_text(checkout / "own/saved_model.pb", "graph")
    files.write_text(checkout / "evaluation/cat/a.jpg", "pixels")
    files.write_text(checkout / "whole/cat/a.jpg", "other pixels")
    files.write_text(checkout / "names.txt", "cat")
    edit(("model.name", "custom"), ("model.path", "own"), ("evaluation.source", "evaluation"))
    found = digests(checkout)
    assert len(found["path"]) == 64
    assert found["labels"] == found["evaluation"] and len(found["labels"]) == 64
    assert found["train"] is found["split"] is None
    edit(("split.source", "whole"))
    assert digests(checkout)["labels"] == digests(checkout)["split"] != found["labels"]
    edit(("custom.labels", "names.txt"))
    named = digests(checkout)["labels"]
    assert named != found["labels"] and len(named) == 64
    files.write_text(checkout / "names.txt", "a cat")
    files.write_text(checkout / "own/saved_model.pb", "another graph")
    assert digests(checkout)["labels"] != named
    assert digests(checkout)["path"] != found["path"]


def test_images_to_train_with_are_fingerprinted_where_something_is_trained(checkout: Path, edit: Edit) -> None:
    files.write_text(checkout / "training/cat/a.jpg", "pixels")
    edit(("train.source", "training"))
    assert digests(checkout)["train"] is None
    edit(("model.name", "custom"), ("model.path", "trained"), ("custom.size", [8, 8]))
    found = digests(checkout)
    assert len(found["train"]) == 64 and found["qat"] is None
    assert found["path"].startswith(REMOTE)


def test_a_variant_that_is_trained_for_int8_has_a_fingerprint_that_tells_so(checkout: Path, edit: Edit) -> None:
    files.write_text(checkout / "training/cat/a.jpg", "pixels")
    edit(("train.source", "training"), ("variants", ["tflite-int8"]))
    assert digests(checkout)["qat"] is None
    edit(("variants", ["tflite-int8", "tflite-int8-qat"]))
    found = digests(checkout)
    assert found["qat"] == found["train"] and len(found["qat"]) == 64
    edit(("train.source", "https://host/training.zip#sha256=" + "0" * 64))
    assert digests(checkout)["qat"].startswith(REMOTE)


def test_another_remote_source_is_another_digest(checkout: Path, edit: Edit) -> None:
    """The classes of a user's model may come from images that are fetched."""
    edit(
        ("model.name", "custom"), ("model.path", "own"), ("evaluation.source", "https://host/a.zip#sha256=" + "0" * 64)
    )
    before = digests(checkout)["labels"]
    edit(("evaluation.source", "https://host/b.zip#sha256=" + "1" * 64))
    assert digests(checkout)["labels"] != before


@pytest.mark.parametrize("name", ["photos/a.png", "photos/new.png", "model.keras"])
def test_what_changes_while_it_is_read_fails_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    for place in ("photos/a.png", "photos/b.png", "model.keras"):
        files.write_text(tmp_path / place, "one")
    source = name.partition("/")[0]

    def main(content: str) -> None:
        assert changes.watched(source, tmp_path) == tmp_path / source
        files.write_text(tmp_path / name, content)

    with pytest.raises(SystemExit):
        errors.run(partial(main, "another"))
    assert f"error: {source} changed while it was in use: run " in capsys.readouterr().err
    errors.run(lambda: changes.watched("nowhere", tmp_path))


def test_a_name_of_any_bytes_is_fingerprinted(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")).write_bytes(b"1")
    assert len(changes.stat_digest(tmp_path)) == 64
