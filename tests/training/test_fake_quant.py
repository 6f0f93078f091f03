from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.model import efficientnet_lite, formats, onnx_export
from stages.training import calls, fake_quant, rounding
from tests.fixtures.chains import SHAPE, chain, mixed, pixels, unsettle
from tests.fixtures.errors import refused


@pytest.fixture(autouse=True)
def seeded(tf: Any) -> None:
    tf.keras.utils.set_random_seed(0)


def settled(tf: Any, network: Any, images: Any) -> Any:
    """The network as INT8 computes it, with ranges that fit these images."""
    simulated, _ = fake_quant.simulate(tf, network)
    with rounding.first_ranges():
        simulated(images, training=True)
    return simulated


def values(network: Any) -> dict[str, Any]:
    """By the path of the variable, in which the layer stands that it was made for."""
    return {variable.path: variable.numpy() for variable in network.variables}


def ends(simulated: Any, name: str) -> tuple[float, float]:
    layer = simulated.get_layer(f"{name}_range")
    return float(layer.low.numpy()), float(layer.high.numpy())


def test_a_simulation_begins_with_the_weights_of_the_original_and_answers_nearly_as_it(tf: Any) -> None:
    network = mixed(tf)
    unsettle(tf, network)
    before, expected = values(network), network(pixels()).numpy()
    simulated, left = fake_quant.simulate(tf, network)
    assert left == {"BatchNormalization": 2, "PReLU": 1, "SeparableConv2D": 1}
    found = values(simulated)
    assert len(before) == 19
    for name, value in before.items():
        np.testing.assert_array_equal(found[name], value)
    with rounding.first_ranges():
        simulated(pixels(), training=True)
    gap = np.abs(simulated(pixels()).numpy() - expected).max()
    assert 0 < gap < 0.02


