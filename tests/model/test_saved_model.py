from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.contracts.preprocessing import Preprocessing
from stages.model import saved_model
from stages.model.classifier import Classifier
from tests.fixtures.errors import named, refused

PREPARED = Preprocessing(6, 8, "stretch", 1.0, (1 / 255,) * 3, (0.0,) * 3, "rgb")


@pytest.fixture
def shift(tf: Any) -> Any:
    """The variable that the model adds."""
    return tf.Variable(0.0)


@pytest.fixture
def model(tf: Any, shift: Any) -> Classifier:
    def call(images: Any) -> Any:
        return tf.reduce_mean(images, [1, 2]) + shift

    return Classifier(call, [shift], PREPARED, 3, 1)


def test_a_savedmodel_has_one_signature_with_names_for_any_batch_size(
    tf: Any, model: Classifier, tmp_path: Path
) -> None:
    assert saved_model.write(tf, model, tmp_path, "tiny") <= 1e-6
    signatures = tf.saved_model.load(str(tmp_path)).signatures
    assert list(signatures) == ["serving_default"]
    found = signatures["serving_default"]
    assert found.structured_input_signature[1]["images"].shape.as_list() == [None, 6, 8, 3]
    for size in (1, 5):
        images = np.random.default_rng(size).uniform(0, 1, (size, 6, 8, 3)).astype(np.float32)
        answer = found(images=tf.constant(images))["probabilities"].numpy()
        np.testing.assert_allclose(answer, images.mean(axis=(1, 2)), atol=1e-6)


def test_the_difference_is_the_largest_of_any_answer(tf: Any, model: Classifier, shift: Any, tmp_path: Path) -> None:
    saved_model.save(tf, model, tmp_path)
    shift.assign(0.25)
    assert saved_model.difference(tf, model, tmp_path) == pytest.approx(0.25, abs=1e-6)


@pytest.mark.parametrize("change", [0.01, float("nan")])
def test_a_savedmodel_that_answers_otherwise_is_refused(
    tf: Any, model: Classifier, shift: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: float
) -> None:
    save = saved_model.save

    def spoilt(*arguments: Any) -> None:
        save(*arguments)
        shift.assign(change)

    monkeypatch.setattr(saved_model, "save", spoilt)
    error = refused(saved_model.write, tf, model, tmp_path, "tiny")
    assert named(error, "model") == ("saved-model-differs", "tiny")
    assert error.values["difference"] == pytest.approx(change, nan_ok=True, rel=1e-4)


def test_a_caller_may_allow_more(tf: Any, model: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_model, "difference", lambda *_: 0.05)
    assert saved_model.write(tf, model, tmp_path, "tiny", tolerance=0.1) == 0.05
