from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.core.errors import PipelineError
from stages.model import classifier
from stages.model.classifier import Classifier
from stages.model.signatures import Model
from stages.params import load
from stages.params.model import CustomParams
from tests.fixtures.errors import named, refused

SHIPPED = load.read(CustomParams, Path(__file__).parents[2] / "params.yaml")


def custom(**changes: Any) -> CustomParams:
    return replace(SHIPPED, **changes)


def model(
    tf: Any,
    shape: tuple[int | None, ...] = (None, 8, 6, 3),
    dtype: str = "float32",
    outputs: int = 5,
    act: Callable[[Any], Any] | None = None,
) -> Model:
    """A model with one input, whose answer to each image hangs on all its pixels and their order."""
    rng = np.random.default_rng(0)

    def call(given: dict[str, Any]) -> dict[str, Any]:
        flat = tf.reshape(tf.cast(given["photo"], tf.float32), [tf.shape(given["photo"])[0], -1])
        kernel = tf.constant(rng.normal(0, 1, (flat.shape[1], outputs)).astype(np.float32))
        return {"class": (act or tf.nn.softmax)(flat @ kernel / 10)}

    rng_state = rng.bit_generator.state

    def again(given: dict[str, Any]) -> dict[str, Any]:
        rng.bit_generator.state = rng_state
        return call(given)

    return Model(
        {"photo": tf.TensorSpec(shape, dtype)}, {"class": tf.TensorSpec([None, outputs], tf.float32)}, again, [], 7
    )


def made(tf: Any, found: Model, **changes: Any) -> Classifier:
    return classifier.classifier(tf, found, custom(**changes))


def refusal(tf: Any, found: Model, **changes: Any) -> PipelineError:
    return refused(partial(made, tf, found, **changes))


def answers(tf: Any, found: Classifier, images: Any) -> Any:
    return found.call(tf.constant(images)).numpy()


