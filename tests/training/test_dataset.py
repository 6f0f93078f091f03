from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.contracts.images import TABLE, TRAINING
from stages.contracts.preprocessing import Preprocessing
from stages.core import files
from stages.data import decode
from stages.data.fit import pixels as pixels_of
from stages.data.image_file import ImageFile
from stages.training import dataset
from stages.training.dataset import Sets
from stages.training.learn import Job
from tests.fixtures.coloured import paint
from tests.fixtures.errors import named, refused

Jobs = Callable[..., Job]


def read(job: Job) -> Sets:
    return dataset.read(job.train.validation, job.split_seed)


def test_a_share_of_each_class_is_set_apart_and_is_the_same_for_every_seed(job: Jobs) -> None:
    sets = read(job(("train.seeds", [1, 2])))
    assert Counter(image.label for image in sets.validation) == {0: 4, 1: 4, 2: 4}
    assert len(sets.train) == 48
    assert not {image.name for image in sets.train} & {image.name for image in sets.validation}
    assert read(job(("train.seeds", [3]))) == sets
    assert read(job(("split.seed", 1))) != sets


def test_near_duplicates_are_on_one_side(job: Jobs) -> None:
    rows = [row for _, row in files.read_csv(TRAINING / TABLE, "file", "label", "group")]
    pairs = [(row["file"], row["label"], int(row["group"]) // 2) for row in rows]
    files.write_csv(TRAINING / TABLE, ("file", "label", "group"), pairs)
    sets = read(job())
    group = {file: number for file, _, number in pairs}
    assert not {group[image.name] for image in sets.train} & {group[image.name] for image in sets.validation}


@pytest.mark.parametrize("counts", [{"red": 1, "green": 1}, {"red": 1}])
def test_too_few_images_name_the_key(job: Jobs, counts: dict[str, int]) -> None:
    paint(counts)
    error = refused(lambda: read(job()))
    assert named(error, "key", "images") == ("split-impossible", "train.validation", len(counts))


def test_classes_count_alike_with_the_weights_of_scikit_learn() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    images = [ImageFile(Path("a"), "a", label) for label in [0] * 6 + [1] * 3 + [3]]
    found = dataset.weights_by_class(images, 5)
    assert found == {0: 10 / 18, 1: 10 / 9, 2: 0.0, 3: 10 / 3, 4: 0.0}
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=np.array([0] * 6 + [1] * 3 + [3]))
    assert [found[0], found[1], found[3]] == expected.tolist()


def test_pixels_that_a_library_does_not_round_stay_fractions(job: Jobs, tf: Any) -> None:
    plain = (1.0,) * 3, (0.0,) * 3, "rgb"
    prepared = Preprocessing(5, 7, "stretch", 1.0, *plain, "bilinear", antialias=False, library="tensorflow")
    images = read(job()).train[:3]
    ((found, _),) = dataset.batches(tf, images, prepared, 3, shuffled=False).as_numpy_iterator()
    assert (found.dtype, found.shape) == (np.float32, (3, 5, 7, 3))
    assert (found != found.round()).any()
    photos = [tf.cast(np.asarray(decode.decode(image.path)), tf.float32) for image in images]
    np.testing.assert_array_equal(found, [tf.image.resize(photo, (5, 7)) for photo in photos])


@pytest.mark.parametrize("cached", [True, False])
def test_a_data_set_has_every_image_once_and_in_order_unless_it_is_shuffled(
    job: Jobs, tf: Any, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    if not cached:
        monkeypatch.setattr(dataset, "MOST_CACHED_BYTES", 0)
    prepared = Preprocessing(4, 6, "stretch", 1.0, (1.0,) * 3, (0.0,) * 3, "rgb")
    images = read(job()).train
    expected = [pixels_of(decode.decode(image.path), prepared).tobytes() for image in images]

    def seen(found: Any) -> list[bytes]:
        return [pixels.tobytes() for batch, _ in found.as_numpy_iterator() for pixels in batch]

    plain = dataset.batches(tf, images, prepared, 10, shuffled=False)
    batches = list(plain.as_numpy_iterator())
    assert [len(batch) for batch, _ in batches] == [10, 10, 10, 10, 8]
    assert batches[0][0].dtype == np.uint8
    assert seen(plain) == seen(plain) == expected
    assert np.concatenate([classes for _, classes in batches]).tolist() == [image.label for image in images]
    tf.keras.utils.set_random_seed(0)
    shuffled = dataset.batches(tf, images, prepared, 10, shuffled=True)
    first, second = seen(shuffled), seen(shuffled)
    assert Counter(first) == Counter(second) == Counter(expected)
    assert first != expected and first != second
