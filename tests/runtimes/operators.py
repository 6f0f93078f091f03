"""How many operators of each kind the INT8 graphs of two fixed models have, as this checkout converts them.

`python -m tests.runtimes.operators` writes operators.json anew.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stages.contracts.variant import Variant
from stages.core.tensorflow import tensorflow
from stages.data import examples
from stages.model import formats, onnx_export, saved_model
from stages.model.classifier import Classifier
from stages.model.efficientnet_lite import lite0
from stages.runtimes import loading, registry
from tests.fixtures import tiny

TABLE = Path(__file__).with_suffix(".json")
SHAPE = (64, 64, 3)
ROWS = ("tflite-int8", "onnxruntime-int8")
# By row, and then by operator.
Counts = dict[str, dict[str, int]]


def squeezing(tf: Any) -> Any:
    """Two blocks of a depthwise convolution, batch normalisation and squeeze-and-excite."""
    layers = tf.keras.layers

    def normalized(x: Any) -> Any:
        return layers.ReLU(6.0)(layers.BatchNormalization()(x))

    def block(x: Any, stride: int) -> Any:
        entry, filters = x, x.shape[-1]
        x = normalized(layers.Conv2D(2 * filters, 1, use_bias=False)(x))
        x = normalized(layers.DepthwiseConv2D(3, stride, "same", use_bias=False)(x))
        squeezed = layers.Conv2D(8, 1, activation="relu")(layers.GlobalAveragePooling2D(keepdims=True)(x))
        x = x * layers.Conv2D(2 * filters, 1, activation="sigmoid")(squeezed)
        x = layers.BatchNormalization()(layers.Conv2D(filters, 1, use_bias=False)(x))
        return x + entry if stride == 1 else x

    image = layers.Input(SHAPE)
    x = normalized(layers.Conv2D(16, 3, 2, "same", use_bias=False)(image))
    x = layers.GlobalAveragePooling2D()(block(block(x, 1), 2))
    return tf.keras.Model(image, layers.Dense(10, "softmax")(x))


MODELS: dict[str, Callable[[Any], Any]] = {
    "squeeze-and-excite": squeezing,
    "efficientnet-lite0": lambda tf: lite0(tf, SHAPE[0]),
}


def count(network: Callable[[Any], Any], folder: Path) -> Counts:
    """By row the operators of a network that is saved, exported and converted below that folder."""
    tf = tensorflow()
    _save(tf, network(tf), folder)
    images = tiny.calibration_images(folder / "images", SHAPE, 4)
    return {name: _converted(Variant.parse(name), folder, images) for name in ROWS}


def _save(tf: Any, network: Any, folder: Path) -> None:
    rng = np.random.default_rng(0)
    for variable in network.variables:  # as if it were trained: means of 0 and variances of 1 might fold to nothing
        positive = "gamma" in variable.name or "variance" in variable.name
        scale = 1 / np.sqrt(max(1, np.prod(variable.shape[:-1])))
        drawn = rng.uniform(0.5, 1.5, variable.shape) if positive else rng.normal(0, scale, variable.shape)
        variable.assign(drawn.astype(np.float32))
    prepared, classes = tiny.preprocessing(SHAPE), network.output_shape[-1]
    model = Classifier(network, formats.held(network), prepared, classes, network.count_params())
    saved_model.save(tf, model, folder / "saved_model")
    shown = examples.read(prepared, folder / "nowhere")
    onnx_export.write(tf, folder / "saved_model", folder / "model.onnx", "fixed", shown)


def _converted(variant: Variant, folder: Path, images: Path) -> dict[str, int]:
    source = folder / ("model.onnx" if variant.runtime == "onnxruntime" else "saved_model")
    job = tiny.convert_job(source, folder / variant.name, variant.precision, images, SHAPE)
    proof = registry.module(variant.runtime, "convert").convert(job, loading.options(variant.runtime, {}))
    return dict(proof.under("operations"))


def changes(before: Mapping[str, Mapping[str, int]], after: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Which operators appeared or vanished: `tflite-int8: 0 MUL became 16`."""
    return [
        f"{row}: {before[row].get(name, 0)} {name} became {after[row].get(name, 0)}"
        for row in before
        for name in sorted({*before[row], *after[row]})
        if before[row].get(name, 0) != after[row].get(name, 0)
    ]


def committed() -> dict[str, Counts]:
    """By model."""
    found: dict[str, Counts] = json.loads(TABLE.read_text(encoding="utf-8"))
    return found


def main() -> None:
    """Convert all, and write the table."""
    found = {}
    for name, network in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = count(network, Path(folder))
    TABLE.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
