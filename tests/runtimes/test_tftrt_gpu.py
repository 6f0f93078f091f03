"""TF-TRT on a real GPU (`make test-gpu`): a small model, converted, reloaded in fresh processes, and sabotaged."""

import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import environment, save
from stages.contracts.preprocessing import Floats, Preprocessing
from stages.core import isolate
from stages.core.errors import PipelineError
from stages.core.tensorflow import tensorflow
from stages.model.classifier import Classifier
from stages.runtimes import savedmodel, tftrt
from stages.runtimes.contract import Job, infer

SHAPE = (32, 32, 3)
OPTIONS: dict[str, Any] = {
    "tf32": True, "minimum_segment_size": 3, "max_workspace_mib": None, "maximum_cached_engines": None,
    "dynamic_shapes": False, "profile_strategy": "Range",
}  # fmt: skip
MISSING = tftrt.unavailable("int8", environment.describe_machine(None))
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(MISSING is not None, reason=f"TF-TRT cannot run here: {MISSING}")]


def example(size: int) -> Floats:
    return np.random.default_rng(size).uniform(-1, 1, (size, *SHAPE)).astype(np.float32)


def calibration(size: int) -> Iterator[Floats]:
    return (np.random.default_rng(seed).uniform(-1, 1, (size, *SHAPE)).astype(np.float32) for seed in range(8))


def build_model(folder: Path) -> None:
    """A convolution, a depthwise one and a dense layer, as MobileNet has them."""
    tf = tensorflow()
    tf.keras.utils.set_random_seed(1)
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            layers.Input(SHAPE),
            layers.Conv2D(16, 3, 2, "same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(6),
            layers.DepthwiseConv2D(3, 2, "same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(6),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, "softmax"),
        ]
    )
    preprocessing = Preprocessing(*SHAPE[:2], "crop", 1.0, (1.0,) * 3, (0.0,) * 3, "rgb")
    call = partial(model, training=False)
    save.save(tf, Classifier(call, model.variables, preprocessing, 10, model.count_params()), folder)


def answers(folder: Path, sizes: tuple[int, ...], runtime: str = "tftrt", verify: bool = True) -> list[Floats]:
    """What a fresh process that loads the folder says to each batch."""
    module = {"tftrt": tftrt, "savedmodel": savedmodel}[runtime]
    session = module.load(folder, "", OPTIONS, None)
    found = []
    for size in sizes:
        found.append(np.array(infer(session, example(size))))
        if verify:
            session.verify()
    return found


def convert(precision: str, source: Path, target: Path, batch_sizes: tuple[int, ...], **options: Any) -> dict[str, Any]:
    target.mkdir()
    return tftrt.convert(
        Job(source, target / "unused.onnx", target, precision, SHAPE, calibration, batch_sizes, OPTIONS | options)
    )


def convert_without_engines(*arguments: Any) -> dict[str, Any]:
    os.environ["TF_TRT_ABORT_CUDA_ENGINE_BUILD"] = "True"
    return convert(*arguments)


def convert_allowing_builds(*arguments: Any) -> dict[str, Any]:
    """What TF-TRT does by default: missing engines are built while somebody waits for the answer."""
    from tensorflow.python.compiler.tensorrt import trt_convert

    chosen = trt_convert.TrtGraphConverterV2
    trt_convert.TrtGraphConverterV2 = lambda **given: chosen(**given | {"allow_build_at_runtime": True})
    return convert(*arguments)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "saved_model"
    isolate.call(build_model, folder)
    return folder


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FP32 engines for batches of 1 and 4."""
    target = tmp_path_factory.mktemp("fp32") / "tftrt"
    isolate.call(convert, "fp32", source, target, (1, 4))
    return target


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("fp16", 1e-2), ("int8", 5e-2)])
def test_engines_for_every_batch_size_answer_as_the_savedmodel_does(
    source: Path, tmp_path: Path, precision: str, tolerance: float
) -> None:
    details = isolate.call(convert, precision, source, tmp_path / "trt", (1, 4))
    assert details["engine_ops"] == 1
    (engines,) = details["engines"].values()
    assert sorted(engine["input_shapes"][0][0] for engine in engines) == [1, 4]
    assert all(engine["bytes"] > 1000 for engine in engines)
    assert 0.5 < details["share_in_engines"] < 1
    assert details["tensorrt_loaded"].startswith("8.")
    assert details["engine_bytes"] >= sum(engine["bytes"] for engine in engines)
    assert set(details["engine_build_s"]) == {"1", "4"}
    ours = isolate.call(answers, tmp_path / "trt", (1, 4))
    theirs = isolate.call(answers, source, (1, 4), "savedmodel")
    for own, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(own, other, atol=tolerance)


@pytest.mark.parametrize(
    ("precision", "strategy", "tolerance"),
    [("fp16", "Range", 1e-2), ("fp16", "Optimal", 1e-2), ("fp16", "Range+Optimal", 1e-2), ("int8", "Range", 5e-2)],
)
def test_one_dynamic_engine_serves_every_batch_size(
    source: Path, tmp_path: Path, precision: str, strategy: str, tolerance: float
) -> None:
    options = {"dynamic_shapes": True, "profile_strategy": strategy}
    details = isolate.call(convert_with, (precision, source, tmp_path / "trt", (1, 4)), options)
    assert details["engine_ops"] == 1
    ours, theirs = isolate.call(answers, tmp_path / "trt", (1, 4)), isolate.call(answers, source, (1, 4), "savedmodel")
    for own, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(own, other, atol=tolerance)


def convert_with(arguments: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    return convert(*arguments, **options)


def test_a_batch_between_two_engines_is_filled_up(source: Path, built: Path) -> None:
    (ours,), (theirs,) = isolate.call(answers, built, (3,)), isolate.call(answers, source, (3,), "savedmodel")
    assert ours.shape == (3, 10)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_a_batch_larger_than_any_engine_is_caught(built: Path) -> None:
    with pytest.raises(PipelineError, match=r"TensorFlow ran in an engine's place on a batch of 9 \(.* for 1, 4\)"):
        isolate.call(answers, built, (9,), "tftrt", False)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_aborted_engine_build_is_caught(source: Path, tmp_path: Path, precision: str) -> None:
    with pytest.raises(PipelineError, match=r"TensorRT built an engine for 0 of the 1 parts"):
        isolate.call(convert_without_engines, precision, source, tmp_path / "trt", (1, 4))


def test_an_engine_that_is_built_while_measuring_is_caught(source: Path, tmp_path: Path) -> None:
    isolate.call(convert_allowing_builds, "fp32", source, tmp_path / "trt", (1, 4))
    with pytest.raises(PipelineError, match=r"the profile shows TRTEngineOp::BuildEngine"):
        isolate.call(verify_unseen_batch, tmp_path / "trt", 9)


def verify_unseen_batch(folder: Path, size: int) -> None:
    """Profile the very first call with a batch that no engine takes."""
    session = tftrt.load(folder, "", OPTIONS, None)
    session.put(example(size))
    session.verify()


def test_an_emptied_engine_file_is_caught(built: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(built, broken)
    (asset,) = broken.glob("assets/trt-serialized-engine.*")
    asset.write_bytes(b"")
    with pytest.raises(PipelineError, match=r"TensorFlow ran in an engine's place"):
        isolate.call(answers, broken, (1,), "tftrt", False)
