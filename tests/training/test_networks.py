from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.params import load
from stages.params.training import AugmentParams, TrainParams
from stages.training import networks


def filters(tf: Any, network: Any) -> list[int]:
    return [layer.filters for layer in network.layers if isinstance(layer, tf.keras.layers.Conv2D)]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((28, 28, 1), [16, 16, 32, 32, 64, 64]),
        ((5, 40, 3), [16, 16]),
        ((1, 1, 3), [16, 16]),
        ((129, 400, 3), [16, 16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128]),
    ],
)
def test_the_small_network_halves_the_image_until_its_shorter_side_is_small(
    tf: Any, shape: tuple[int, int, int], expected: list[int]
) -> None:
    network = networks.small(tf, shape, 4)
    assert filters(tf, network) == expected
    assert (network.input_shape, network.output_shape) == ((None, *shape), (None, 4))


def test_the_small_network_answers_with_probabilities(tf: Any) -> None:
    images = np.random.default_rng(0).uniform(0, 1, (3, 16, 12, 3)).astype(np.float32)
    found = networks.small(tf, (16, 12, 3), 4)(images).numpy()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


@pytest.fixture(scope="module")
def mobile_net(tf: Any) -> Any:
    return tf.keras.applications.MobileNetV2(input_shape=(32, 32, 3), alpha=0.35, weights=None)


def test_a_backbone_loses_its_last_layer_with_weights_and_gets_one_for_the_classes(tf: Any, mobile_net: Any) -> None:
    network = networks.on_backbone(tf, mobile_net, 4)
    assert (network.input_shape, network.output_shape) == ((None, 32, 32, 3), (None, 4))
    body = network.get_layer("backbone")
    assert [layer.name for layer in body.layers] == [layer.name for layer in mobile_net.layers[:-1]]
    kept = sum(int(np.prod(variable.shape)) for layer in mobile_net.layers[:-1] for variable in layer.variables)
    assert network.count_params() == kept + 1280 * 4 + 4


def test_a_backbone_that_ends_in_a_convolution_is_pooled(tf: Any) -> None:
    network = networks.on_backbone(tf, tf.keras.applications.MobileNet((32, 32, 3), 0.25, weights=None), 4)
    assert network.output_shape == (None, 4)


def test_a_backbone_runs_as_in_inference_while_it_is_trained(tf: Any, mobile_net: Any) -> None:
    images = np.random.default_rng(0).uniform(0, 1, (3, 32, 32, 3)).astype(np.float32)
    network = networks.on_backbone(tf, mobile_net, 4)
    network.layers[-2].rate = 0.0  # dropout
    np.testing.assert_allclose(network(images, training=True).numpy(), network(images, training=False).numpy())


@pytest.mark.parametrize("backbone", [True, False])
def test_a_backbone_runs_as_in_inference_whether_it_learns_or_not_and_after_it_was_saved(
    tf: Any, mobile_net: Any, tmp_path: Path, backbone: bool
) -> None:
    images = np.random.default_rng(0).uniform(0, 1, (3, 32, 32, 3)).astype(np.float32)
    network = networks.on_backbone(tf, mobile_net, 4)
    networks.learning(tf, network, backbone)
    frozen = {"moving_mean", "moving_variance"} if backbone else {variable.name for variable in mobile_net.variables}
    learning = [variable for variable in network.get_layer("backbone").variables if variable.name not in frozen]
    assert len(network.trainable_variables) == len(learning) + 2
    network.save(tmp_path / "a.keras")
    for found in (network, tf.keras.models.load_model(tmp_path / "a.keras")):
        found.layers[-2].rate = 0.0  # dropout
        np.testing.assert_allclose(found(images, training=True).numpy(), found(images, training=False).numpy())


@pytest.fixture(scope="module")
def images() -> Any:
    return np.random.default_rng(0).uniform(0, 255, (4, 16, 12, 3)).astype(np.float32)


@pytest.mark.parametrize("key", ["flip", "rotate_degrees", "shift", "zoom", "all", "none"])
def test_images_vary_in_training_and_never_else(tf: Any, images: Any, key: str) -> None:
    values = {"flip": True, "rotate_degrees": 45.0, "shift": 0.3, "zoom": 0.3}
    still = {"flip": False, "rotate_degrees": 0.0, "shift": 0.0, "zoom": 0.0}
    chosen = values if key == "all" else still | {name: values[name] for name in values if name == key}
    tf.keras.utils.set_random_seed(0)
    varied = networks.augmentation(tf, AugmentParams(**chosen))
    np.testing.assert_array_equal(varied(images, training=False).numpy(), images)
    seen = [varied(images, training=True).numpy() for _ in range(4)]
    changed = [not np.array_equal(found, images) for found in seen]
    assert any(changed) != (key == "none")
    assert all(found.shape == images.shape for found in seen)


def test_a_flip_mirrors_from_left_to_right(tf: Any, images: Any) -> None:
    tf.keras.utils.set_random_seed(0)
    varied = networks.augmentation(tf, AugmentParams(flip=True, rotate_degrees=0.0, shift=0.0, zoom=0.0))
    seen = {
        "as it is" if np.array_equal(found, image) else "mirrored" if np.array_equal(found, image[:, ::-1]) else "else"
        for _ in range(5)
        for found, image in zip(varied(images, training=True).numpy(), images, strict=True)
    }
    assert seen == {"as it is", "mirrored"}


def test_what_comes_in_at_a_border_is_black(tf: Any) -> None:
    tf.keras.utils.set_random_seed(0)
    varied = networks.augmentation(tf, AugmentParams(flip=False, rotate_degrees=0.0, shift=0.5, zoom=0.0))
    white = np.full((8, 16, 16, 3), 255, np.float32)
    found = varied(white, training=True).numpy()
    assert found.min() == 0 and found.max() == 255


def test_the_shipped_augmentation_is_mild(tf: Any) -> None:
    shipped = load.read(TrainParams, Path(__file__).parents[2] / "params.yaml").augment
    assert shipped == AugmentParams(flip=False, rotate_degrees=15, shift=0.1, zoom=0.1)
    tf.keras.utils.set_random_seed(0)
    dot = np.zeros((64, 33, 33, 1), np.float32)
    dot[:, 16, 16] = 255
    found = networks.augmentation(tf, shipped)(dot, training=True).numpy()
    down, across = (found.sum(axis=(3, other)).argmax(axis=1) for other in (2, 1))
    assert max(abs(down - 16).max(), abs(across - 16).max()) <= 5  # a tenth of the side, and rounding
    assert len({*zip(down.tolist(), across.tolist(), strict=True)}) > 10
