from typing import Any

import numpy as np
import pytest

from stages.training import rounding
from tests.fixtures.chains import pixels


@pytest.fixture(autouse=True)
def seeded(tf: Any) -> None:
    tf.keras.utils.set_random_seed(0)


def ends(layer: Any) -> tuple[float, float]:
    return float(layer.low.numpy()), float(layer.high.numpy())


def test_a_range_begins_elsewhere_and_moves_slowly(tf: Any) -> None:
    layer = rounding.ranged(tf, "a_range")
    assert ends(layer) == (-6, 6)
    layer(tf.constant([-100.0, 50.0]), training=True)
    assert ends(layer) == pytest.approx((-6.094, 6.044))
    layer(tf.constant([-100.0, 50.0]))
    assert ends(layer) == pytest.approx((-6.094, 6.044))


def test_a_first_range_is_that_of_the_last_batch_and_holds_0(tf: Any) -> None:
    layer = rounding.ranged(tf, "a_range")
    with rounding.first_ranges():
        layer(tf.constant([-1.0, 90.0]), training=True)
        layer(tf.constant([2.0, 9.0]), training=True)
    assert ends(layer) == (0, 9)
    layer(tf.constant([-2.0, 9.0]), training=True)
    assert ends(layer) == pytest.approx((-0.002, 9))


def test_ranges_move_slowly_again_afterwards_also_after_an_error(tf: Any) -> None:
    layer = rounding.ranged(tf, "a_range")
    with pytest.raises(KeyError), rounding.first_ranges():
        raise KeyError
    layer(tf.constant([0.0, 1006.0]), training=True)
    assert ends(layer) == pytest.approx((-5.994, 7))


def test_the_widest_range_takes_in_all_that_passes(tf: Any) -> None:
    layer = rounding.ranged(tf, "a_range", widest=True)
    assert ends(layer) == (0, 0)
    for batch in ([0.5, 2.0], [1.0, 1.0], [-3.0, 1.0]):
        layer(tf.constant(batch), training=True)
    assert ends(layer) == (-3, 2)


def test_a_range_is_followed_in_a_training_of_keras_too(tf: Any) -> None:
    given = tf.keras.layers.Input((2,))
    layer = rounding.ranged(tf, "a_range")
    model = tf.keras.Model(given, tf.keras.layers.Dense(1)(layer(given)))
    model.compile("sgd", "mse")
    model.fit(np.float32([[6, 106], [0, 0]]), np.zeros((2, 1)), batch_size=2, epochs=2, verbose=0)
    low, high = ends(layer)
    assert (low, high) == pytest.approx((-6 * 0.999**2, 106 - 100 * 0.999**2), rel=1e-5)


def test_what_passes_is_on_256_steps_and_what_is_beyond_the_range_ends_there(tf: Any) -> None:
    layer = rounding.ranged(tf, "a_range")
    layer.low.assign(-0.5)
    layer.high.assign(2.05)
    found = layer(tf.linspace(-3.0, 3.0, 10_000)).numpy()
    assert len(np.unique(found)) == 256
    np.testing.assert_allclose((found.min(), found.max()), (-0.5, 2.05), atol=1e-6)
    assert 0.0 in found
    np.testing.assert_allclose(found / 0.01, np.round(found / 0.01), atol=1e-3)


def made(tf: Any, layer: Any, images: Any) -> Any:
    """The layer, called once so that it has weights, which differ by channel as far as none in common would bear."""
    layer(images)
    kernel, *bias = layer.get_weights()
    channels = kernel.shape[2:] if "depthwise" in layer.name else kernel.shape[3:]
    wide = np.geomspace(1, 1e4, int(np.prod(channels))).astype(np.float32).reshape(channels)
    layer.set_weights([kernel * wide, *bias])
    return layer


