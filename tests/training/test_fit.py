from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stages.contracts.training import Run
from stages.data import batches, decode
from stages.data.fit import pixels as pixels_of
from stages.model import classifier
from stages.training import dataset, fit, networks
from stages.training.learn import Job
from tests.fixtures.errors import named, refused


def row(epoch: int, loss: float) -> dict[str, float]:
    return {"epoch": epoch, "loss": 1.0, "val_loss": loss}


def test_the_weights_of_the_best_epoch_come_back(tf: Any) -> None:
    variables = [tf.Variable([0.0, 0.0]), tf.Variable(0.0)]
    best = fit.Best(variables)
    for epoch, loss in enumerate((0.9, 0.4, 0.4, 0.7), 1):
        for variable in variables:
            variable.assign(tf.zeros_like(variable) + epoch)
        best.note(row(epoch, loss))
    assert best.epoch["epoch"] == 2
    best.restore()
    assert [np.max(variable.numpy()) for variable in variables] == [2, 2]
    assert [found["epoch"] for found in best.curve] == [1, 2, 3, 4]


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
@pytest.mark.parametrize("key", ["loss", "val_loss"])
def test_an_epoch_without_a_finite_loss_is_refused(loss: float, key: str) -> None:
    best = fit.Best([])
    best.note(row(1, 0.5))
    error = refused(best.note, row(2, 0.4) | {key: loss})
    assert named(error, "key", "epoch") == ("training-not-finite", "train.learning_rate", 2)
    assert best.epoch["epoch"] == 1


def test_a_weight_that_is_no_number_is_refused_though_the_loss_is_one(tf: Any) -> None:
    best = fit.Best([tf.Variable([1.0, float("nan")])], "qat")
    error = refused(best.note, row(1, 0.5))
    assert named(error, "key", "epoch") == ("training-not-finite", "qat.learning_rate", 1)


def test_the_record_is_of_the_best_epoch() -> None:
    best = fit.Best([])
    for epoch, loss in enumerate((0.9, 0.4, 0.7), 1):
        best.note(row(epoch, loss) | {"val_accuracy": epoch / 4})
    assert best.run(seed=7, seconds=3.5) == Run(7, 2, 0.4, 0.5, 3.5)


@pytest.mark.parametrize("channels", ["rgb", "bgr", "gray"])
def test_training_sees_what_inference_will(job: Callable[..., Job], tf: Any, channels: str) -> None:
    own = job(("custom.channels", channels), ("custom.mean", 0.3), ("custom.std", 0.1))
    prepared = classifier.preprocessing(8, 12, channels, own.custom, 1 / 255)
    network = networks.small(tf, prepared.shape, 3)
    model = fit.trainee(tf, network, lambda images, _: network(images), prepared, own.train.augment)
    images = dataset.read(own.train.validation, own.split_seed).validation
    pixels = np.stack([pixels_of(decode.decode(image.path), prepared) for image in images])
    expected = network(np.stack([batches.load(image.path, prepared) for image in images])).numpy()
    np.testing.assert_allclose(model(pixels, training=False).numpy(), expected, atol=1e-5)
