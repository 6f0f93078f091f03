"""What several test files do in the same way: a tiny model, a free port, a server that answers."""

import csv
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.common import files, labels, paths
from stages.common.errors import PipelineError
from stages.common.images import Floats
from stages.common.labels import Labels
from stages.common.params import Params

# Names and classes of what a source holds, as the fixture `named` reads them.
Named = Callable[[str], list[tuple[str, int | None]]]
# Changes params.yaml of a checkout with coloured images further, and reads it, as the fixture `setting` does.
Setting = Callable[..., Params]


def refusal(call: Callable[..., Any], *arguments: Any) -> str:
    """The sentence of a call that must fail."""
    with pytest.raises(PipelineError) as caught:
        call(*arguments)
    return str(caught.value)


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file as they stand there."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


COLOURS = {"red": (200, 60, 40), "green": (50, 180, 60), "blue": (40, 60, 190)}
# What params.yaml says where a small network is trained on them for two epochs.
COLOURED: tuple[tuple[str, Any], ...] = (
    ("model.name", "custom"), ("model.path", "trained"), ("split.source", "photos"), ("evaluation.source", "split"),
    ("custom.size", [8, 12]), ("custom.resize", "stretch"), ("train.epochs", 2), ("train.batch_size", 16),
    ("train.validation", 0.2),
)  # fmt: skip


def paint(counts: dict[str, int]) -> None:
    """data/train with images of 16 x 16 in noisy colours, and data/model with the names of the classes."""
    rng, rows = np.random.default_rng(0), []
    for label, (name, count) in enumerate(counts.items()):
        for index in range(count):
            pixels = np.clip(np.array(COLOURS[name]) + rng.normal(0, 40, (16, 16, 3)), 0, 255).astype(np.uint8)
            file = f"{name}/{index}.png"
            (paths.TRAINING / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(paths.TRAINING / file)
            rows.append((file, label, len(rows)))
    files.write_csv(paths.TRAINING / "labels.csv", ("file", "label", "group"), rows)
    labels.write(Labels(tuple(counts), ("",) * len(counts)))


def save_tiny(folder: Path, shape: tuple[int, int, int], classes: int) -> Callable[[Any], Any]:
    """Save a SavedModel of a convolution and a softmax; returns the same as a function of NumPy arrays."""
    from stages.common.tf import tensorflow

    tf = tensorflow()
    rng = np.random.default_rng(0)

    class Tiny(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.kernel = tf.Variable(rng.normal(0, 0.5, (3, 3, 3, 8)).astype(np.float32))
            self.last = tf.Variable(rng.normal(0, 2, (8, classes)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([None, *shape], tf.float32, name="images")])
        def serve(self, images: Any) -> dict[str, Any]:
            features = tf.nn.relu6(tf.nn.conv2d(images, self.kernel, 1, "SAME"))
            return {"probabilities": tf.nn.softmax(tf.reduce_mean(features, [1, 2]) @ self.last)}

    module = Tiny()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return lambda images: module.serve(tf.constant(images))["probabilities"].numpy()


def save_tiny_onnx(folder: Path, shape: tuple[int, int, int], classes: int) -> Callable[[Any], Any]:
    """The same exported to model.onnx in the folder."""
    from stages.common import onnx_export
    from stages.common.tf import tensorflow

    answer = save_tiny(folder / "saved_model", shape, classes)
    saved = tensorflow().saved_model.load(str(folder / "saved_model"))  # its variables live as long as this
    exported = onnx_export.export(saved.signatures["serving_default"])
    (folder / "model.onnx").write_bytes(exported.SerializeToString())
    return answer


def save_taught_onnx(folder: Path, shape: tuple[int, int, int], classes: int, learned: tuple[float, float]) -> Path:
    """A model.onnx of a convolution and a layer whose input has a range that quantisation-aware training learned."""
    from stages.common import onnx_export
    from stages.common.tf import tensorflow

    tf = tensorflow()
    rng = np.random.default_rng(0)
    kernel, last = (rng.normal(0, 1, size).astype(np.float32) for size in ((3, 3, shape[2], 8), (8, classes)))

    class Taught(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec([None, *shape], tf.float32, name="images")])
        def serve(self, images: Any) -> dict[str, Any]:
            pooled = tf.reduce_mean(tf.nn.conv2d(images, kernel, 2, "SAME"), [1, 2])
            rounded = tf.quantization.fake_quant_with_min_max_vars(pooled, *learned)
            return {"probabilities": tf.nn.softmax(rounded @ last)}

    module = Taught()
    exported = onnx_export.export(module.serve.get_concrete_function())
    (folder / "model.onnx").write_bytes(exported.SerializeToString())
    return folder / "model.onnx"


# The block `tensorrt` of params.yaml.
TENSORRT_OPTIONS: dict[str, Any] = {
    "tf32": True, "calibrator": "minmax", "engines": "auto", "cuda_graph": True, "pinned": True,
    "max_workspace_mib": None, "timing_cache": True,
}  # fmt: skip


def example(size: int, shape: tuple[int, int, int]) -> Floats:
    """Seeded images as a model takes them, others for each size."""
    return np.random.default_rng(size).uniform(-1, 1, (size, *shape)).astype(np.float32)


def calibration(size: int, shape: tuple[int, int, int]) -> Iterator[Floats]:
    """Twenty seeded batches."""
    for seed in range(20):
        yield np.random.default_rng(seed).uniform(-1, 1, (size, *shape)).astype(np.float32)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(address: str, process: "subprocess.Popen[Any]", log: Path | None = None) -> None:
    """Until the server answers; fails with what it printed if it ends, or after two minutes."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-2000:] if log else process.communicate()[0]
        try:
            urllib.request.urlopen(address, timeout=2)
            return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(address)