CONVOLUTIONS = {
    "plain": lambda layers: layers.Conv2D(6, 3, 2, padding="same"),
    "dilated": lambda layers: layers.Conv2D(6, 3, dilation_rate=2, use_bias=False),
    "grouped": lambda layers: layers.Conv2D(6, 3, groups=3),
    "depthwise": lambda layers: layers.DepthwiseConv2D(3, 2, depth_multiplier=2, padding="same"),
    "depthwise_dilated": lambda layers: layers.DepthwiseConv2D(3, dilation_rate=2, use_bias=False),
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_convolution_rounds_its_weights_with_a_range_for_each_channel(tf: Any, kind: str) -> None:
    layer = made(tf, CONVOLUTIONS[kind](tf.keras.layers), pixels())
    exact, found = layer(pixels()).numpy(), rounding.weighted(tf, layer, None)(pixels()).numpy()
    gap = np.abs(found - exact).max(axis=(0, 1, 2)) / np.abs(exact).max(axis=(0, 1, 2))
    assert gap.min() > 0 and gap.max() < 0.02


def test_depthwise_weights_have_a_range_for_each_channel_and_each_of_its_answers(tf: Any) -> None:
    layer = made(tf, tf.keras.layers.DepthwiseConv2D(3, depth_multiplier=2), pixels())
    kernel = layer.get_weights()[0]
    found = rounding.rounded(tf, layer, *rounding.folded(tf, layer, None)).numpy()
    assert found.shape == kernel.shape == (3, 3, 3, 2)
    np.testing.assert_allclose(np.abs(found).max(axis=(0, 1)), np.abs(kernel).max(axis=(0, 1)), rtol=1e-6)
    steps = found / np.abs(kernel).max(axis=(0, 1)) * 127
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    assert (np.abs(found - kernel) <= np.abs(kernel).max(axis=(0, 1)) / 254 * 1.001).all()


def test_a_dense_layer_rounds_its_weights_with_one_range(tf: Any) -> None:
    layer = tf.keras.layers.Dense(5)
    layer(pixels(4, (7,)))
    kernel = layer.get_weights()[0]
    steps = rounding.rounded(tf, layer, *rounding.folded(tf, layer, None)).numpy() / np.abs(kernel).max() * 127
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    assert np.abs(steps).max() == pytest.approx(127)
    np.testing.assert_allclose(steps / 127 * np.abs(kernel).max(), kernel, atol=np.abs(kernel).max() / 254 * 1.001)


@pytest.mark.parametrize("factors", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["Conv2D", "DepthwiseConv2D", "Dense"])
def test_folded_weights_do_what_the_layer_and_its_batch_normalisation_do(
    tf: Any, kind: str, bias: bool, factors: tuple[bool, bool]
) -> None:
    layers, rng = tf.keras.layers, np.random.default_rng(0)
    layer = {
        "Conv2D": lambda: layers.Conv2D(6, 3, use_bias=bias),
        "DepthwiseConv2D": lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=bias),
        "Dense": lambda: layers.Dense(6, use_bias=bias),
    }[kind]()
    norm = layers.BatchNormalization(scale=factors[0], center=factors[1])
    norm(layer(pixels()))
    for one in (layer, norm):
        one.set_weights([rng.uniform(0.1, 2, value.shape) for value in one.weights])
    kernel, added = rounding.folded(tf, layer, norm)
    expected = norm(layer(pixels())).numpy()
    twin = type(layer).from_config(layer.get_config() | {"use_bias": True})
    twin(pixels())
    twin.set_weights([kernel, added])
    np.testing.assert_allclose(twin(pixels()).numpy(), expected, rtol=1e-4, atol=1e-4)
    found = rounding.weighted(tf, layer, norm)(pixels()).numpy()
    assert 0 < np.abs(found - expected).max() < 0.02 * np.abs(expected).max()


def test_a_channel_without_weights_keeps_its_bias_and_gets_a_range_that_int32_bears(tf: Any) -> None:
    layer = tf.keras.layers.Conv2D(3, 1)
    layer(pixels())
    kernel = np.float32([1, 1e-20, 0]) * np.ones((1, 1, 3, 3), np.float32)
    layer.set_weights([kernel, np.float32([0, 5, 0])])
    found = rounding.weighted(tf, layer, None)(pixels()).numpy()
    np.testing.assert_allclose(found, layer(pixels()).numpy(), rtol=1e-2)
    assert rounding._peak(tf, tf.abs(kernel), [0, 1, 2], tf.constant([0.0, 5, 0])).numpy().tolist() == pytest.approx(
        [1, 5e-5, 1]
    )


def test_all_weights_learn_also_the_largest(tf: Any) -> None:
    """Whose range they are: rounding may put them a hair beyond it, where the operation by itself passes nothing on."""
    layer = tf.keras.layers.Conv2D(2000, 3, use_bias=False)
    layer(pixels())
    layer.set_weights([np.random.default_rng(0).normal(size=(3, 3, 3, 2000))])  # where that is so of 7
    with tf.GradientTape(persistent=True) as tape:
        exact, found = (tf.reduce_sum(one(pixels())) for one in (layer, rounding.weighted(tf, layer, None)))
    expected = tape.gradient(exact, layer.kernel.value).numpy()
    np.testing.assert_allclose(tape.gradient(found, layer.kernel.value).numpy(), expected, rtol=1e-4)
