from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.contracts.preprocessing import Preprocessing
from stages.core import isolate
from stages.core.tensorflow import tensorflow
from stages.data import examples
from stages.data.examples import Examples
from stages.model import formats, saved_model
from stages.model.classifier import Classifier
from tests.fixtures.errors import assert_helps, named, refused

PREPARED = Preprocessing(6, 8, "stretch", 1.0, (1 / 255,) * 3, (0.0,) * 3, "rgb")
SHOWN = examples.read(PREPARED, Path("nowhere"))


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
    assert saved_model.write(tf, model, tmp_path, "tiny", SHOWN).difference <= 1e-6
    signatures = tf.saved_model.load(str(tmp_path)).signatures
    assert list(signatures) == ["serving_default"]
    found = signatures["serving_default"]
    assert found.structured_input_signature[1]["images"].shape.as_list() == [None, 6, 8, 3]
    for size in (1, 5):
        images = np.random.default_rng(size).uniform(0, 1, (size, 6, 8, 3)).astype(np.float32)
        answer = found(images=tf.constant(images))["probabilities"].numpy()
        np.testing.assert_allclose(answer, images.mean(axis=(1, 2)), atol=1e-6)


def save_layers(folder: Path) -> None:
    """A Keras model of seeded weights, saved by a process of its own."""
    tf = tensorflow(1)
    tf.keras.utils.set_random_seed(0)
    given = tf.keras.Input(PREPARED.shape)
    x = tf.keras.layers.BatchNormalization()(tf.keras.layers.Conv2D(2, 3)(given))
    x = tf.keras.layers.Dropout(0.5)(tf.keras.layers.GlobalAveragePooling2D()(x))
    network = tf.keras.Model(given, tf.keras.layers.Dense(3, "softmax")(x))
    saved_model.save(tf, Classifier(network, formats.held(network), PREPARED, 3, 1), folder)


def test_the_same_model_is_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    """What was converted of it is not converted again."""
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        isolate.call(save_layers, folder)
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in folders
    )
    assert {path.name for path in first} >= {"saved_model.pb", "fingerprint.pb"}
    assert first == second


def test_the_difference_is_the_largest_of_any_answer(tf: Any, model: Classifier, shift: Any, tmp_path: Path) -> None:
    saved_model.save(tf, model, tmp_path)
    shift.assign(0.25)
    gap = saved_model.difference(tf, model, tmp_path, SHOWN)
    assert gap.difference == pytest.approx(0.25, abs=1e-6)
    assert not gap.close and gap.words == SHOWN.words
    np.testing.assert_allclose(gap.answers, SHOWN.images.mean(axis=(1, 2)), atol=1e-5)


@pytest.mark.parametrize(("change", "far"), [(0.01, 0.01), (float("nan"), float("inf"))])
def test_a_savedmodel_that_answers_otherwise_is_refused(
    tf: Any, model: Classifier, shift: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: float, far: float
) -> None:
    save = saved_model.save

    def spoilt(*arguments: Any) -> None:
        save(*arguments)
        shift.assign(change)

    monkeypatch.setattr(saved_model, "save", spoilt)
    error = refused(saved_model.write, tf, model, tmp_path, "tiny", SHOWN)
    assert named(error, "model") == ("saved-model-differs", "tiny")
    assert error.values["difference"] == pytest.approx(far, rel=1e-4)


def test_a_caller_may_allow_more(
    tf: Any, model: Classifier, shift: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = saved_model.save

    def spoilt(*arguments: Any) -> None:
        save(*arguments)
        shift.assign(0.05)

    monkeypatch.setattr(saved_model, "save", spoilt)
    assert saved_model.write(tf, model, tmp_path, "tiny", SHOWN, 0.1).difference == pytest.approx(0.05, abs=1e-5)


@pytest.mark.parametrize(("factor", "half", "refuses"), [(1, False, False), (0.996, False, True), (0.996, True, False)])
def test_a_model_is_compared_with_what_its_own_runtime_answers(
    tf: Any, model: Classifier, factor: float, half: bool, refuses: bool
) -> None:
    converted = replace(model, original=lambda images: model.call(images) * factor, original_half=half)
    if not refuses:
        assert saved_model.refuse_other_answers(tf, "mine", converted, SHOWN) == pytest.approx(1 - factor, abs=1e-3)
        return
    error = refused(saved_model.refuse_other_answers, tf, "mine", converted, SHOWN)
    assert named(error, "model", "key") == ("onnx-import-differs", "mine", "model.path")
    assert_helps(error, SHOWN.words)


def test_a_model_that_was_not_converted_has_nothing_to_be_compared_with(tf: Any, model: Classifier) -> None:
    assert saved_model.refuse_other_answers(tf, "mine", model, SHOWN) is None


def test_another_resize_shows_on_pixels_and_not_on_noise_of_0_to_1(tf: Any) -> None:
    """Two ways to make an image smaller, in a model that takes pixels of 0 to 255 as they are."""
    pixels = replace(PREPARED, height=16, width=16, scale=(1.0,) * 3)

    def grain(way: str) -> Any:
        def call(images: Any) -> Any:
            smaller = images[:, ::2, ::2] if way == "every other" else tf.image.resize(images, (8, 8))
            power = tf.reduce_mean((smaller - 128) ** 2, [1, 2, 3])[:, None]
            return tf.nn.softmax(tf.concat([0 * power, 0.004 * power - 9], 1))

        return call

    model = Classifier(grain("mean"), [], pixels, 2, 0, original=grain("every other"))
    error = refused(saved_model.refuse_other_answers, tf, "grain", model, examples.read(pixels, Path("nowhere")))
    assert error.code == "onnx-import-differs" and error.values["difference"] > 0.9
    outside = Examples(np.random.default_rng(0).uniform(0, 1, (4, 16, 16, 3)).astype(np.float32), "noise of 0 to 1")
    assert refused(saved_model.refuse_other_answers, tf, "grain", model, outside).code == "answers-alike"
