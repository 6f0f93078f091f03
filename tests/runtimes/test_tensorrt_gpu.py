"""Native engines on a real GPU (`make test-gpu`): a small model, built, reloaded in fresh processes, and sabotaged."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import environment
from stages.contracts.preprocessing import Floats
from stages.core import files, isolate
from stages.core.errors import PipelineError
from stages.runtimes import onnxruntime, tensorrt
from stages.runtimes.contract import PARTS, Job, infer
from tests.fixtures import models
from tests.fixtures.models import TENSORRT_OPTIONS, save_tiny_onnx

SHAPE, CLASSES = (32, 32, 3), 10
OPTIONS = TENSORRT_OPTIONS | {"timing_cache": False}
example = partial(models.example, shape=SHAPE)
calibration = partial(models.calibration, shape=SHAPE)
MISSING = tensorrt.unavailable("int8", environment.describe_machine(None))
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(MISSING is not None, reason=f"no engine can run here: {MISSING}")]


def build_model(folder: Path) -> None:
    """What it answers stays in the process that TensorFlow was imported into."""
    save_tiny_onnx(folder, SHAPE, CLASSES)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ONNX file of a convolution and a softmax."""
    folder = tmp_path_factory.mktemp("model")
    isolate.call(build_model, folder)
    return folder / "model.onnx"


def convert(model: Path, target: Path, precision: str, **options: Any) -> dict[str, Any]:
    """In a fresh process, as the stage does."""
    target.mkdir(exist_ok=True)
    job = Job(model, model, target, precision, SHAPE, calibration, (1, 4, 8), OPTIONS | options)
    return dict(isolate.call(tensorrt.convert, job))


def answers(folder: Path, sizes: tuple[int, ...], **options: Any) -> list[Floats]:
    """What a fresh process that loads the engines says to each batch."""
    return list(isolate.call(_answers, folder, sizes, OPTIONS | options))


def _answers(folder: Path, sizes: tuple[int, ...], options: dict[str, Any]) -> list[Floats]:
    session = tensorrt.load(folder, "", options, None)
    found = []
    for size in sizes:
        found.append(infer(session, example(size)))
        session.verify()
    return found


def onnx_answers(model: Path, sizes: tuple[int, ...]) -> list[Floats]:
    return list(isolate.call(_onnx_answers, model, sizes))


def _onnx_answers(model: Path, sizes: tuple[int, ...]) -> list[Floats]:
    session = onnxruntime.load(model.parent, "fp32", {}, 1)
    return [infer(session, example(size)) for size in sizes]


SIZES = (1, 8, 3, 4, 1)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 5e-3), ("fp16", 1e-2), ("int8", 0.1)])
@pytest.mark.parametrize("engines", ["each", "profile"])
def test_engines_answer_as_the_model_does(
    model: Path, tmp_path: Path, precision: str, tolerance: float, engines: str
) -> None:
    details = convert(model, tmp_path, precision, engines=engines)
    for ours, theirs in zip(answers(tmp_path, SIZES), onnx_answers(model, SIZES), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)
    assert details[f"{precision}_layers"] > 0
    assert precision == "fp32" or not any(engine["fp32_weights"] for engine in details["engines"].values())


def test_the_faster_form_is_kept(model: Path, tmp_path: Path) -> None:
    details = convert(model, tmp_path, "fp16")
    assert details["form"] in details["form_p50_ms"]
    assert answers(tmp_path, (8,))[0].shape == (8, CLASSES)


@pytest.mark.parametrize("options", [{"cuda_graph": False}, {"pinned": False}])
def test_options_change_no_answer(model: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    convert(model, tmp_path, "fp16", engines="profile")
    for plain, usual in zip(answers(tmp_path, SIZES, **options), answers(tmp_path, SIZES), strict=True):
        np.testing.assert_allclose(plain, usual, rtol=0, atol=1e-3)


def test_the_gpu_tells_copies_from_compute(model: Path, tmp_path: Path) -> None:
    convert(model, tmp_path, "fp16", engines="profile")
    parts = isolate.call(_parts, tmp_path)
    assert set(parts) == set(PARTS)
    assert all(0 < ms < 100 for ms in parts.values())


def _parts(folder: Path) -> dict[str, float] | None:
    session = tensorrt.load(folder, "", OPTIONS, None)
    infer(session, example(8))
    return session.parts_ms()


def test_a_second_build_starts_from_the_timing_cache(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = [
        convert(model, tmp_path / name, "fp16", engines="profile", timing_cache=True)["timing_cache"]
        for name in ("first", "again")
    ]
    assert [cache["warm"] for cache in found] == [False, True]
    assert found[1]["bytes"] >= found[0]["bytes"] > 0


def test_engines_from_elsewhere_and_damaged_ones_are_refused(model: Path, tmp_path: Path) -> None:
    convert(model, tmp_path, "fp16", engines="profile")
    record, plan = files.read_json(tmp_path / "engines.json"), tmp_path / "batch1-8.plan"
    for key, value in (("name", "NVIDIA Elsewhere"), ("tensorrt", "TensorRT 7.0")):
        files.write_json(tmp_path / "engines.json", record | {"built_by": record["built_by"] | {key: value}})
        with pytest.raises(PipelineError, match="an engine runs on no other GPU and in no other version"):
            answers(tmp_path, (1,))
    files.write_json(tmp_path / "engines.json", record)
    whole = plan.read_bytes()
    for damaged in (b"", b"no plan" * 100, whole[: len(whole) // 2]):
        plan.write_bytes(damaged)
        with pytest.raises(PipelineError, match="refuses the engine: "):
            answers(tmp_path, (1,))


def test_a_batch_larger_than_any_engine_is_refused(model: Path, tmp_path: Path) -> None:
    convert(model, tmp_path, "fp32", engines="each")
    with pytest.raises(PipelineError, match="a batch of 9 is larger than any engine"):
        answers(tmp_path, (9,))
