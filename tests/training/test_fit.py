from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.contracts import paths
from stages.contracts.preprocessing import Preprocessing
from stages.core import files
from stages.core.errors import PipelineError
from stages.data import batches, decode
from stages.data.fit import pixels as pixels_of
from stages.data.image_file import Photo
from stages.model import classifier
from stages.training import fit, networks
from tests.fixtures.models import Setting, paint


def test_a_share_of_each_class_is_set_apart_and_is_the_same_for_every_seed(setting: Setting) -> None:
    sets = fit.photographs(setting(("train.seeds", [1, 2])))
    assert Counter(photo.label for photo in sets.validation) == {0: 4, 1: 4, 2: 4}
    assert len(sets.train) == 48
    assert not {photo.name for photo in sets.train} & {photo.name for photo in sets.validation}
    assert fit.photographs(setting(("train.seeds", [3]))) == sets
    assert fit.photographs(setting(("split.seed", 1))) != sets


def test_near_duplicates_are_on_one_side(setting: Setting) -> None:
    rows = [row for _, row in files.read_csv(paths.TRAINING / "labels.csv", "file", "label", "group")]
    pairs = [(row["file"], row["label"], int(row["group"]) // 2) for row in rows]
    files.write_csv(paths.TRAINING / "labels.csv", ("file", "label", "group"), pairs)
    sets = fit.photographs(setting())
    group = {file: number for file, _, number in pairs}
    assert not {group[photo.name] for photo in sets.train} & {group[photo.name] for photo in sets.validation}


@pytest.mark.parametrize("counts", [{"red": 1, "green": 1}, {"red": 1}])
def test_too_few_images_name_the_key(setting: Setting, counts: dict[str, int]) -> None:
    paint(counts)
    with pytest.raises(PipelineError, match=r"^train\.validation: \d images in \d groups .* cannot be divided"):
        fit.photographs(setting())


def test_classes_count_alike_with_the_weights_of_scikit_learn() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    photos = [Photo(Path("a"), "a", label) for label in [0] * 6 + [1] * 3 + [3]]
    found = fit.weights_by_class(photos, 5)
    assert found == {0: 10 / 18, 1: 10 / 9, 2: 0.0, 3: 10 / 3, 4: 0.0}
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=np.array([0] * 6 + [1] * 3 + [3]))
    assert [found[0], found[1], found[3]] == expected.tolist()


def row(epoch: int, loss: float) -> dict[str, float]:
    return {"epoch": epoch, "loss": 1.0, "val_loss": loss}


def test_the_weights_of_the_best_epoch_come_back(tf: Any) -> None:
    variables = [tf.Variable([0.0, 0.0]), tf.Variable(0.0)]
    best = fit.Best(variables)
    for epoch, loss in enumerate((0.9, 0.4, 0.4, 0.7), 1):
        for variable in variables:
            variable.assign(tf.zeros_like(variable) + epoch)
        best.note(row(epoch, loss))
    assert best.row["epoch"] == 2
    best.restore()
    assert [np.max(variable.numpy()) for variable in variables] == [2, 2]
    assert [found["epoch"] for found in best.curve] == [1, 2, 3, 4]


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
@pytest.mark.parametrize("key", ["loss", "val_loss"])
def test_an_epoch_without_a_finite_loss_is_refused(loss: float, key: str) -> None:
    best = fit.Best([])
    best.note(row(1, 0.5))
    with pytest.raises(PipelineError, match="after epoch 2 the loss or a weight is not finite"):
        best.note(row(2, 0.4) | {key: loss})
    assert best.row["epoch"] == 1


def test_a_weight_that_is_no_number_is_refused_though_the_loss_is_one(tf: Any) -> None:
    best = fit.Best([tf.Variable([1.0, float("nan")])])
    with pytest.raises(PipelineError, match="after epoch 1 the loss or a weight is not finite"):
        best.note(row(1, 0.5))


@pytest.mark.parametrize("channels", ["rgb", "bgr", "gray"])
def test_training_sees_what_inference_will(setting: Setting, tf: Any, channels: str) -> None:
    own = setting(("custom.channels", channels), ("custom.mean", 0.3), ("custom.std", 0.1))
    prepared = classifier.preprocessing(8, 12, channels, own.custom, 1 / 255)
    network = networks.small(tf, prepared.shape, 3)
    model = fit.trainee(tf, network, lambda images, _: network(images), prepared, own.train.augment)
    photos = fit.photographs(own).validation
    pixels = np.stack([pixels_of(decode.decode(photo.path), prepared) for photo in photos])
    expected = network(np.stack([batches.load(photo.path, prepared) for photo in photos])).numpy()
    np.testing.assert_allclose(model(pixels, training=False).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("cached", [True, False])
def test_a_data_set_has_every_image_once_and_in_order_unless_it_is_shuffled(
    setting: Setting, tf: Any, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    if not cached:
        monkeypatch.setattr(fit, "MOST_CACHED_BYTES", 0)
    prepared = Preprocessing(4, 6, "stretch", 1.0, (1.0,) * 3, (0.0,) * 3, "rgb")
    photos = fit.photographs(setting()).train
    expected = [pixels_of(decode.decode(photo.path), prepared).tobytes() for photo in photos]

    def seen(found: Any) -> list[bytes]:
        return [pixels.tobytes() for batch, _ in found.as_numpy_iterator() for pixels in batch]

    plain = fit.dataset(tf, photos, prepared, 10, shuffled=False)
    batches = list(plain.as_numpy_iterator())
    assert [len(batch) for batch, _ in batches] == [10, 10, 10, 10, 8]
    assert batches[0][0].dtype == np.uint8
    assert seen(plain) == seen(plain) == expected
    assert np.concatenate([classes for _, classes in batches]).tolist() == [photo.label for photo in photos]
    tf.keras.utils.set_random_seed(0)
    shuffled = fit.dataset(tf, photos, prepared, 10, shuffled=True)
    first, second = seen(shuffled), seen(shuffled)
    assert Counter(first) == Counter(second) == Counter(expected)
    assert first != expected and first != second
