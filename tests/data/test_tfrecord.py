import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.contracts.labels import Labels
from stages.core.tensorflow import tensorflow
from stages.data import batches, sources, tfrecord
from tests.fixtures.errors import named as of
from tests.fixtures.errors import refused
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


def test_the_bytes_of_every_image_are_kept_under_the_suffix_of_their_format(
    checkout: Path, tmp_path: Path, tiny_labels: Labels
) -> None:
    kinds = ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"]
    contents = [encoded(kind, seed) for seed, kind in enumerate(kinds)]
    write(checkout / "shards/a.tfrecord", *({"image": content, "label": 2} for content in contents))
    found = sources.labelled("shards", tiny_labels, checkout, tmp_path).images
    assert [image.name for image in found] == [
        f"a.tfrecord/{number:06d}{suffix}"
        for number, suffix in enumerate((".jpg", ".png", ".gif", ".bmp", ".webp", ".tif"), 1)
    ]
    assert [image.path.read_bytes() for image in found] == contents
    assert {image.label for image in found} == {2}
    assert batches.files(tmp_path / "records") == [image.path for image in found]


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
    (problem,) = refused(named, "known").values["problems"]
    assert problem.startswith("a.tfrecord record 2 ") and "'dog'" in problem
    assert [label for _, label in named("other")] == [1]


def test_a_number_is_a_place_even_where_a_class_is_called_by_one(checkout: Path, tmp_path: Path) -> None:
    write(checkout / "shards/a.tfrecord", {"image": JPEG, "label": 1})
    found = sources.labelled("shards", Labels(("1", "0"), ("", "")), checkout, tmp_path).images
    assert [image.label for image in found] == [1]


def test_every_unknown_label_is_listed(checkout: Path, named: Named) -> None:
    write(checkout / "shards/a.tfrecord", *({"image": JPEG, "label": label} for label in (4, 0, -1)))
    error = refused(named, "shards")
    first, second = error.values["problems"]
    assert of(error, "source") == ("source-problems", "shards")
    assert first.startswith("a.tfrecord record 1 ") and "'4'" in first
    assert second.startswith("a.tfrecord record 3 ") and "'-1'" in second


@pytest.mark.parametrize(
    ("record", "code", "features"),
    [
        ({"image/width": 8, "label": 1}, "tfrecord-no-feature", ("image/encoded", "image")),
        ({"image": JPEG, "height": 8}, "tfrecord-no-feature", ("image/class/label", "label")),
        ({}, "tfrecord-no-feature", ("image/encoded", "image")),
        ({"image": [1, 2, 3], "label": 1}, "tfrecord-values", ("image", 3)),
        ({"image": JPEG, "label": 1.0}, "tfrecord-values", ("label", 0)),
        ({"image": 5, "label": 1}, "tfrecord-no-image", ()),
    ],
    ids=["no image", "no label", "nothing", "pixels", "float label", "number for image"],
)
def test_a_record_that_lacks_something_is_named_with_what_it_lacks(
    checkout: Path, named: Named, record: dict[str, Value], code: str, features: tuple[object, ...]
) -> None:
    write(checkout / "shards/a.tfrecord", record)
    error = refused(named, "shards")
    assert of(error, "record") == (code, "a.tfrecord record 1")
    values = error.values
    assert features == values.get("features", (values["feature"], values["values"]) if "feature" in values else ())


@pytest.mark.parametrize("fault", ["cut short", "a flipped bit", "no TFRecord"])
def test_a_damaged_shard_is_named_with_how_far_it_was_read(checkout: Path, named: Named, fault: str) -> None:
    path = write(checkout / "shards/a.tfrecord", *[{"image": JPEG, "label": 1}] * 2)
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes({"cut short": content[:-50], "a flipped bit": content, "no TFRecord": b"<html>" * 9}[fault])
    read = 0 if fault == "no TFRecord" else 1
    assert of(refused(named, "shards"), "file", "records") == ("tfrecord-damaged", str(path), read)


def test_a_length_beyond_its_file_takes_no_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tfrecord", {"image": JPEG, "label": 1})
    path.write_bytes(path.read_bytes() + (1 << 62).to_bytes(8, "little") + bytes(100))
    assert of(refused(tfrecord._refuse_long, path), "records") == ("tfrecord-damaged", 1)


def test_a_record_that_is_no_example_is_refused(checkout: Path, named: Named) -> None:
    path = checkout / "shards/a.tfrecord"
    path.parent.mkdir()
    with tensorflow().io.TFRecordWriter(str(path)) as writer:
        writer.write(b"\x01nonsense")
    assert of(refused(named, "shards"), "file") == ("tfrecord-damaged", str(path))


def test_shards_without_records_hold_no_images(checkout: Path, named: Named) -> None:
    write(checkout / "shards/a.tfrecord")
    assert of(refused(named, "shards"), "source") == ("source-empty", "shards")


def test_training_and_validation_shards_in_one_folder_are_not_mixed(checkout: Path, named: Named) -> None:
    for name in ("train-00000-of-00001", "validation-00000-of-00001"):
        write(checkout / "shards" / name, {"image": JPEG, "label": 1})
    expected = ("tfrecord-several-sets", f"{checkout}/shards", ["train", "validation"])
    assert of(refused(named, "shards"), "file", "sets") == expected


def test_shards_serve_for_calibration_without_labels(checkout: Path, tmp_path: Path) -> None:
    write(checkout / "shards/a.tfrecord", {"image": JPEG})
    (found,) = sources.unlabelled("shards", checkout, tmp_path).images
    assert (found.name, found.label) == ("a.tfrecord/000001.jpg", None)
    assert found.path.read_bytes() == JPEG
