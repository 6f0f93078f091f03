from collections import Counter
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stages.contracts.conversion import ConvertJob, Scalar
from stages.contracts.preprocessing import Floats
from stages.core import frozen
from stages.core.tensorflow import CALLS, nodes, tensorflow
from stages.runtimes.shared.saved_model import part_sizes
from stages.runtimes.tftrt import convert as module
from stages.runtimes.tftrt import prepared
from stages.runtimes.tftrt.options import Options
from stages.runtimes.tftrt.tests import nets
from tests.fixtures import tiny
from tests.fixtures.errors import assert_helps, named, refused

# What computes a shape while a model runs.
SHAPES = {"Shape", "StridedSlice", "Pack"}


class Ready:
    """What preparing a SavedModel made of it, read while its folder was there."""

    def __init__(self, source: Path, shape: tuple[int, int, int]) -> None:
        self.tf, self.source, self.shape = tensorflow(), source, shape
        with prepared.prepared(self.tf, job(source, shape)) as ready:
            self.facts, self.folder = ready.facts, ready.folder
            self._model = self.tf.saved_model.load(str(ready.folder))
            self.sizes = part_sizes(ready.folder)

    @property
    def done(self) -> dict[str, Scalar]:
        return {name: value for name, value in self.facts.items() if name.startswith("prepared.")}

    @property
    def signature(self) -> Any:
        return self._model.signatures["serving_default"]

    @property
    def operations(self) -> Counter[str]:
        """As TF-TRT finds them, which freezes a graph first."""
        return Counter(node.op for node in nodes(frozen.freeze(self.signature).graph))

    def difference(self, count: int) -> float:
        """From the SavedModel, frozen as TF-TRT does in any case: constants let TensorFlow fold more of the graph."""
        images = self.tf.constant(nets.example(count, self.shape))
        ours, (theirs,) = self.signature(images=images)["probabilities"].numpy(), self.original(images)
        assert count == 1 or np.ptp(theirs, axis=0).max() > 1e-3  # else any graph would do
        return float(np.abs(ours - theirs).max())

    @cached_property
    def original(self) -> Any:
        self._original = self.tf.saved_model.load(str(self.source))
        return frozen.freeze(self._original.signatures["serving_default"])


def job(source: Path, shape: tuple[int, int, int], precision: str = "fp16") -> ConvertJob:
    images = source.parent / "images"
    if not images.exists():
        tiny.calibration_images(images, shape, 8)
    return tiny.convert_job(source, source.parent / "target", precision, images, shape, (1, 4))


def erfc(images: Any) -> Any:
    """The exact GELU as TensorFlow 2.21 writes it."""
    tf = tensorflow()
    return nets.pooled(0.5 * images * tf.raw_ops.Erfc(x=-images / np.sqrt(2).astype(np.float32)))


def erfc_in_a_function(images: Any) -> Any:
    inner = tensorflow().function(erfc)
    return inner(images)


@pytest.mark.parametrize(
    ("make", "shape", "done"),
    [
        (lambda folder: nets.save_keras(folder, "EfficientNetB0", 32), (32, 32, 3), {"prepared.Reshape": 16}),
        (lambda folder: nets.save(folder, erfc), nets.SHAPE, {"prepared.Erfc": 1}),
        (lambda folder: nets.save(folder, erfc_in_a_function), nets.SHAPE, {"prepared.Erfc": 1}),
        (nets.save_convnext, nets.SHAPE, {"prepared.Conv2D": 1, "prepared.Erfc": 1, "prepared.calls": 1}),
    ],
    ids=["EfficientNetB0", "Erfc", "Erfc in a function", "ConvNeXt"],
)
def test_a_prepared_graph_has_the_same_answers_without_what_cuts_engines(
    tmp_path: Path, make: Callable[[Path], Path], shape: tuple[int, int, int], done: dict[str, int]
) -> None:
    ready = Ready(make(tmp_path / "model"), shape)
    assert ready.done == done
    assert ready.facts["prepared_images"] == 12
    assert float(str(ready.facts["prepared_difference"])) < 1e-4
    assert not {"Erfc", "StridedSlice", *CALLS} & set(ready.operations)
    # A dense layer on a feature map merges batch and places to rows, which no constant shape can.
    assert ready.operations["Shape"] == ready.operations["Pack"] == done.get("prepared.calls", 0)
    for count in (1, 8):
        assert ready.difference(count) < 1e-6
    assert not ready.folder.exists()


