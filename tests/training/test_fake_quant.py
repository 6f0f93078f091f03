from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stages.training import fake_quant, networks
from tests.fixtures.errors import refused

SHAPE = (8, 8, 3)


@pytest.fixture(autouse=True)
def seeded(tf: Any) -> None:
    tf.keras.utils.set_random_seed(0)


def pixels(count: int = 4, shape: tuple[int, ...] = SHAPE) -> Any:
    return np.random.default_rng(count).uniform(0, 1, (count, *shape)).astype(np.float32)


def chain(tf: Any, *layers: Any, shape: tuple[int, ...] = SHAPE) -> Any:
    """A functional model of layers one after another."""
    given = x = tf.keras.layers.Input(shape)
    for layer in layers:
        x = layer(x)
    return tf.keras.Model(given, x)


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
    branches = [layers.Conv2D(2, 1)(given * 2 - 1), tf.nn.relu6(given) + given]
    return tf.keras.Model(given, layers.Dense(3, "softmax")(layers.Flatten()(tf.concat(branches, axis=-1))))


NESTED = [on_backbone, sequential_inside, two_levels_deep, the_last_layer_inside, one_used_twice, operations_between]


@pytest.mark.parametrize("build", NESTED)
def test_a_flat_network_has_no_model_inside_and_answers_as_before(tf: Any, build: Callable[[Any], Any]) -> None:
    model = build(tf)
    expected = model(pixels()).numpy()
    flat = fake_quant.flatten(tf, model)
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
    flat = fake_quant.flatten(tf, model)
    simulated, left_out = fake_quant.simulate(tf, flat)
    for network in (flat, simulated):
        assert (list(network.input_names), list(network.output_names)) == (["right", "left"], ["sure", "kind"])
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
    flat = fake_quant.flatten(tf, model)
    np.testing.assert_allclose(flat(pixels()).numpy(), expected, atol=1e-6)
    kinds = [type(layer).__name__ for layer in flat.layers]
    assert kinds.count("Softmax") == (last != "none")
    assert kinds[-1] == ("Dense" if last == "none" else "Softmax")
    assert not [layer for layer in flat.layers if getattr(layer, "activation", None) is tf.keras.activations.softmax]


def mixed(tf: Any) -> Any:
    """A network of what the library knows and what it does not."""
    layers = tf.keras.layers
    return chain(
        tf, layers.Conv2D(4, 3, padding="same", use_bias=False), layers.BatchNormalization(), layers.ReLU(),
        layers.BatchNormalization(), layers.SeparableConv2D(4, 3), layers.BatchNormalization(),
        layers.Activation("swish"), layers.PReLU(), layers.GlobalAveragePooling2D(), layers.Dense(3), layers.Softmax(),
    )  # fmt: skip


def test_what_is_left_in_float_is_counted_by_kind(tf: Any) -> None:
    simulated, left = fake_quant.simulate(tf, mixed(tf))
    assert left == {"BatchNormalization": 2, "PReLU": 1, "SeparableConv2D": 1}
    assert sum(layer.name.startswith("quant_") for layer in simulated.layers) == 7


def test_batch_normalisation_counts_as_folded_only_where_nothing_else_sees_the_convolution(tf: Any) -> None:
    layers = tf.keras.layers
    given = layers.Input(SHAPE)
    shared, seen = layers.BatchNormalization(), layers.Conv2D(4, 3)(given)
    x = shared(layers.Conv2D(4, 1)(shared(layers.Conv2D(4, 3)(given))))
    model = tf.keras.Model(given, layers.Add()([x, layers.BatchNormalization()(seen), seen]))
    assert fake_quant.simulate(tf, model)[1] == {"BatchNormalization": 2}


def test_a_layer_with_an_activation_that_the_library_does_not_know_is_left_in_float(tf: Any) -> None:
    layers = tf.keras.layers
    network = chain(
        tf, layers.Conv2D(4, 3, activation="elu"), layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization(),
        layers.Flatten(), layers.Dense(3, activation=tf.nn.relu6), layers.Dense(3), layers.Softmax(),
    )  # fmt: skip
    simulated, left = fake_quant.simulate(tf, network)
    assert left == {"BatchNormalization": 1, "Conv2D": 1, "Dense": 1}
    with fake_quant.first_ranges():
        simulated(pixels(), training=True)
    np.testing.assert_allclose(simulated(pixels()).numpy(), network(pixels()).numpy(), atol=0.05)


def test_layers_of_one_name_in_two_models_inside_are_named_apart(tf: Any) -> None:
    layers = tf.keras.layers
    given = layers.Input(SHAPE)
    sides = [chain(tf, layers.Conv2D(2, 3, name="conv"), layers.Flatten(name="flat")) for _ in range(2)]
    model = tf.keras.Model(given, layers.Dense(3, "softmax")(layers.Concatenate()([side(given) for side in sides])))
    expected = model(pixels()).numpy()
    flat = fake_quant.flatten(tf, model)
    np.testing.assert_allclose(flat(pixels()).numpy(), expected, atol=1e-6)
    assert len({layer.name for layer in flat.layers if layer.name.endswith("conv")}) == 2


def by_name(network: Any) -> dict[str, Any]:
    return {variable.name: variable.numpy() for variable in network.variables}


def test_a_simulation_begins_with_the_weights_of_the_original_and_answers_nearly_as_it(tf: Any) -> None:
    network = mixed(tf)
    before = by_name(network)
    simulated, _ = fake_quant.simulate(tf, network)
    found = by_name(simulated)
    assert len(before) == 19
    for name, value in before.items():
        np.testing.assert_array_equal(found[name], value)
    with fake_quant.first_ranges():
        simulated(pixels(), training=True)
    gap = np.abs(simulated(pixels()).numpy() - network(pixels()).numpy()).max()
    assert 0 < gap < 0.02


