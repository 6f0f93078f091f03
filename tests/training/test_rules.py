from typing import Any

import pytest

from stages.training import calls
from stages.training.rules import Rules
from tests.fixtures.chains import SHAPE, chain, mixed


def left(tf: Any, network: Any) -> dict[str, int]:
    return Rules(tf, network).left_in_float


def ranged(tf: Any, network: Any) -> list[str]:
    """The kinds of layers and operations behind which a range stands."""
    rules = Rules(tf, network)
    return [type(call.operation).__name__ for call in calls.of(tf, network) if rules.has_range(call)]


def test_what_is_left_in_float_is_counted_by_kind(tf: Any) -> None:
    network = mixed(tf)
    assert left(tf, network) == {"BatchNormalization": 2, "PReLU": 1, "SeparableConv2D": 1}
    assert ranged(tf, network) == ["ReLU", "Activation", "GlobalAveragePooling2D", "Dense"]


def test_a_layer_that_is_called_twice_counts_once(tf: Any) -> None:
    layers = tf.keras.layers
    given, shared = layers.Input(SHAPE), layers.PReLU()
    assert left(tf, tf.keras.Model(given, shared(shared(given)))) == {"PReLU": 1}


def test_batch_normalisation_counts_as_folded_only_where_nothing_else_sees_the_convolution(tf: Any) -> None:
    layers = tf.keras.layers
    given = layers.Input(SHAPE)
    shared, seen = layers.BatchNormalization(), layers.Conv2D(4, 3)(given)
    x = shared(layers.Conv2D(4, 1)(shared(layers.Conv2D(4, 3)(given))))
    model = tf.keras.Model(given, layers.Add()([x, layers.BatchNormalization()(seen), seen]))
    assert left(tf, model) == {"BatchNormalization": 2}


def test_batch_normalisation_is_not_folded_where_an_answer_is_read_or_another_axis_is_meant(tf: Any) -> None:
    layers = tf.keras.layers
    given = layers.Input(SHAPE)
    seen = layers.Conv2D(4, 3)(given)
    across = layers.BatchNormalization(axis=1)(layers.Conv2D(4, 3)(given))
    always = layers.BatchNormalization()(layers.Conv2D(4, 3)(given), training=True)
    folded = layers.BatchNormalization(axis=3)(layers.Conv2D(4, 3)(given))
    ends = [seen, layers.BatchNormalization()(seen), across, always, folded]
    assert left(tf, tf.keras.Model(given, ends)) == {"BatchNormalization": 3}


def test_a_layer_with_an_activation_that_has_no_rule_is_left_in_float(tf: Any) -> None:
    layers = tf.keras.layers
    network = chain(
        tf, layers.Conv2D(4, 3, activation="elu"), layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization(),
        layers.Flatten(), layers.Dense(3, activation=tf.nn.selu), layers.Dense(3), layers.Activation("mish"),
    )  # fmt: skip
    assert left(tf, network) == {"Activation": 1, "BatchNormalization": 1, "Conv2D": 1, "Dense": 1}


def test_a_class_of_the_users_with_a_name_of_keras_is_left_in_float(tf: Any) -> None:
    class Dense(tf.keras.layers.Dense):  # type: ignore[misc]
        pass

    assert left(tf, chain(tf, Dense(3), tf.keras.layers.Dense(3))) == {"Dense": 1}


@pytest.mark.parametrize("kind", ["layer", "relu6", "activation", "operation"])
@pytest.mark.parametrize("before", ["Conv2D", "DepthwiseConv2D", "Dense", "BatchNormalization", "Add"])
def test_relu_is_a_part_of_what_it_follows(tf: Any, before: str, kind: str) -> None:
    layers = tf.keras.layers
    given = layers.Input(SHAPE)
    x = {
        "Conv2D": lambda: layers.Conv2D(4, 3)(given),
        "DepthwiseConv2D": lambda: layers.DepthwiseConv2D(3)(given),
        "Dense": lambda: layers.Dense(4)(given),
        "BatchNormalization": lambda: layers.BatchNormalization()(layers.Conv2D(4, 3)(given)),
        "Add": lambda: layers.Add()([given, given]),
    }[before]()
    relu = {
        "layer": layers.ReLU(), "relu6": layers.ReLU(6.0), "activation": layers.Activation("relu"),
        "operation": tf.keras.ops.relu6,
    }[kind]  # fmt: skip
    last = {"layer": "ReLU", "relu6": "ReLU", "activation": "Activation", "operation": "Relu6"}[kind]
    assert ranged(tf, tf.keras.Model(given, relu(x))) == [last]
    assert ranged(tf, tf.keras.Model(given, [relu(x), x])) == [before, last]


@pytest.mark.parametrize("other", [{"max_value": 4.0}, {"negative_slope": 0.1}, {"threshold": 1.0}])
def test_a_relu_of_another_kind_is_computed_by_itself(tf: Any, other: dict[str, float]) -> None:
    layers = tf.keras.layers
    assert ranged(tf, chain(tf, layers.Conv2D(4, 3), layers.ReLU(**other))) == ["Conv2D", "ReLU"]


def test_what_is_concatenated_alone_has_one_range_in_common(tf: Any) -> None:
    layers = tf.keras.layers
    given = layers.Input(SHAPE)
    alone, read = layers.Conv2D(4, 3)(given), layers.DepthwiseConv2D(3)(given)
    joined = layers.Concatenate()([alone, read])
    model = tf.keras.Model(given, layers.Concatenate()([joined, layers.MaxPooling2D(1)(read)]))
    assert sorted(ranged(tf, model)) == ["Concatenate", "DepthwiseConv2D"]


def test_what_only_moves_values_or_has_a_range_that_never_changes_gets_none(tf: Any) -> None:
    layers = tf.keras.layers
    network = chain(
        tf, layers.ZeroPadding2D(), layers.MaxPooling2D(), layers.Activation("sigmoid"), layers.Dropout(0.5),
        layers.Reshape((75,)), layers.Softmax(),
    )  # fmt: skip
    assert (ranged(tf, network), left(tf, network)) == ([], {})
