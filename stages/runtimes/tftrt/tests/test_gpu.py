"""TF-TRT on a real GPU (`make test-gpu`): a small model, converted, reloaded in fresh processes, and sabotaged."""

import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.contracts.conversion import Proof
from stages.contracts.preprocessing import Floats
from stages.core import isolate
from stages.core.tensorflow import tensorflow
from stages.runtimes import host
from stages.runtimes.contract import infer
from stages.runtimes.shared.saved_model import SavedModelSession
from stages.runtimes.tftrt import convert as module
from stages.runtimes.tftrt.discover import discover
from stages.runtimes.tftrt.options import Options
from stages.runtimes.tftrt.session import open_session
from tests.fixtures import tiny
from tests.fixtures.errors import named, refused

SHAPE = (32, 32, 3)
MISSING = discover(host.describe_machine(None)).unavailable["int8"]
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(MISSING is not None, reason=f"TF-TRT cannot run here: {MISSING}")]
example = partial(tiny.example, shape=SHAPE)


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

    @tf.function(input_signature=[tf.TensorSpec([None, *SHAPE], tf.float32, name="images")])  # type: ignore[untyped-decorator]
    def serve(images: Any) -> dict[str, Any]:
        return {"probabilities": model(images, training=False)}

    holder = tf.Module()
    holder.model, holder.serve = model, serve
    tf.saved_model.save(holder, str(folder), signatures={"serving_default": serve})


def answers(folder: Path, sizes: tuple[int, ...], engines: bool = True, prove: bool = True) -> list[Floats]:
    """What a fresh process that loads the folder says to each batch: TF-TRT, or TensorFlow alone."""
    session = open_session(folder, "", Options(), None) if engines else SavedModelSession(folder, None, True)
    found = []
    for size in sizes:
        found.append(np.array(infer(session, example(size))))
        if prove:
            session.prove()
    return found


def convert(precision: str, source: Path, target: Path, batch_sizes: tuple[int, ...], **options: Any) -> Proof:
    """With the images beside the source."""
    job = tiny.convert_job(source, target, precision, source.parent / "images", SHAPE, batch_sizes)
    return module.convert(job, Options(**options))


def convert_without_engines(precision: str, source: Path, target: Path, batch_sizes: tuple[int, ...]) -> Proof:
    os.environ["TF_TRT_ABORT_CUDA_ENGINE_BUILD"] = "True"
    return convert(precision, source, target, batch_sizes)


def convert_allowing_builds(precision: str, source: Path, target: Path, batch_sizes: tuple[int, ...]) -> Proof:
    """What TF-TRT does by default: missing engines are built while somebody waits for the answer."""
    from tensorflow.python.compiler.tensorrt import trt_convert

    chosen = trt_convert.TrtGraphConverterV2
    trt_convert.TrtGraphConverterV2 = lambda **settings: chosen(**settings | {"allow_build_at_runtime": True})
    return convert(precision, source, target, batch_sizes)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel, beside 32 images to calibrate with."""
    folder = tmp_path_factory.mktemp("model")
    isolate.call(build_model, folder / "saved_model")
    tiny.calibration_images(folder / "images", SHAPE, 32)
    return folder / "saved_model"


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
    proof: Proof = isolate.call(convert, precision, source, tmp_path / "trt", (1, 4))
    facts: dict[str, Any] = proof.facts
    assert (proof.kind, facts["engine_ops"], facts["engine_files"]) == ("trt_ops", 1, 1)
    sizes = {name: int(str(size)) for name, size in proof.under("engine").items() if name.endswith(".bytes")}
    assert sorted(name.rsplit(".")[-2] for name in sizes) == ["batch1", "batch4"]
    assert all(size > 1000 for size in sizes.values())
    assert 0.5 < facts["share_in_engines"] < 1
    assert facts["tensorrt_loaded"].startswith("8.")
    assert facts["engine_bytes"] >= sum(sizes.values())
    assert set(proof.under("engine_build_s")) == {"batch1", "batch4"}
    ours = isolate.call(answers, tmp_path / "trt", (1, 4))
    theirs = isolate.call(answers, source, (1, 4), False)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, atol=tolerance)


@pytest.mark.parametrize(
    ("precision", "strategy", "tolerance"),
    [("fp16", "Range", 1e-2), ("fp16", "Optimal", 1e-2), ("fp16", "Range+Optimal", 1e-2), ("int8", "Range", 5e-2)],
)
def test_one_dynamic_engine_serves_every_batch_size(
    source: Path, tmp_path: Path, precision: str, strategy: str, tolerance: float
) -> None:
    options = {"dynamic_shapes": True, "profile_strategy": strategy}
    proof: Proof = isolate.call(convert_with, (precision, source, tmp_path / "trt", (1, 4)), options)
    assert proof.facts["engine_ops"] == 1
    assert set(proof.under("engine_build_s")) == {"batch1-4"}
    ours, theirs = isolate.call(answers, tmp_path / "trt", (1, 4)), isolate.call(answers, source, (1, 4), False)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, atol=tolerance)


def convert_with(arguments: tuple[Any, ...], options: dict[str, Any]) -> Proof:
    return convert(*arguments, **options)


def test_a_batch_between_two_engines_is_filled_up(source: Path, built: Path) -> None:
    (ours,), (theirs,) = isolate.call(answers, built, (3,)), isolate.call(answers, source, (3,), False)
    assert ours.shape == (3, 10)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_a_batch_larger_than_any_engine_is_caught(built: Path) -> None:
    error = refused(isolate.call, answers, built, (9,), True, False)
    assert named(error, "batch_size", "engines") == ("tftrt-no-engine", 9, (1, 4))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_aborted_engine_build_is_caught(source: Path, tmp_path: Path, precision: str) -> None:
    error = refused(isolate.call, convert_without_engines, precision, source, tmp_path / "trt", (1, 4))
    assert named(error, "built", "parts") == ("tftrt-engines-missing", 0, 1)


def test_an_engine_that_is_built_while_measuring_is_caught(source: Path, tmp_path: Path) -> None:
    isolate.call(convert_allowing_builds, "fp32", source, tmp_path / "trt", (1, 4))
    error = refused(isolate.call, prove_unseen_batch, tmp_path / "trt", 9)
    assert error.code == "tftrt-fallback" and "TRTEngineOp::BuildEngine" in str(error.values["steps"])


def prove_unseen_batch(folder: Path, size: int) -> None:
    """Profile the very first call with a batch that no engine takes."""
    session = open_session(folder, "", Options(), None)
    session.put(example(size))
    session.prove()


def test_an_emptied_engine_file_is_caught(built: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(built, broken)
    (asset,) = broken.glob("assets/trt-serialized-engine.*")
    asset.write_bytes(b"")
    assert refused(isolate.call, answers, broken, (1,), True, False).code == "tftrt-no-engine"