@pytest.mark.parametrize(
    ("shape", "changes", "expected"),
    [
        ((None, 8, 6, 3), {}, (8, 6, "rgb")),
        ((None, 8, 6, 3), {"size": (8, 6), "channels": "bgr"}, (8, 6, "bgr")),
        ((None, 8, 6, 1), {}, (8, 6, "gray")),
        ((None, 3, 8, 6), {}, (8, 6, "rgb")),
        ((None, 1, 8, 6), {}, (8, 6, "gray")),
        ((None, None, None, 3), {"size": (5, 4)}, (5, 4, "rgb")),
        ((None, 8, None, 3), {"size": (8, 4)}, (8, 4, "rgb")),
        ((None, 3, None, None), {"size": (5, 4)}, (5, 4, "rgb")),
        ((None, None, None, None), {"size": (5, 4)}, (5, 4, "rgb")),
        ((None, None, None, None), {"size": (5, 4), "channels": "gray"}, (5, 4, "gray")),
    ],
)
def test_the_input_says_how_images_are_prepared(
    tf: Any, shape: tuple[int | None, ...], changes: dict[str, Any], expected: tuple[int, int, str]
) -> None:
    found = made(tf, model(tf, shape), **changes)
    prepared = found.preprocessing
    assert (prepared.height, prepared.width, prepared.channels) == expected
    assert prepared.shape[2] == (1 if expected[2] == "gray" else 3)
    assert (found.classes, found.parameters) == (5, 7)
    np.testing.assert_allclose(answers(tf, found, prepared.noise(3)).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("channels_first", [False, True])
def test_images_reach_the_model_in_its_own_order(tf: Any, channels_first: bool) -> None:
    own = model(tf, (None, 3, 8, 6) if channels_first else (None, 8, 6, 3))
    found = made(tf, own)
    images = found.preprocessing.noise(3)
    placed = images.transpose(0, 3, 1, 2) if channels_first else images
    expected = own.call({"photo": tf.constant(placed)})["class"].numpy()
    np.testing.assert_allclose(answers(tf, found, images), expected, atol=1e-6)


def test_resizing_and_the_crop_are_those_of_params(tf: Any) -> None:
    prepared = made(tf, model(tf), resize="resize-crop", crop_fraction=0.5).preprocessing
    assert (prepared.resize, prepared.crop_fraction) == ("resize-crop", 0.5)


@pytest.mark.parametrize(
    ("changes", "scale", "offset"),
    [
        ({}, [1 / 255] * 3, [0, 0, 0]),
        ({"mean": (0.5,), "std": (0.25,)}, [4 / 255] * 3, [-2, -2, -2]),
        ({"scale": (1.0,), "mean": (1.0, 2.0, 3.0), "std": (2.0,)}, [0.5] * 3, [-0.5, -1, -1.5]),
        ({"scale": (0.5, 1.0, 2.0), "std": (1.0, 2.0, 4.0)}, [0.5, 0.5, 0.5], [0, 0, 0]),
    ],
)
def test_scale_mean_and_std_become_a_factor_and_an_offset(
    tf: Any, changes: dict[str, Any], scale: list[float], offset: list[float]
) -> None:
    prepared = made(tf, model(tf), **changes).preprocessing
    assert prepared.scale == pytest.approx(scale)
    assert prepared.offset == pytest.approx(offset)


@pytest.mark.parametrize(
    ("key", "values", "channels"),
    [("mean", (1.0, 2.0), 3), ("std", (1.0, 2.0, 3.0), 1), ("scale", (1.0, 2.0), 1)],
)
def test_as_many_values_as_channels(tf: Any, key: str, values: tuple[float, ...], channels: int) -> None:
    error = refusal(tf, model(tf, (None, 8, 6, channels)), **{key: values})
    expected = ("channel-values", f"custom.{key}", len(values), channels)
    assert named(error, "key", "values", "channels") == expected


@pytest.mark.parametrize(
    ("shape", "changes", "key", "words"),
    [
        ((None, 784), {}, "custom.input", "[None, 784]"),
        ((None, 8, 6, 3), {"channels": "gray"}, "custom.channels", "rgb or bgr"),
        ((None, 8, 6, 1), {"channels": "rgb"}, "custom.channels", "to gray"),
        ((None, 8, 6, 4), {}, "custom.channels", "1 or 3 channels"),
        ((None, None, None, 3), {}, "custom.size", "[height, width]"),
        ((None, 8, 6, 3), {"size": (6, 8)}, "custom.size", "takes [8, 6]"),
    ],
)
def test_an_input_that_does_not_fit_is_described(
    tf: Any, shape: tuple[int | None, ...], changes: dict[str, Any], key: str, words: str
) -> None:
    error = refusal(tf, model(tf, shape), **changes)
    assert named(error, "key") == ("input-no-images", key)
    assert f"photo (float32 {[*shape]})" in str(error) and words in str(error)


def test_an_input_of_a_fixed_batch_is_refused(tf: Any) -> None:
    assert named(refusal(tf, model(tf, (1, 8, 6, 3))), "batch_size") == ("input-fixed-batch", 1)


@pytest.mark.parametrize("dtype", ["int32", "string", "bool"])
def test_an_input_of_another_type_is_refused(tf: Any, dtype: str) -> None:
    error = refusal(tf, model(tf, dtype=dtype))
    assert error.code == "input-no-images" and f"photo ({dtype} [None, 8, 6, 3])" in str(error)


def test_an_input_of_unknown_rank_is_refused(tf: Any) -> None:
    found = model(tf)._replace(inputs={"photo": tf.TensorSpec(None, tf.float32)})
    error = refusal(tf, found)
    assert error.code == "input-no-images" and "photo (float32 ?)" in str(error)


def test_pixels_of_uint8_arrive_as_they_are(tf: Any) -> None:
    own = model(tf, dtype="uint8", act=lambda x: tf.nn.softmax(x / 255))
    found = made(tf, own)
    assert set(found.preprocessing.scale) == {1.0} and set(found.preprocessing.offset) == {0.0}
    pixels = np.random.default_rng(1).integers(0, 256, (3, 8, 6, 3), np.uint8)
    expected = own.call({"photo": tf.constant(pixels)})["class"].numpy()
    images = found.preprocessing.normalize(pixels)
    np.testing.assert_allclose(answers(tf, found, images + 0.4), expected, atol=1e-6)  # rounded, not cut off


def test_a_model_of_uint8_can_be_a_tflite_file(tf: Any) -> None:
    """Which has no operation for each of TensorFlow's."""
    own = classifier.classifier(tf, model(tf, dtype="uint8", act=lambda x: tf.nn.softmax(x / 255)), custom())
    served = tf.function(own.call, input_signature=[tf.TensorSpec([1, 8, 6, 3], tf.float32)])
    found = tf.lite.TFLiteConverter.from_concrete_functions([served.get_concrete_function()], served).convert()
    interpreter = tf.lite.Interpreter(model_content=found)
    interpreter.allocate_tensors()
    images = np.random.default_rng(1).uniform(-20, 280, (1, 8, 6, 3)).astype(np.float32)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], images)
    interpreter.invoke()
    answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(answer, own.call(images).numpy(), atol=1e-5)


