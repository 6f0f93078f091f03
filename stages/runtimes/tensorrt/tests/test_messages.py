"""Every sentence of this runtime for a user, once: it names its place and a remedy."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from stages.core.errors import PipelineError
from stages.runtimes.tensorrt import api, convert, cuda, proof
from stages.runtimes.tensorrt.session import TensorRTSession
from stages.runtimes.tensorrt.tests.conftest import CLASSES, SHAPE, Convert, Model, loaded
from stages.runtimes.tensorrt.tests.fake_gpu import Error, FakeGpu
from tests.fixtures.errors import assert_helps, refused


class Here:
    """A folder with one engine for batches up to 4 on a GPU made of host memory, and what goes wrong there."""

    def __init__(self, folder: Path, gpu: FakeGpu, converted: Convert) -> None:
        self.folder, self.gpu, self.converted = folder, gpu, converted

    def session(self, **options: Any) -> TensorRTSession:
        session = loaded(self.folder, **options)
        session.put(np.zeros((1, *SHAPE), np.float32))
        return session

    def too_large_a_batch(self) -> PipelineError:
        return refused(self.session().put, np.zeros((5, *SHAPE), np.float32))

    def another_batch_than_it_was_built_for(self) -> PipelineError:
        session = self.session()
        session._engine._context.set_input_shape = lambda name, shape: False
        return refused(session.put, np.zeros((4, *SHAPE), np.float32))

    def no_start(self) -> PipelineError:
        session = self.session(cuda_graph=False)
        self.gpu.trt.broken = True
        return refused(session.run)

    def no_number(self) -> PipelineError:
        session = self.session()
        session.put(np.full((1, *SHAPE), np.nan, np.float32))
        return refused(session.prove)

    def another_answer_of_the_graph(self) -> PipelineError:
        session = self.session()
        session._engine._graph = lambda: None  # type: ignore[assignment]
        nines = np.full(CLASSES, 9, np.float32)
        session._stream.copy_to_device(session._buffers.output, nines.ctypes.data, nines.nbytes)
        return refused(session.prove)

    def another_gpu(self) -> PipelineError:
        self.gpu.cudart.name = "NVIDIA A10"
        return refused(self.session)

    def a_damaged_plan(self) -> PipelineError:
        (self.folder / "batch1-4.plan").write_bytes(b"")
        return refused(self.session)

    def a_missing_plan(self) -> PipelineError:
        (self.folder / "batch1-4.plan").unlink()
        return refused(self.session)

    def no_memory(self) -> PipelineError:
        self.gpu.cudart.failures["cudaMalloc"] = Error.cudaErrorMemoryAllocation
        return refused(self.session)

    def another_error_of_cuda(self) -> PipelineError:
        self.gpu.cudart.failures["cudaStreamSynchronize"] = Error.cudaErrorIllegalAddress
        return refused(self.session)

    def no_build(self) -> PipelineError:
        self.gpu.trt.refuses = True
        return refused(lambda: self.converted(self.folder / "out", "fp32", engines="each"))


@pytest.fixture
def here(converted: Convert, gpu: FakeGpu, tmp_path: Path) -> Here:
    converted(tmp_path, "fp32", engines="profile")
    return Here(tmp_path, gpu, converted)


@pytest.mark.parametrize(
    ("cause", "place"),
    [
        (Here.too_large_a_batch, "benchmark.batch_sizes"),
        (Here.another_batch_than_it_was_built_for, "batch of 4"),
        (Here.no_start, "an illegal memory access was encountered"),
        (Here.no_number, "batch of 1"),
        (Here.another_answer_of_the_graph, "tensorrt.cuda_graph"),
        (Here.another_gpu, "NVIDIA A10"),
        (Here.a_damaged_plan, "TensorRT 8.5.3.1"),
        (Here.a_missing_plan, "batch1-4.plan"),
        (Here.no_memory, "cudaErrorMemoryAllocation"),
        (Here.another_error_of_cuda, "cudaErrorIllegalAddress"),
        (Here.no_build, "could not find any implementation for node conv1"),
    ],
)
def test_an_error_on_a_gpu_names_its_place_and_a_remedy(
    here: Here, cause: Callable[[Here], PipelineError], place: str
) -> None:
    assert_helps(cause(here), place)


def test_no_memory_and_an_ill_gpu_are_asked_for_in_words_of_their_own(here: Here) -> None:
    assert "who holds the GPU's memory" in str(here.no_memory())
    here.gpu.cudart.failures.clear()
    assert "whether the GPU is well" in str(here.another_error_of_cuda())


def test_a_graph_that_cannot_be_read_is_named(model: Model, converted: Convert, tmp_path: Path) -> None:
    onnx.save(onnx.version_converter.convert_version(onnx.load(model[0]), 19), tmp_path / "newer.onnx")
    assert_helps(refused(converted, tmp_path / "out", "fp32", tmp_path / "newer.onnx"), "newer.onnx")


def test_a_precision_that_no_layer_has_is_named(
    converted: Convert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "typed", lambda job, options, folder: Path(job.onnx))
    assert_helps(refused(converted, tmp_path, "int8"), "the engine for batch 1 in INT8 (2 fp32)")


@pytest.mark.parametrize("text", ["", '{"Layers": ["conv1"]}'])
def test_an_inspector_that_proves_nothing_names_where_versions_are_listed(text: str) -> None:
    assert_helps(refused(proof.layers, text), "docs/how-to/tensorrt-versions.md")


def test_a_context_without_room_is_named(gpu: FakeGpu) -> None:
    assert_helps(refused(api.context, SimpleNamespace(create_execution_context=lambda: None)), "nvidia-smi")


def test_no_module_and_one_that_does_not_load_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "MODULES", ("no_such_tensorrt",))
    assert_helps(refused(api.module), "stages env check")

    def fail(name: str) -> None:
        raise ImportError("libnvinfer.so.8: cannot open shared object file")

    monkeypatch.setattr(api, "MODULES", ("json",))
    monkeypatch.setattr(importlib, "import_module", fail)
    error = refused(api.module)
    assert error.values == {"module": "json"}
    assert_helps(error, "libnvinfer.so.8")


@pytest.mark.parametrize(
    "runtime",
    [
        None,  # no bindings
        SimpleNamespace(cudaGetDeviceCount=lambda: (Error.cudaErrorIllegalAddress, 0)),
    ],
)
def test_a_cuda_that_does_not_start_is_named(monkeypatch: pytest.MonkeyPatch, runtime: Any) -> None:
    package = SimpleNamespace(runtime=runtime) if runtime else None
    monkeypatch.setitem(sys.modules, "cuda", package and SimpleNamespace(bindings=package))
    monkeypatch.setitem(sys.modules, "cuda.bindings", package)
    error = refused(cuda.cudart)
    assert error.code == "cuda-start" and error.values["reason"]
    assert_helps(error, str(error.values["reason"]))