def test_training_moves_weights_and_ranges_and_no_batch_normalisation(tf: Any) -> None:
    network = mixed(tf)
    for layer in network.layers:
        layer.trainable = False  # as a backbone is left that never learned
    simulated, _ = fake_quant.simulate(tf, network)
    before = values(simulated)
    simulated.compile(tf.keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    simulated.fit(pixels(12), np.arange(12) % 3, epochs=2, verbose=0)
    after = values(simulated)
    moved = {name for name, value in before.items() if not np.array_equal(after[name], value)}
    learned = {name for name in before if name.endswith(("kernel", "bias", "alpha"))}
    assert len(learned) == 7
    assert learned <= moved
    assert not [name for name in moved if name.startswith("batch_normalization")]
    ranges = {name for name in before if name.endswith(("/low", "/high"))}
    assert len(ranges) == 10
    assert {name for name in ranges if name.endswith("/high")} <= moved


def test_a_network_that_cannot_be_called_anew_is_a_sentence(tf: Any, capfd: pytest.CaptureFixture[str]) -> None:
    layers = tf.keras.layers

    class Once(layers.Layer):  # type: ignore[misc]
        times = 0

        def call(self, images: Any) -> Any:
            self.times += 1
            if self.times > 1:
                raise RuntimeError("it was called\nbefore")
            return images

    network = chain(tf, Once(), layers.Flatten(), layers.Dense(3))
    error = refused(fake_quant.simulate, tf, network)
    assert error.code == "qat-not-simulated"
    assert "it was called before" in str(error) and "\n" not in str(error) and "\x1b" not in str(error)
    assert error.__cause__ is None and error.__suppress_context__
    assert "Traceback" not in capfd.readouterr().err


def test_code_of_a_trusted_file_stays_in_float(tf: Any) -> None:
    network = chain(tf, tf.keras.layers.Lambda(lambda x: 2 * x), tf.keras.layers.Flatten(), tf.keras.layers.Dense(3))
    expected = network(pixels()).numpy()
    assert fake_quant.simulate(tf, network)[1] == {"Lambda": 1}
    found = settled(tf, network, pixels())(pixels()).numpy()
    assert 0 < np.abs(found - expected).max() < 0.02 * np.abs(expected).max()


def plain(tf: Any) -> Any:
    layers = tf.keras.layers
    network = chain(
        tf, layers.Conv2D(4, 3, name="conv"), layers.ReLU(name="relu"), layers.Flatten(), layers.Dense(3, name="dense"),
        layers.Softmax(),
    )  # fmt: skip
    network.set_weights([50 * value for value in network.get_weights()])  # beyond the 6 at which ranges begin
    return network


def test_first_ranges_are_those_of_the_batch_in_later_layers_too(tf: Any) -> None:
    network = plain(tf)
    relu = tf.keras.Model(network.input, network.get_layer("relu").output)(pixels()).numpy()
    logits = tf.keras.Model(network.input, network.get_layer("dense").output)(pixels()).numpy()
    simulated, _ = fake_quant.simulate(tf, network)
    with rounding.first_ranges():
        simulated(pixels() / 2, training=True)
        simulated(pixels(), training=True)
    assert ends(simulated, network.inputs[0].name) == pytest.approx((0, pixels().max()), rel=1e-6)
    assert ends(simulated, "relu") == pytest.approx((0, relu.max()), rel=0.05)
    assert ends(simulated, "dense") == pytest.approx((logits.min(), logits.max()), rel=0.1)
    assert relu.max() > 6 and logits.max() > 60


def test_without_first_ranges_they_begin_elsewhere_and_move_slowly(tf: Any) -> None:
    network = plain(tf)
    relu = tf.keras.Model(network.input, network.get_layer("relu").output)(pixels()).numpy()
    simulated, _ = fake_quant.simulate(tf, network)
    assert ends(simulated, "relu") == (-6, 6)
    simulated(pixels(), training=True)
    assert ends(simulated, "relu")[1] == pytest.approx(6 + 0.001 * (relu.max() - 6), rel=1e-3)


@pytest.mark.parametrize(("activation", "count"), [("relu", 1), ("relu6", 1), ("silu", 2), ("gelu", 2), ("sigmoid", 1)])
def test_an_activation_in_a_layer_has_the_ranges_that_it_has_behind_it(tf: Any, activation: str, count: int) -> None:
    layers, kernel = tf.keras.layers, pixels(3, (3, 3, 4)).swapaxes(0, 2)
    within = chain(tf, layers.Conv2D(4, 3, activation=activation, name="own"))
    behind = chain(tf, layers.Conv2D(4, 3), layers.Activation(activation))
    found = []
    for network in (within, behind):
        network.set_weights([kernel - 0.5, np.float32([0, 1, 2, 3])])
        simulated = settled(tf, network, pixels())
        assert sum("_range" in layer.name for layer in simulated.layers) == 1 + count
        found.append(simulated(pixels()).numpy())
    np.testing.assert_array_equal(*found)


def test_a_layer_that_is_called_twice_has_one_set_of_weights_and_a_range_each_time(tf: Any) -> None:
    layers = tf.keras.layers
    given, shared = layers.Input(SHAPE), layers.Conv2D(3, 3, padding="same", name="shared")
    network = tf.keras.Model(given, layers.Flatten()(shared(20 * shared(given))))
    simulated = settled(tf, network, pixels())
    kinds = [type(layer).__name__ for layer in simulated.layers]
    assert (kinds.count("Weighted"), kinds.count("Ranged")) == (1, 3)
    first, second = ends(simulated, "shared"), tuple(simulated.get_layer("shared_range_2").low.numpy() for _ in "ab")
    assert second[0] < first[0] < 0


def test_a_network_of_whole_numbers_has_no_range_at_its_input(tf: Any) -> None:
    layers = tf.keras.layers
    given = layers.Input(SHAPE, dtype="uint8")
    network = tf.keras.Model(given, layers.Dense(3)(layers.Flatten()(layers.Rescaling(1 / 255)(given))))
    simulated, left = fake_quant.simulate(tf, network)
    assert left == {"Rescaling": 1}
    assert simulated.inputs[0].dtype == "uint8"
    assert [layer.name for layer in simulated.layers if "_range" in layer.name] == [f"{network.layers[-1].name}_range"]


def test_a_depthwise_layer_of_a_network_is_rounded_by_channel(tf: Any) -> None:
    layers = tf.keras.layers
    network = chain(tf, layers.DepthwiseConv2D(3, depth_multiplier=2), layers.Flatten(), layers.Dense(3))
    depthwise = network.layers[1]
    kernel, bias = depthwise.get_weights()
    depthwise.set_weights(
        [kernel * np.float32([1, 100, 1e4])[:, None], bias]
    )  # by one range, the first would be nothing
    exact = depthwise(pixels()).numpy()
    simulated, _ = fake_quant.simulate(tf, network)
    (layer,) = (layer for layer in simulated.layers if layer.name.startswith("rounded_depthwise"))
    found = layer(pixels()).numpy()
    assert (np.abs(found - exact).max(axis=(0, 1, 2)) / np.ptp(exact, axis=(0, 1, 2))).max() < 0.02


ZOO = {
    "MobileNetV2": lambda tf: tf.keras.applications.MobileNetV2((32, 32, 3), 0.35, weights=None),
    "EfficientNet-Lite0": lambda tf: efficientnet_lite.lite0(tf, 32),
    "MobileNetV3Small": lambda tf: tf.keras.applications.MobileNetV3Small((32, 32, 3), weights=None),
    "DenseNet121": lambda tf: tf.keras.applications.DenseNet121(input_shape=(32, 32, 3), weights=None),
    "ConvNeXtTiny": lambda tf: tf.keras.applications.ConvNeXtTiny(input_shape=(32, 32, 3), weights=None),
}
LEFT = {
    "MobileNetV2": {},
    "EfficientNet-Lite0": {},
    "MobileNetV3Small": {"Activation": 19, "Multiply": 18, "Rescaling": 1},
    "DenseNet121": {"BatchNormalization": 62},
    "ConvNeXtTiny": {"LayerNormalization": 23, "LayerScale": 18, "Normalization": 1},
}


@pytest.mark.parametrize("name", ZOO)
def test_networks_of_the_zoo_are_simulated(tf: Any, name: str) -> None:
    flat = calls.flatten(tf, ZOO[name](tf))
    simulated, left = fake_quant.simulate(tf, flat)
    assert left == LEFT[name]
    assert simulated.count_params() - flat.count_params() == 2 * sum("_range" in one.name for one in simulated.layers)


def saved(tf: Any, simulated: Any, folder: Path) -> Any:
    """A SavedModel of it, and what that holds."""
    spec = tf.TensorSpec([None, *simulated.input_shape[1:]], tf.float32, name="images")
    module = tf.Module()
    module.weights = formats.held(simulated)
    module.serve = tf.function(lambda images: {"probabilities": simulated(images)}, input_signature=[spec])
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return tf.saved_model.load(str(folder))


@pytest.fixture
def converted(tf: Any) -> Any:
    """A network with all that is folded, fused and joined, as INT8 computes it."""
    layers = tf.keras.layers
    given = layers.Input(SHAPE)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(8, 3, use_bias=False)(given)))
    x = layers.ReLU()(layers.BatchNormalization()(layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(x)))
    x = layers.Add()([x, layers.BatchNormalization()(layers.Conv2D(16, 1)(x))])
    x = layers.MaxPooling2D()(layers.Concatenate()([x, layers.Conv2D(4, 1, activation="relu")(x)]))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Dense(8)(layers.GlobalAveragePooling2D()(x))))
    network = tf.keras.Model(given, layers.Softmax()(layers.Dense(5)(x)))
    unsettle(tf, network)
    return settled(tf, network, pixels(64))


