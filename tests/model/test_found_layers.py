from typing import Any

import pytest

from stages.model import found_layers
from tests.model.test_classifier import custom


def network(tf: Any, *layers: Any) -> Any:
    return tf.keras.Sequential([tf.keras.Input((None, None, 3)), *layers, tf.keras.layers.GlobalAveragePooling2D()])


def told(tf: Any, *layers: Any, **changes: Any) -> tuple[str, ...]:
    return found_layers.told(custom(**changes), found_layers.find(network(tf, *layers)))


def test_layers_of_nested_models_are_found_in_their_order(tf: Any) -> None:
    kinds = tf.keras.layers
    first = tf.keras.Sequential([kinds.Resizing(24, 32, name="small"), kinds.Rescaling(1 / 255, name="unit")])
    found = told(tf, first, kinds.Normalization(mean=0.5, variance=0.1, name="norm"), kinds.Conv2D(2, 1))
    assert [sentence.split()[2] for sentence in found] == ["small", "unit", "norm"]
    assert "24 x 32" in found[0] and "scales its input by 0.00392157" in found[1]


def test_a_model_without_such_layers_has_none(tf: Any) -> None:
    plain = network(tf, tf.keras.layers.Conv2D(2, 1))
    assert found_layers.find(plain) == ()
    assert found_layers.unscaled(custom(), ()).scale is None


@pytest.mark.parametrize(
    ("kind", "options", "scale"),
    [
        ("Rescaling", {"scale": 1 / 127.5, "offset": -1}, (1.0,)),
        ("Rescaling", {"scale": 2, "offset": -1}, None),
        ("Normalization", {"mean": [120, 110, 100], "variance": [3000, 3000, 3000]}, (1.0,)),
        ("Normalization", {"mean": 0.5, "variance": 0.08}, None),
        ("Resizing", {"height": 8, "width": 8}, None),
    ],
)
def test_a_model_that_takes_pixels_gets_pixels_unless_a_key_scales_them(
    tf: Any, kind: str, options: dict[str, Any], scale: tuple[float, ...] | None
) -> None:
    found = found_layers.find(network(tf, getattr(tf.keras.layers, kind)(**options)))
    assert found_layers.unscaled(custom(), found).scale == scale
    assert found_layers.unscaled(custom(scale=0.25), found).scale == (0.25,)


def test_what_is_scaled_twice_is_told(tf: Any) -> None:
    layer = tf.keras.layers.Rescaling(1 / 255)
    assert told(tf, layer)[0].endswith("so it gets pixels from 0 to 255")
    assert told(tf, layer, scale=1)[0].endswith("and custom.scale is 1")
    assert "and custom.scale is 0.00392, which scales twice: set it to null" in told(tf, layer, scale="1/255")[0]
