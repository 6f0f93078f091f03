import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.contracts.labels import Labels
from stages.core.tensorflow import tensorflow
from stages.data import batches, sources
from tests.fixtures import models
from tests.fixtures.models import Named

Value = bytes | int | float | list[int]


def encoded(kind: str, seed: int = 0) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(content, kind)
    return content.getvalue()


JPEG = encoded("JPEG")


def feature(value: Value) -> Any:
    train = tensorflow().train
    if isinstance(value, bytes):
        return train.Feature(bytes_list=train.BytesList(value=[value]))
    if isinstance(value, float):
        return train.Feature(float_list=train.FloatList(value=[value]))
    return train.Feature(int64_list=train.Int64List(value=value if isinstance(value, list) else [value]))


def write(path: Path, *records: dict[str, Value]) -> Path:
    tf = tensorflow()
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            features = {name: feature(value) for name, value in record.items()}
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    return path


def refusal(named: Named, source: str = "shards") -> str:
    return models.refusal(named, source)


def test_the_bytes_of_every_image_are_kept_under_the_suffix_of_their_format(
    checkout: Path, tmp_path: Path, tiny_labels: Labels
) -> None:
    kinds = ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"]
    contents = [encoded(kind, seed) for seed, kind in enumerate(kinds)]
    write(checkout / "shards/a.tfrecord", *({"image": content, "label": 2} for content in contents))
    found = sources.labelled("shards", tiny_labels, checkout, tmp_path)
    assert [photo.name for photo in found] == [
        f"a.tfrecord/{number:06d}{suffix}"
        for number, suffix in enumerate((".jpg", ".png", ".gif", ".bmp", ".webp", ".tif"), 1)
    ]
    assert [photo.path.read_bytes() for photo in found] == contents
    assert {photo.label for photo in found} == {2}
    assert batches.files(tmp_path / "records") == [photo.path for photo in found]


@pytest.mark.parametrize(
    "names",
    [
        ("validation-00000-of-00002", "validation-00001-of-00002"),
        ("mnist-test.tfrecord-00000-of-00002", "mnist-test.tfrecord-00001-of-00002"),
        ("a.tfrecord", "b.tfrecords"),
    ],
)
def test_all_shards_of_a_folder_are_read_in_order(checkout: Path, named: Named, names: tuple[str, str]) -> None:
    for label in (1, 0):
        write(checkout / "shards" / names[label], {"image/encoded": JPEG, "image/class/label": label})
    (checkout / "shards/dataset_info.json").write_text("{}")
    assert named("shards") == [(f"{names[label]}/000001.jpg", label) for label in (0, 1)]


def test_a_single_file_may_be_named(checkout: Path, named: Named) -> None:
    write(checkout / "shards/a.tfrecord", {"image": JPEG, "label": 3})
    assert named("shards/a.tfrecord") == [("a.tfrecord/000001.jpg", 3)]


def test_imagenets_shards_are_labelled_by_their_synset_since_their_numbers_count_from_1(
    checkout: Path, named: Named
) -> None:
    more = {"image/class/text": b"tench, Tinca tinca", "image/filename": b"ILSVRC2012_val_00000007.JPEG"}
    about = {"image/encoded": JPEG, "image/class/synset": b"n01440764", "image/class/label": 1}
    write(checkout / "shards/validation-00000-of-00001", about | more)
    assert named("shards") == [("validation-00000-of-00001/000001_ILSVRC2012_val_00000007.jpg", 0)]


def test_a_class_name_goes_before_the_number_where_the_model_knows_it(checkout: Path, named: Named) -> None:
    record = {"image/encoded": JPEG, "image/class/label": 1}
    write(checkout / "known/a.tfrecord", *(record | {"image/class/text": name} for name in (b"tench", b"dog")))
    write(checkout / "other/a.tfrecord", record | {"image/class/text": b"dog"})
    assert "\n  a.tfrecord record 2 has the unknown label 'dog' (allowed: 0 to 3," in refusal(named, "known")
    assert [label for _, label in named("other")] == [1]