def test_onnx_has_a_pair_for_each_range_and_weights_that_are_rounded(tf: Any, converted: Any, tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    module = saved(tf, converted, tmp_path / "a")  # its variables live as long as this
    model = onnx_export.export(module.signatures["serving_default"])
    counts = Counter(node.op_type for node in model.graph.node)
    ranges = sum("_range" in layer.name for layer in converted.layers)
    assert (counts["QuantizeLinear"], counts["DequantizeLinear"]) == (ranges, ranges)
    assert (counts["Conv"], counts["Mul"], counts["BatchNormalization"]) == (4, 0, 0)
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    for node in (node for node in model.graph.node if node.op_type == "Conv"):
        kernel = constants[node.input[1]].reshape(len(constants[node.input[1]]), -1)
        steps = kernel / np.abs(kernel).max(axis=1, keepdims=True) * 127
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": pixels(64)})
    np.testing.assert_allclose(found, converted(pixels(64)).numpy(), atol=0.01)


def test_tflite_has_the_ranges_that_were_learned_and_answers_as_simulated(
    tf: Any, converted: Any, tmp_path: Path
) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    for layer in converted.layers:  # that the conversion does not measure them anew
        if "_range" in layer.name:
            layer.high.assign(1.5 * layer.high.value)
    saved(tf, converted, tmp_path / "a")
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "a"), signature_keys=["serving_default"])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in pixels(64))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    model = Interpreter(
        model_content=converter.convert(),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    scales = {float(one["quantization"][0]) for one in model.get_tensor_details() if one["dtype"] == np.int8}
    for layer in converted.layers:
        if "_range" in layer.name:
            width = float(layer.high.numpy() - layer.low.numpy()) / 255
            assert min(abs(scale - width) for scale in scales) < 1e-5 * width, layer.name
    model.resize_tensor_input(model.get_input_details()[0]["index"], [64, *SHAPE])
    model.allocate_tensors()
    model.set_tensor(model.get_input_details()[0]["index"], pixels(64))
    model.invoke()
    found, expected = model.get_tensor(model.get_output_details()[0]["index"]), converted(pixels(64)).numpy()
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(found, expected, atol=3 / 256)