@pytest.mark.parametrize("changes", [{"scale": (0.5,)}, {"mean": (1.0,)}, {"std": (2.0,)}])
def test_pixels_of_uint8_are_not_scaled(tf: Any, changes: dict[str, Any]) -> None:
    assert refusal(tf, model(tf, dtype="uint8"), **changes).code == "pixels-changed"


def test_a_model_of_fp16_is_fed_fp16_and_answers_in_fp32(tf: Any) -> None:
    own = model(tf, dtype="float16", act=lambda x: tf.cast(tf.nn.softmax(x), tf.float16))
    found = made(tf, own)
    assert answers(tf, found, found.preprocessing.noise(2)).dtype == np.float32


def test_logits_become_probabilities(tf: Any) -> None:
    found = made(tf, model(tf, act=lambda x: 10 * x), answers="logits")
    answer = answers(tf, found, found.preprocessing.noise(3))
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-5)
    assert answer.min() > 0


@pytest.mark.parametrize("kind", ["probabilities", "logits"])
@pytest.mark.parametrize("flat", [False, True])
def test_a_single_output_is_the_second_of_two_classes(tf: Any, kind: str, flat: bool) -> None:
    def act(x: Any) -> Any:
        sure = x if kind == "logits" else tf.sigmoid(x)
        return tf.reshape(sure, [-1]) if flat else sure

    own = model(tf, outputs=1, act=act)
    found = made(tf, own, answers=kind)
    images = found.preprocessing.noise(3)
    answer = answers(tf, found, images)
    assert (found.classes, answer.shape) == (2, (3, 2))
    raw = own.call({"photo": tf.constant(images)})["class"].numpy().reshape(3)
    np.testing.assert_allclose(answer[:, 1], 1 / (1 + np.exp(-raw)) if kind == "logits" else raw, atol=1e-6)
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-6)


def test_an_answer_with_more_dimensions_of_one_is_flattened(tf: Any) -> None:
    found = made(tf, model(tf, act=lambda x: tf.nn.softmax(x)[:, None, None]))
    assert answers(tf, found, found.preprocessing.noise(3)).shape == (3, 5)


def test_logits_that_are_called_probabilities_are_noticed(tf: Any) -> None:
    error = refusal(tf, model(tf, act=lambda x: 10 * x))
    assert named(error, "key", "output") == ("output-no-probabilities", "custom.answers", "class")
    assert " from -" in str(error)


def test_a_single_logit_that_is_called_a_probability_is_noticed(tf: Any) -> None:
    error = refusal(tf, model(tf, outputs=1, act=lambda x: 10 * x))
    assert named(error, "key", "output") == ("output-no-probabilities", "custom.answers", "class")


def test_probabilities_that_are_called_logits_are_noticed(tf: Any) -> None:
    expected = ("output-no-logits", "custom.answers", "class")
    assert named(refusal(tf, model(tf), answers="logits"), "key", "output") == expected


def test_several_sigmoids_are_not_one_class_in_several(tf: Any) -> None:
    assert refusal(tf, model(tf, act=tf.sigmoid)).code == "output-no-probabilities"


def test_an_answer_that_is_not_finite_is_refused(tf: Any) -> None:
    assert named(refusal(tf, model(tf, act=lambda x: x / 0)), "output") == ("output-not-finite", "class")


def test_an_output_that_tells_the_class_alone_is_refused(tf: Any) -> None:
    found = model(tf, act=lambda x: tf.argmax(x, axis=1))
    error = refusal(tf, found._replace(outputs={"class": tf.TensorSpec([None], tf.int64)}))
    assert named(error, "output") == ("output-no-scores", "class")


def test_an_answer_that_is_not_one_for_each_image_is_refused(tf: Any) -> None:
    found = model(tf, act=lambda x: tf.reduce_mean(tf.nn.softmax(x), axis=0, keepdims=True))
    assert named(refusal(tf, found), "output", "shape") == ("output-shape", "class", [1, 5])


