"""Sessions on a GPU made of host memory, whose engines are ONNX Runtime's (fake_gpu.py)."""

import gc
import itertools
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stages.contracts.timing import Parts
from stages.core import files
from stages.core.errors import PipelineError
from stages.runtimes.contract import infer
from stages.runtimes.tensorrt.tests import fake_gpu
from stages.runtimes.tensorrt.tests.conftest import CLASSES, SHAPE, Convert, Model, loaded
from stages.runtimes.tensorrt.tests.fake_gpu import Error, FakeGpu
from tests.fixtures import tiny

example = partial(tiny.example, shape=SHAPE)


def test_answers_belong_to_the_caller(converted: Convert, tmp_path: Path) -> None:
    converted(tmp_path, "fp32")
    session = loaded(tmp_path)
    first = infer(session, example(1))
    copy = first.copy()
    infer(session, example(4))
    np.testing.assert_array_equal(first, copy)


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("cuda_graph", [True, False])
def test_pinned_memory_and_cuda_graphs_are_options_that_change_no_answer(
    model: Model, converted: Convert, gpu: FakeGpu, tmp_path: Path, pinned: bool, cuda_graph: bool
) -> None:
    converted(tmp_path, "fp32", engines="each")
    gpu.cudart.calls.clear()
    session = loaded(tmp_path, pinned=pinned, cuda_graph=cuda_graph)
    np.testing.assert_allclose(infer(session, example(4)), model[1](example(4)), atol=1e-6)
    assert ("cudaMallocHost" in gpu.cudart.calls) is pinned
    assert ("cudaGraphLaunch" in gpu.cudart.calls) is cuda_graph


@pytest.mark.parametrize("engines", ["each", "profile"])
def test_a_batch_is_filled_up_to_a_measured_size(
    model: Model, converted: Convert, tmp_path: Path, engines: str
) -> None:
    converted(tmp_path, "fp32", engines=engines)
    session = loaded(tmp_path)
    np.testing.assert_allclose(infer(session, example(3)), model[1](example(3)), atol=1e-6)
    assert session._engine._context.shape[0] == 4


def test_pinned_memory_is_not_written_while_a_copy_reads_it(converted: Convert, gpu: FakeGpu, tmp_path: Path) -> None:
    converted(tmp_path, "fp32", engines="profile")
    session = loaded(tmp_path)
    gpu.cudart.calls.clear()
    session.put(example(4))
    session.put(example(4))
    copies = [place for place, call in enumerate(gpu.cudart.calls) if call == "cudaMemcpyAsync"]
    assert "cudaStreamSynchronize" in gpu.cudart.calls[copies[0] : copies[1]]


def test_a_batch_larger_than_any_engine_is_refused(converted: Convert, tmp_path: Path) -> None:
    converted(tmp_path, "fp32")
    with pytest.raises(PipelineError) as caught:
        loaded(tmp_path).put(example(5))
    assert caught.value.code == "batch-too-large"
    assert caught.value.values == {"key": "benchmark.batch_sizes", "batch_size": 5, "largest": 4}


@pytest.mark.parametrize(("engines", "recorded"), [("each", 2), ("profile", 4)])
def test_a_graph_is_recorded_when_an_engine_changes_its_size_and_the_old_one_ends(
    converted: Convert, gpu: FakeGpu, tmp_path: Path, engines: str, recorded: int
) -> None:
    converted(tmp_path, "fp32", engines=engines)
    session = loaded(tmp_path)
    gpu.cudart.calls.clear()
    for size in (1, 4, 1, 4, 4, 3):
        infer(session, example(size))
    assert gpu.cudart.calls.count("cudaStreamBeginCapture") == recorded
    del session
    gc.collect()
    assert gpu.cudart.calls.count("cudaGraphExecDestroy") == recorded


def test_a_recording_that_fails_leaves_the_stream_as_it_was(converted: Convert, gpu: FakeGpu, tmp_path: Path) -> None:
    converted(tmp_path, "fp32", engines="each")
    session = loaded(tmp_path)

    def fail() -> None:
        raise PipelineError("broken", code="broken")

    with pytest.raises(PipelineError) as caught:
        session._stream.recorded(fail)
    assert caught.value.code == "broken"
    assert gpu.cudart.capturing is None


