from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.training import calls, fake_quant, networks
from tests.fixtures.chains import SHAPE, chain, pixels


@pytest.fixture(autouse=True)
def seeded(tf: Any) -> None:
    tf.keras.utils.set_random_seed(0)


def backbone(tf: Any) -> Any:
    layers = tf.keras.layers
    return chain(
        tf, layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU(), layers.GlobalAveragePooling2D(),
        layers.Dense(9, "softmax"),
    )  # fmt: skip


def on_backbone(tf: Any) -> Any:
    return networks.on_backbone(tf, backbone(tf), 3)


def sequential_inside(tf: Any) -> Any:
    layers = tf.keras.layers
    inner = tf.keras.Sequential([layers.Conv2D(4, 3), layers.ReLU(), layers.Flatten()])
    return chain(tf, inner, layers.Dense(3, "softmax"))


def two_levels_deep(tf: Any) -> Any:
    layers = tf.keras.layers
    inner = chain(tf, layers.Conv2D(4, 3), layers.ReLU(), shape=(10, 10, 3))
    middle = tf.keras.Sequential([layers.ZeroPadding2D(), inner, layers.Flatten()])
    return tf.keras.Sequential([layers.Input(SHAPE), middle, layers.Dense(3, "softmax")])


def the_last_layer_inside(tf: Any) -> Any:
    layers = tf.keras.layers
    head = chain(tf, layers.Dense(5, "relu"), layers.Dense(3, "softmax"), shape=(192,))
    return chain(tf, layers.Flatten(), head)


def one_used_twice(tf: Any) -> Any:
    layers = tf.keras.layers
    given = layers.Input(SHAPE)
    shared = chain(tf, layers.Conv2D(3, 3, padding="same"), layers.ReLU())
    return tf.keras.Model(given, layers.Dense(3, "softmax")(layers.Flatten()(shared(shared(given) - 0.5))))


def operations_between(tf: Any) -> Any:
    layers = tf.keras.layers
    given = layers.Input(SHAPE)
    branches = [layers.Conv2D(2, 1)(given * 2 - 1), tf.keras.ops.relu6(given) + given]
    return tf.keras.Model(
        given, layers.Dense(3, "softmax")(layers.Flatten()(tf.keras.ops.concatenate(branches, axis=-1)))
    )


NESTED = [on_backbone, sequential_inside, two_levels_deep, the_last_layer_inside, one_used_twice, operations_between]


@pytest.mark.parametrize("build", NESTED)
def test_a_flat_network_has_no_model_inside_and_answers_as_before(tf: Any, build: Callable[[Any], Any]) -> None:
    model = build(tf)
    expected = model(pixels()).numpy()
    flat = calls.flatten(tf, model)
    assert not [layer for layer in flat.layers if isinstance(layer, tf.keras.Model)]
    np.testing.assert_allclose(flat(pixels()).numpy(), expected, atol=1e-6)
    assert isinstance(flat.layers[-1], tf.keras.layers.Softmax)


def test_several_inputs_and_outputs_keep_their_names_and_order(tf: Any) -> None:
    layers = tf.keras.layers
    left, right = layers.Input(SHAPE, name="left"), layers.Input((4,), name="right")
    features = layers.Flatten()(chain(tf, layers.Conv2D(2, 3))(left))
    kind = layers.Dense(3, "softmax", name="kind")(layers.Concatenate()([features, right]))
    model = tf.keras.Model([right, left], [layers.Dense(1, "sigmoid", name="sure")(features), kind])
    given = [pixels(4, (4,)), pixels()]
    expected = [answer.numpy() for answer in model(given)]
    flat = calls.flatten(tf, model)
    simulated, left_out = fake_quant.simulate(tf, flat)
    for network in (flat, simulated):
        assert [tensor.name for tensor in network.inputs] == ["right", "left"]
        assert list(network.output_names) == ["sure", "kind"]
    assert left_out == {}
    for found, answer in zip(flat(given), expected, strict=True):
        np.testing.assert_allclose(found.numpy(), answer, atol=1e-6)


@pytest.mark.parametrize("last", ["dense", "activation", "layer", "inside", "none"])
def test_softmax_is_parted_from_the_layer_before_it(tf: Any, last: str) -> None:
    layers = tf.keras.layers
    dense = layers.Dense(3, "softmax" if last in ("dense", "inside") else None)
    after = {"activation": [layers.Activation("softmax")], "layer": [layers.Softmax()]}.get(last, [])
    inner = chain(tf, dense, *after, shape=(192,))
    model = chain(tf, layers.Flatten(), *([inner] if last == "inside" else [dense, *after]))
    expected = model(pixels()).numpy()
    flat = calls.flatten(tf, model)
    np.testing.assert_allclose(flat(pixels()).numpy(), expected, atol=1e-6)
    kinds = [type(layer).__name__ for layer in flat.layers]
    assert kinds.count("Softmax") == (last != "none")
    assert kinds[-1] == ("Dense" if last == "none" else "Softmax")
    assert not [layer for layer in flat.layers if getattr(layer, "activation", None) is tf.keras.activations.softmax]


def test_layers_of_one_name_in_two_models_inside_are_named_apart(tf: Any) -> None:
    layers = tf.keras.layers
    given = layers.Input(SHAPE)
    sides = [chain(tf, layers.Conv2D(2, 3, name="conv"), layers.Flatten(name="flat")) for _ in range(2)]
    model = tf.keras.Model(given, layers.Dense(3, "softmax")(layers.Concatenate()([side(given) for side in sides])))
    expected = model(pixels()).numpy()
    flat = calls.flatten(tf, model)
    np.testing.assert_allclose(flat(pixels()).numpy(), expected, atol=1e-6)
    assert len({layer.name for layer in flat.layers if layer.name.endswith("conv")}) == 2


def test_a_model_with_code_of_its_own_stays_as_a_layer(tf: Any) -> None:
    layers = tf.keras.layers

    class Twice(tf.keras.Model):  # type: ignore[misc]
        def call(self, images: Any) -> Any:
            return 2 * images

    model = chain(tf, layers.Conv2D(2, 3), Twice(name="twice"), layers.Flatten(), layers.Dense(3, "softmax"))
    expected = model(pixels()).numpy()
    flat = calls.flatten(tf, model)
    np.testing.assert_allclose(flat(pixels()).numpy(), expected, atol=1e-6)
    assert fake_quant.simulate(tf, flat)[1] == {"Twice": 1}


def test_a_file_is_taken_apart_as_the_model_was(tf: Any, tmp_path: Path) -> None:
    model = two_levels_deep(tf)
    expected = model(pixels()).numpy()
    model.save(tmp_path / "a.keras")
    flat = calls.flatten(tf, tf.keras.models.load_model(tmp_path / "a.keras"))
    np.testing.assert_allclose(flat(pixels()).numpy(), expected, atol=1e-6)
    assert [type(layer).__name__ for layer in flat.layers[1:]] == [
        "ZeroPadding2D", "Conv2D", "ReLU", "Flatten", "Dense", "Softmax"
    ]  # fmt: skip