def test_a_model_that_fails_on_images_of_its_size_says_so(tf: Any) -> None:
    def call(_: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("Dimensions must be\n  equal")

    found = model(tf, (None, None, None, 3))._replace(call=call)
    error = refusal(tf, found, size=(5, 4))
    assert named(error, "key", "shape") == ("model-fails", "custom.size", [5, 4, 3])
    assert "(Dimensions must be equal)" in str(error)


@pytest.fixture
def wide(tf: Any) -> Model:
    """Inputs photo, about [n, 2] and step [], outputs kind and aux; answers tell the other inputs."""

    def call(given: dict[str, Any]) -> dict[str, Any]:
        about = given["about"] + tf.zeros([tf.shape(given["photo"])[0], 2])  # fails on another batch size
        scores = tf.concat([about, tf.repeat(tf.cast(given["step"], tf.float32)[None, None], len(about), axis=0)], 1)
        return {"kind": tf.nn.softmax(scores), "aux": scores}

    inputs = {
        "photo": tf.TensorSpec([None, 8, 6, 3], tf.float32),
        "about": tf.TensorSpec([None, 2], tf.float32),
        "step": tf.TensorSpec([], tf.int32),
    }
    outputs = {name: tf.TensorSpec([None, 3], tf.float32) for name in ("kind", "aux")}
    return Model(inputs, outputs, call, [], 0)


OTHERS = {"about": [1, 2], "step": 3}


@pytest.mark.parametrize("about", [[1, 2], 0.5])
def test_other_inputs_are_the_same_for_every_image(tf: Any, wide: Model, about: Any) -> None:
    found = made(tf, wide, input="photo", output="kind", other_inputs={"about": about, "step": 3})
    answer = answers(tf, found, found.preprocessing.noise(7))
    expected = np.exp([*np.broadcast_to(about, 2), 3])
    np.testing.assert_allclose(answer, np.broadcast_to(expected / expected.sum(), (7, 3)), rtol=1e-5)


WIDE = {"input": "photo", "output": "kind"}


@pytest.mark.parametrize(
    ("changes", "code", "values"),
    [
        ({}, "tensor-ambiguous", {"key": "custom.input", "names": ["photo", "about", "step"]}),
        ({"input": "image"}, "tensor-unknown", {"key": "custom.input", "name": "image"}),
        ({"input": "photo"}, "tensor-ambiguous", {"key": "custom.output", "names": ["kind", "aux"]}),
        ({"input": "photo", "output": "class"}, "tensor-unknown", {"key": "custom.output", "name": "class"}),
        (WIDE | {"other_inputs": {"step": 1}}, "inputs-missing", {"names": ["about"]}),
        (WIDE | {"other_inputs": OTHERS | {"meta": 1}}, "inputs-unknown", {"names": ["meta"]}),
        (WIDE | {"other_inputs": OTHERS | {"photo": 1}}, "inputs-unknown", {"names": ["photo"]}),
    ],
)
def test_several_inputs_and_outputs_are_named(
    tf: Any, wide: Model, changes: dict[str, Any], code: str, values: dict[str, Any]
) -> None:
    error = refusal(tf, wide, **changes)
    assert error.code == code
    assert error.values | values == error.values


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("about", value) for value in ([1, 2, 3], "high", None, {"a": 1}, [[1], [2, 3]])),
        *(("step", value) for value in (1.5, [1, 2], None)),
    ],
)
def test_another_input_that_does_not_fit_is_named(tf: Any, wide: Model, name: str, value: Any) -> None:
    error = refusal(tf, wide, **WIDE, other_inputs=OTHERS | {name: value})
    assert named(error, "key", "value") == ("input-misfit", f"custom.other_inputs.{name}", value)


def test_other_inputs_of_a_model_that_has_none_are_refused(tf: Any) -> None:
    error = refusal(tf, model(tf), other_inputs={"training": False})
    assert named(error, "names") == ("inputs-unknown", ["training"])


def test_a_switch_is_another_input_too(tf: Any) -> None:
    plain = model(tf)
    found = plain._replace(
        inputs=plain.inputs | {"training": tf.TensorSpec([], tf.bool)},
        call=lambda given: {"class": plain.call(given)["class"] * (0.0 if given["training"] else 1.0)},
    )
    right = made(tf, found, input="photo", other_inputs={"training": False})
    np.testing.assert_allclose(answers(tf, right, right.preprocessing.noise(2)).sum(axis=1), 1, atol=1e-5)
    error = refusal(tf, found, input="photo", other_inputs={"training": True})
    assert error.code == "output-no-probabilities" and " 0 for an image" in str(error)