def test_a_number_is_a_place_even_where_a_class_is_called_by_one(checkout: Path, tmp_path: Path) -> None:
    write(checkout / "shards/a.tfrecord", {"image": JPEG, "label": 1})
    found = sources.labelled("shards", Labels(("1", "0"), ("", "")), checkout, tmp_path)
    assert [photo.label for photo in found] == [1]


def test_every_unknown_label_is_listed(checkout: Path, named: Named) -> None:
    write(checkout / "shards/a.tfrecord", *({"image": JPEG, "label": label} for label in (4, 0, -1)))
    lines = refusal(named).splitlines()
    assert lines[0] == "problems in shards (2), mend or remove each:"
    assert lines[1].startswith("  a.tfrecord record 1 has the unknown label '4' (allowed: 0 to 3")
    assert lines[2].startswith("  a.tfrecord record 3 has the unknown label '-1'")


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        (
            {"image/width": 8, "label": 1},
            "a.tfrecord record 1 has no feature image/encoded or image, but these: image/width, label; write it there",
        ),
        (
            {"image": JPEG, "height": 8},
            "a.tfrecord record 1 has no feature image/class/label or label, but these: height, image; write it there",
        ),
        ({}, "a.tfrecord record 1 has no feature image/encoded or image, but these: none; write it there"),
        (
            {"image": [1, 2, 3], "label": 1},
            "a.tfrecord record 1 should have one text or whole number in image, but it has 3",
        ),
        (
            {"image": JPEG, "label": 1.0},
            "a.tfrecord record 1 should have one text or whole number in label, but it has 0",
        ),
        (
            {"image": 5, "label": 1},
            "a.tfrecord record 1 holds a number for its image: write the bytes of a JPEG or PNG there",
        ),
    ],
    ids=["no image", "no label", "nothing", "pixels", "float label", "number for image"],
)
def test_a_record_that_lacks_something_is_named_with_what_it_has(
    checkout: Path, named: Named, record: dict[str, Value], sentence: str
) -> None:
    write(checkout / "shards/a.tfrecord", record)
    assert refusal(named) == sentence


@pytest.mark.parametrize("fault", ["cut short", "a flipped bit", "no TFRecord"])
def test_a_damaged_shard_is_named_with_how_far_it_was_read(checkout: Path, named: Named, fault: str) -> None:
    path = write(checkout / "shards/a.tfrecord", *[{"image": JPEG, "label": 1}] * 2)
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes({"cut short": content[:-50], "a flipped bit": content, "no TFRecord": b"<html>" * 9}[fault])
    assert refusal(named) == (
        f"{path} is no TFRecord file of tf.train.Example, or it is damaged "
        f"(after {0 if fault == 'no TFRecord' else 1} records): fetch or write it again"
    )


def test_a_record_that_is_no_example_is_told(checkout: Path, named: Named) -> None:
    path = checkout / "shards/a.tfrecord"
    path.parent.mkdir()
    with tensorflow().io.TFRecordWriter(str(path)) as writer:
        writer.write(b"\x01nonsense")
    assert "is no TFRecord file of tf.train.Example" in refusal(named)


def test_shards_without_records_hold_no_images(checkout: Path, named: Named) -> None:
    write(checkout / "shards/a.tfrecord")
    assert refusal(named).startswith("shards holds no images")


def test_training_and_validation_shards_in_one_folder_are_not_mixed(checkout: Path, named: Named) -> None:
    for name in ("train-00000-of-00001", "validation-00000-of-00001"):
        write(checkout / "shards" / name, {"image": JPEG, "label": 1})
    assert refusal(named) == (
        f"{checkout}/shards holds TFRecord shards of several sets (train, validation): "
        "move each into a folder of its own, and name one in params.yaml"
    )


def test_shards_serve_for_calibration_without_labels(checkout: Path, tmp_path: Path) -> None:
    write(checkout / "shards/a.tfrecord", {"image": JPEG})
    (found,) = sources.unlabelled("shards", checkout, tmp_path)
    assert (found.name, found.label) == ("a.tfrecord/000001.jpg", None)
    assert found.path.read_bytes() == JPEG
