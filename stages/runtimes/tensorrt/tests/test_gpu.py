"""Native engines on a real GPU (`make test-gpu`): a small model, built, reloaded in fresh processes, and sabotaged."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.contracts.conversion import Proof
from stages.contracts.preprocessing import Floats
from stages.contracts.timing import Parts
from stages.core import files, isolate
from stages.runtimes import host
from stages.runtimes.contract import infer
from stages.runtimes.tensorrt import convert as module
from stages.runtimes.tensorrt import session
from stages.runtimes.tensorrt.discover import discover
from stages.runtimes.tensorrt.options import Options
from tests.fixtures import tiny
from tests.fixtures.errors import named, refused

SHAPE, CLASSES = (32, 32, 3), 10
NO_CACHE: dict[str, Any] = {"timing_cache": False}
example = partial(tiny.example, shape=SHAPE)
MISSING = discover(host.describe_machine(None)).unavailable["int8"]
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(MISSING is not None, reason=f"no engine can run here: {MISSING}")]


def build_model(folder: Path) -> None:
    """What it answers stays in the process that TensorFlow was imported into."""
    tiny.save_tiny_onnx(folder, SHAPE, CLASSES)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ONNX file of a convolution and a softmax, beside images to calibrate with."""
    folder = tmp_path_factory.mktemp("model")
    isolate.call(build_model, folder)
    tiny.calibration_images(folder / "images", SHAPE)
    return folder / "model.onnx"


def convert(source: Path, target: Path, precision: str, **options: Any) -> Proof:
    """In a fresh process, as the stage does."""
    job = tiny.convert_job(source, target, precision, source.parent / "images", SHAPE, (1, 4, 8))
    proof = isolate.call(module.convert, job, Options(**NO_CACHE | options))
    assert isinstance(proof, Proof)
    return proof


def answers(folder: Path, sizes: tuple[int, ...], **options: Any) -> list[Floats]:
    """What a fresh process that loads the engines says to each batch."""
    return list(isolate.call(_answers, folder, sizes, Options(**NO_CACHE | options)))


def _answers(folder: Path, sizes: tuple[int, ...], options: Options) -> list[Floats]:
    opened = session.open_session(folder, "", options, None)
    found = []
    for size in sizes:
        found.append(infer(opened, example(size)))
        opened.prove()
    return found


def onnx_answers(source: Path, sizes: tuple[int, ...]) -> list[Floats]:
    """What ONNX Runtime says on the CPU, in a fresh process."""
    return list(isolate.call(_onnx_answers, source, sizes))


def _onnx_answers(source: Path, sizes: tuple[int, ...]) -> list[Floats]:
    import onnxruntime

    reference = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    return [reference.run(None, {"images": example(size)})[0] for size in sizes]


SIZES = (1, 8, 3, 4, 1)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 5e-3), ("fp16", 1e-2), ("int8", 0.1)])
@pytest.mark.parametrize("engines", ["each", "profile"])
def test_engines_answer_as_the_model_does(
    source: Path, tmp_path: Path, precision: str, tolerance: float, engines: str
) -> None:
    proof = convert(source, tmp_path, precision, engines=engines)
    for ours, theirs in zip(answers(tmp_path, SIZES), onnx_answers(source, SIZES), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)
    assert proof.layers[precision] > 0
    assert not [note for note in proof.notes if "FP32 weights" in note]


def test_the_faster_form_is_kept(source: Path, tmp_path: Path) -> None:
    proof = convert(source, tmp_path, "fp16")
    assert f"form_p50_ms.{proof.facts['form']}.batch8" in proof.facts
    assert answers(tmp_path, (8,))[0].shape == (8, CLASSES)


@pytest.mark.parametrize("options", [{"cuda_graph": False}, {"pinned": False}])
def test_options_change_no_answer(source: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    convert(source, tmp_path, "fp16", engines="profile")
    for plain, usual in zip(answers(tmp_path, SIZES, **options), answers(tmp_path, SIZES), strict=True):
        np.testing.assert_allclose(plain, usual, rtol=0, atol=1e-3)


def test_the_gpu_tells_copies_from_compute(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path, "fp16", engines="profile")
    parts: Parts = isolate.call(_parts, tmp_path)
    assert all(0 < ms < 100 for ms in (parts.input_copy, parts.compute, parts.output_copy))


def _parts(folder: Path) -> Parts:
    opened = session.open_session(folder, "", Options(**NO_CACHE), None)
    infer(opened, example(8))
    return opened.parts_ms()


def test_a_second_build_starts_from_the_timing_cache(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first, again = (
        convert(source, tmp_path / name, "fp16", engines="profile", timing_cache=True).under("timing_cache")
        for name in ("first", "again")
    )
    assert (first["warm"], again["warm"]) == (False, True)
    assert int(again["bytes"] or 0) >= int(first["bytes"] or 0) > 0


def test_engines_from_elsewhere_and_damaged_ones_are_refused(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path, "fp16", engines="profile")
    record, plan = files.read_json(tmp_path / "engines.json"), tmp_path / "batch1-8.plan"
    for key, value in (("gpu", "NVIDIA Elsewhere"), ("tensorrt", "TensorRT 7.0")):
        files.write_json(tmp_path / "engines.json", record | {"built_by": record["built_by"] | {key: value}})
        assert refused(answers, tmp_path, (1,)).code == "engines-from-elsewhere"
    files.write_json(tmp_path / "engines.json", record)
    whole = plan.read_bytes()
    for damaged in (b"", b"no plan" * 100, whole[: len(whole) // 2]):
        plan.write_bytes(damaged)
        assert refused(answers, tmp_path, (1,)).code == "tensorrt-refused"


def test_a_batch_larger_than_any_engine_is_refused(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path, "fp32", engines="each")
    assert named(refused(answers, tmp_path, (9,)), "batch_size", "largest") == ("batch-too-large", 9, 8)