def test_a_model_without_what_cuts_engines_goes_in_as_it_is(tmp_path: Path) -> None:
    ready = Ready(nets.save_keras(tmp_path / "model", "MobileNetV2", 32), (32, 32, 3))
    assert (ready.folder, ready.facts) == (ready.source, {})
    assert not {*CALLS, *SHAPES} & set(ready.operations)


def test_weights_are_written_once(tmp_path: Path) -> None:
    weights = tensorflow().Variable(np.random.default_rng(0).normal(0, 1, (3, 100_000)).astype(np.float32))
    source = nets.save(tmp_path / "model", lambda x: tensorflow().nn.softmax(erfc(x) @ weights), holds=weights)
    ready = Ready(source, nets.SHAPE)
    assert 1.2e6 < ready.sizes["graph_bytes"] < 1.3e6 < part_sizes(source)["variables_bytes"] + 1e5


def test_other_groups_stay_in_their_call_since_no_engine_would_hold_them(tmp_path: Path) -> None:
    ready = Ready(nets.save_convnext(tmp_path / "model", groups=2), nets.SHAPE)
    assert ready.done == {"prepared.Erfc": 1} and CALLS & {*ready.operations}


def test_an_answer_beyond_rounding_fails_the_variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tf = tensorflow()
    source, other = (
        nets.save(tmp_path / name, lambda x, s=s: nets.pooled(x, s)) for name, s in (("a", 3.0), ("b", 9.0))
    )
    signature = tf.saved_model.load(str(source)).signatures["serving_default"]
    error = refused(prepared.compare, tf, job(source, nets.SHAPE), signature, other)
    assert named(error) == ("tftrt-prepared-differs",)
    assert_helps(error, "12 images")


@pytest.fixture
def no_gpu_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """TF-TRT's converter with all of its steps but TensorRT's own, which takes no part of the graph."""
    from tensorflow.python.compiler.tensorrt import trt_convert

    monkeypatch.setattr(trt_convert, "_check_trt_version_compatibility", lambda: None)
    on_gpu = SimpleNamespace(zeros=lambda shape: SimpleNamespace(device="/device:GPU:0"))
    monkeypatch.setattr(trt_convert, "array_ops", on_gpu)
    monkeypatch.setattr(
        trt_convert.TrtGraphConverterV2, "_run_conversion", lambda self, meta_graph: meta_graph.graph_def
    )


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_tf_trt_s_converter_takes_it_as_it_takes_the_savedmodel(
    tmp_path: Path, no_gpu_needed: None, precision: str
) -> None:
    source = nets.save(tmp_path / "model", erfc)
    given = job(source, nets.SHAPE, precision)
    with prepared.prepared(tensorflow(), given) as ready:
        ours = converted(ready.folder, given, tmp_path / "ours")
    theirs = converted(source, given, tmp_path / "theirs")
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-6)


def converted(folder: Path, given: ConvertJob, target: Path) -> list[Floats]:
    """Answers of what the converter saves, by the names that the session of the runtime uses."""
    from dataclasses import replace

    tf, given = tensorflow(), replace(given, saved_model=str(folder))
    converter = module._converter(given, Options())
    seconds = module._build(tf, converter, given, Options())
    assert set(seconds) == {"graph_convert_s", "engine_build_s.batch1", "engine_build_s.batch4"}
    converter.save(str(target))
    signature = tf.saved_model.load(str(target)).signatures["serving_default"]
    assert list(signature.structured_outputs) == ["output_0"]
    return [signature(images=tf.constant(nets.example(count)))["output_0"].numpy() for count in (1, 8)]