def test_training_moves_weights_and_ranges_and_no_batch_normalisation(tf: Any) -> None:
    network = mixed(tf)
    for layer in network.layers:
        layer.trainable = False  # as a backbone is left that never learned
    simulated, _ = fake_quant.simulate(tf, network)
    before = by_name(simulated)
    simulated.compile(tf.keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    simulated.fit(pixels(12), np.arange(12) % 3, epochs=2, verbose=0)
    after = by_name(simulated)
    moved = {name for name, value in before.items() if not np.array_equal(after[name], value)}
    learned = {name for name in before if name.endswith(("kernel:0", "bias:0", "alpha:0"))}
    assert len(learned) == 7
    assert learned <= moved
    assert not [name for name in moved if name.startswith("batch_normalization")]
    assert {name for name in before if name.endswith(("kernel_max:0", "output_max:0"))} <= moved


def test_a_network_that_the_library_refuses_is_a_sentence(tf: Any, capfd: pytest.CaptureFixture[str]) -> None:
    layers = tf.keras.layers
    network = chain(tf, layers.Lambda(lambda x: 2 * x), layers.Flatten(), layers.Dense(3))
    error = refused(fake_quant.simulate, tf, network)
    assert error.code == "qat-not-simulated"
    assert "ValueError: Requested the deserialization" in str(error) and "\n" not in str(error)
    assert error.__cause__ is None and error.__suppress_context__
    assert "Traceback" not in capfd.readouterr().err


def test_depthwise_weights_are_rounded_with_a_range_for_each_channel(tf: Any) -> None:
    layers = tf.keras.layers
    network = chain(tf, layers.DepthwiseConv2D(3, depth_multiplier=2), layers.Flatten(), layers.Dense(3))
    kernel, bias = network.layers[1].get_weights()
    wide = kernel * np.float32([1, 100, 1e4])[:, None]  # by one range for all, the first would be nothing
    network.layers[1].set_weights([wide, bias])
    simulated, _ = fake_quant.simulate(tf, network)
    with fake_quant.first_ranges():
        simulated(pixels(), training=True)
    peaks = next(value for name, value in by_name(simulated).items() if "peak" in name)
    np.testing.assert_allclose(peaks, np.abs(wide).max(axis=(0, 1)).ravel(), rtol=1e-6)
    first, *_ = (layer for layer in simulated.layers if "depthwise" in layer.name)
    one = chain(tf, layers.DepthwiseConv2D(3, depth_multiplier=2))
    one.set_weights([wide, bias])
    exact, rounded = one(pixels()).numpy(), tf.keras.Model(simulated.inputs, first.output)(pixels()).numpy()
    span = np.ptp(exact, axis=(0, 1, 2))
    assert (np.abs(rounded - exact).max(axis=(0, 1, 2)) / span)[-2:].max() < 0.05


def plain(tf: Any) -> Any:
    layers = tf.keras.layers
    network = chain(tf, layers.Conv2D(4, 3), layers.ReLU(), layers.Flatten(), layers.Dense(3), layers.Softmax())
    network.set_weights([50 * value for value in network.get_weights()])  # beyond the 6 at which ranges begin
    return network


def ranges(simulated: Any, kind: str) -> tuple[float, float]:
    """Of the input, or of what ReLU or the last Dense layer makes."""
    found = {name: float(value) for name, value in by_name(simulated).items() if value.shape == ()}
    (low,), (high,) = ([found[name] for name in found if kind in name and end in name] for end in ("min:0", "max:0"))
    return low, high


def test_first_ranges_are_those_of_the_batch_in_later_layers_too(tf: Any) -> None:
    network = plain(tf)
    relu = tf.keras.Model(network.inputs, network.layers[2].output)(pixels()).numpy()
    logits = tf.keras.Model(network.inputs, network.layers[4].output)(pixels()).numpy()
    simulated, _ = fake_quant.simulate(tf, network)
    with fake_quant.first_ranges():
        simulated(pixels() / 2, training=True)
        simulated(pixels(), training=True)
    assert ranges(simulated, "quantize_layer") == pytest.approx((0, pixels().max()), rel=1e-6)
    assert ranges(simulated, "re_lu") == pytest.approx((0, relu.max()), rel=0.05)
    assert ranges(simulated, "post_activation") == pytest.approx((logits.min(), logits.max()), rel=0.1)
    assert relu.max() > 6 and logits.max() > 60


def test_without_first_ranges_they_begin_elsewhere_and_move_slowly(tf: Any) -> None:
    network = plain(tf)
    relu = tf.keras.Model(network.inputs, network.layers[2].output)(pixels()).numpy()
    simulated, _ = fake_quant.simulate(tf, network)
    assert ranges(simulated, "re_lu") == (-6, 6)
    with fake_quant.first_ranges():
        pass
    simulated(pixels(), training=True)
    assert ranges(simulated, "re_lu")[1] == pytest.approx(6 + 0.001 * (relu.max() - 6), rel=1e-3)


def test_the_librarys_own_function_is_back_afterwards_also_after_an_error() -> None:
    from tensorflow_model_optimization.python.core.quantization.keras import quant_ops

    library = quant_ops.moving_averages
    with fake_quant.first_ranges():
        assert quant_ops.moving_averages is not library
    assert quant_ops.moving_averages is library
    with pytest.raises(KeyError), fake_quant.first_ranges():
        raise KeyError
    assert quant_ops.moving_averages is library