def test_the_gpu_splits_an_inference_into_copies_and_compute(
    converted: Convert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted(tmp_path, "fp32")
    session = loaded(tmp_path)
    session.put(example(4))
    # Of the four events of an inference: seconds from each to the next.
    clock = itertools.accumulate(itertools.cycle([9, 1, 3, 2]))
    monkeypatch.setattr(fake_gpu, "time", SimpleNamespace(perf_counter=clock.__next__))
    assert session.parts_ms() == Parts(input_copy=1000, compute=3000, output_copy=2000)


def test_memory_is_that_of_engines_buffers_and_nothing_stays(converted: Convert, gpu: FakeGpu, tmp_path: Path) -> None:
    converted(tmp_path, "fp32", engines="profile")
    gpu.cudart.memory.clear()
    session = loaded(tmp_path)
    plan = (tmp_path / "batch1-4.plan").stat().st_size
    assert session.gpu_peak_bytes() == plan + 1000 + 4 * 4 * (8 * 8 * 3 + CLASSES)
    assert len(gpu.cudart.memory) == 4
    del session
    gc.collect()
    assert gpu.cudart.memory == {}


def test_no_gpu_memory_is_an_error_of_cuda(converted: Convert, gpu: FakeGpu, tmp_path: Path) -> None:
    converted(tmp_path, "fp32")
    gpu.cudart.failures["cudaMalloc"] = Error.cudaErrorMemoryAllocation
    with pytest.raises(PipelineError) as caught:
        loaded(tmp_path)
    assert (caught.value.code, caught.value.values) == ("cuda", {"error": "cudaErrorMemoryAllocation"})


@pytest.mark.parametrize("call", ["cudaGraphInstantiateWithFlags", "cudaStreamEndCapture", "cudaStreamSynchronize"])
def test_a_failure_half_way_to_another_size_answers_no_later_batch_wrongly(
    model: Model, converted: Convert, gpu: FakeGpu, tmp_path: Path, call: str
) -> None:
    converted(tmp_path, "fp32", engines="profile")
    session = loaded(tmp_path)
    infer(session, example(1))
    gpu.cudart.failures[call] = Error.cudaErrorIllegalAddress
    with pytest.raises(PipelineError) as caught:
        infer(session, example(4))
    assert (caught.value.code, caught.value.values) == ("cuda", {"error": "cudaErrorIllegalAddress"})
    gpu.cudart.failures.clear()
    np.testing.assert_allclose(infer(session, example(4)), model[1](example(4)), atol=1e-6)


@pytest.mark.parametrize("cuda_graph", [True, False])
def test_an_engine_that_answers_no_number_is_caught(converted: Convert, tmp_path: Path, cuda_graph: bool) -> None:
    converted(tmp_path, "fp16")
    session = loaded(tmp_path, cuda_graph=cuda_graph)
    session.put(np.full((4, *SHAPE), np.nan, np.float32))
    with pytest.raises(PipelineError) as caught:
        session.prove()
    assert (caught.value.code, caught.value.values) == ("engine-not-finite", {"batch_size": 4})


@pytest.mark.parametrize("pinned", [True, False])
def test_images_of_another_type_or_order_are_copied_as_they_should(
    model: Model, converted: Convert, tmp_path: Path, pinned: bool
) -> None:
    converted(tmp_path, "fp32")
    session = loaded(tmp_path, pinned=pinned)
    images: Any = np.asfortranarray(example(4).astype(np.float64))
    np.testing.assert_allclose(infer(session, images), model[1](example(4)), atol=1e-6)


def without_a_plan(folder: Path) -> None:
    (folder / "batch1-4.plan").unlink()


def record_of(content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "engines.json").write_text(content)


@pytest.mark.parametrize(
    ("damage", "code", "file"),
    [
        (without_a_plan, "engines-damaged", ""),
        (record_of("[]"), "record-field", "engines.json"),
        (record_of('{"schema": 1, "built_by": {}}'), "record-field", "engines.json"),
        (record_of('{"schema": 1, "built_by": {"tensorrt": "8"}, "engines": [[1]]}'), "record-field", "engines.json"),
        (record_of('{"schema": 7}'), "record-schema", "engines.json"),
        (record_of("{"), "record-damaged", "engines.json"),
    ],
)
def test_a_damaged_folder_is_one_sentence(
    converted: Convert, tmp_path: Path, damage: Callable[[Path], object], code: str, file: str
) -> None:
    converted(tmp_path, "fp32", engines="profile")
    damage(tmp_path)
    with pytest.raises(PipelineError) as caught:
        loaded(tmp_path)
    assert caught.value.code == code
    assert caught.value.values["file"] == str(tmp_path / file)


def test_an_engine_that_does_not_start_is_an_error(converted: Convert, gpu: FakeGpu, tmp_path: Path) -> None:
    converted(tmp_path, "fp32")
    session = loaded(tmp_path, cuda_graph=False)
    session.put(example(1))
    gpu.trt.broken = True
    with pytest.raises(PipelineError) as caught:
        session.run()
    assert caught.value.code == "tensorrt-start"
    assert caught.value.values == {"reason": "an illegal memory access was encountered"}


def test_a_cuda_graph_that_answers_otherwise_is_caught(converted: Convert, tmp_path: Path) -> None:
    converted(tmp_path, "fp32")
    session = loaded(tmp_path)
    session.put(example(1))
    session._engine._graph = lambda: None  # type: ignore[assignment]  # the output of the call before stays
    session._stream.copy_to_device(session._buffers.output, np.full(CLASSES, 9, np.float32).ctypes.data, 4 * CLASSES)
    with pytest.raises(PipelineError) as caught:
        session.prove()
    values = caught.value.values
    assert (caught.value.code, values["key"], values["batch_size"]) == (
        "cuda-graph-differs", "tensorrt.cuda_graph", 1,
    )  # fmt: skip
    assert 8 <= float(str(values["difference"])) <= 9


@pytest.mark.parametrize("here", [{"name": "NVIDIA A10"}, {"version": "8.6.1"}])
def test_an_engine_from_elsewhere_is_refused(
    converted: Convert, gpu: FakeGpu, tmp_path: Path, here: dict[str, str]
) -> None:
    converted(tmp_path, "fp32")
    gpu.cudart.name = here.get("name", gpu.cudart.name)
    gpu.trt.__version__ = here.get("version", gpu.trt.__version__)
    with pytest.raises(PipelineError) as caught:
        loaded(tmp_path)
    assert caught.value.code == "engines-from-elsewhere"
    assert caught.value.values == {
        "built_by": "TensorRT 8.5.3.1 on NVIDIA T4",
        "here": f"TensorRT {here.get('version', '8.5.3.1')} on {here.get('name', 'NVIDIA T4')}",
    }


def test_a_damaged_plan_is_refused(converted: Convert, tmp_path: Path) -> None:
    converted(tmp_path, "fp32", engines="profile")
    plan = tmp_path / "batch1-4.plan"
    plan.write_bytes(plan.read_bytes()[:100])
    with pytest.raises(PipelineError) as caught:
        loaded(tmp_path)
    assert caught.value.code == "tensorrt-refused"
    assert caught.value.values == {
        "version": "TensorRT 8.5.3.1",
        "reason": "Serialization assertion magicTagRead == kMAGIC_TAG failed",
    }


def test_records_are_what_the_session_reads(converted: Convert, tmp_path: Path) -> None:
    converted(tmp_path, "fp32", engines="each")
    assert files.read_json(tmp_path / "engines.json") == {
        "schema": 1,
        "built_by": {"tensorrt": "TensorRT 8.5.3.1", "gpu": "NVIDIA T4", "compute_capability": "7.5"},
        "form": "each",
        "input": "images",
        "output": "probabilities",
        "input_shape": [8, 8, 3],
        "engines": [[1, "batch1.plan"], [4, "batch4.plan"]],
    }
    converted(tmp_path, "fp32", engines="profile")
    assert files.read_json(tmp_path / "engines.json")["engines"] == [[1, "batch1-4.plan"], [4, "batch1-4.plan"]]


def test_a_champion_loads_without_what_only_converting_needs() -> None:
    absent = ["tqdm", "onnx", "onnxruntime", "tensorflow", "pynvml", "PIL"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent}))\nfrom stages.runtimes.tensorrt import session\n"
        "assert not {'stages.runtimes.tensorrt.convert', 'stages.runtimes.shared.onnx_precision'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
