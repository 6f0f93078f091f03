"""The runtime `tensorrt` on a GPU made of host memory, whose engines are ONNX Runtime's (tests/fake_gpu.py)."""

import gc
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from stages.core import files
from stages.core import gpu as nvml
from stages.core.errors import PipelineError
from stages.runtimes import cuda, tensorrt, tensorrt_api
from stages.runtimes.contract import Job, infer
from stages.runtimes.tensorrt_session import TensorRTSession
from tests.fake_gpu import Cudart, Error, TensorRT
from tests.fixtures import models
from tests.fixtures.models import TENSORRT_OPTIONS, save_tiny_onnx

SHAPE, CLASSES = (8, 8, 3), 6
example = partial(models.example, shape=SHAPE)
calibration = partial(models.calibration, shape=SHAPE)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Callable[[Any], Any]]:
    """ONNX file of a convolution and a softmax, and the same as a function of NumPy arrays."""
    folder = tmp_path_factory.mktemp("model")
    answer = save_tiny_onnx(folder, SHAPE, CLASSES)
    return folder / "model.onnx", answer


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """A GPU with TensorRT 8.5; `cudart` and `trt` of it may be changed."""
    found = SimpleNamespace(cudart=Cudart())
    found.trt = TensorRT(found.cudart)
    monkeypatch.setattr(cuda, "cudart", lambda: found.cudart)
    monkeypatch.setattr(tensorrt_api, "module", lambda: found.trt)
    tensorrt_api.log.cache_clear()
    monkeypatch.setattr(nvml, "session", nullcontext)
    monkeypatch.setattr(nvml, "driver", lambda: "580.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return found


def job(model: tuple[Path, Any], target: Path, precision: str, sizes: tuple[int, ...] = (1, 4), **options: Any) -> Job:
    target.mkdir(exist_ok=True)
    return Job(Path("unused"), model[0], target, precision, SHAPE, calibration, sizes, TENSORRT_OPTIONS | options)


def converted(model: tuple[Path, Any], target: Path, precision: str, **options: Any) -> dict[str, Any]:
    return tensorrt.convert(job(model, target, precision, **options))


def loaded(folder: Path, **options: Any) -> TensorRTSession:
    found = tensorrt.load(folder, "fp32", TENSORRT_OPTIONS | options, None)
    assert isinstance(found, TensorRTSession)
    return found


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-6), ("fp16", 2e-3), ("int8", 0.05)])
@pytest.mark.parametrize("engines", ["each", "profile"])
def test_every_precision_answers_as_the_model_does(
    model: tuple[Path, Any], gpu: Any, tmp_path: Path, precision: str, tolerance: float, engines: str
) -> None:
    details = converted(model, tmp_path / "out", precision, engines=engines)
    session = loaded(tmp_path / "out")
    for size in (4, 1, 3, 4):
        answer = infer(session, example(size))
        session.verify()
        assert answer.shape == (size, CLASSES)
        gap = np.abs(answer - model[1](example(size))).max()
        assert gap <= tolerance
        assert precision == "fp32" or gap > 0  # a graph of another precision answers otherwise, if little
    assert details["tensorrt"] == "TensorRT 8.5.3.1"
    assert details["because"] == f"{tensorrt.FORMS[engines]}, as tensorrt.engines says"
    assert details[f"{precision}_layers"] == 2 * len(details["engines"])
    assert sum(details[f"{name}_layers"] for name in ("fp32", "fp16", "int8")) == 2 * len(details["engines"])


def test_answers_are_the_callers_own(model: tuple[Path, Any], gpu: Any, tmp_path: Path) -> None:
    converted(model, tmp_path, "fp32")
    session = loaded(tmp_path)
    first = infer(session, example(1))
    kept = first.copy()
    infer(session, example(4))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("cuda_graph", [True, False])
def test_pinned_memory_and_cuda_graphs_are_options_that_change_no_answer(
    model: tuple[Path, Any], gpu: Any, tmp_path: Path, pinned: bool, cuda_graph: bool
) -> None:
    converted(model, tmp_path, "fp32", engines="each")
    gpu.cudart.calls.clear()
    session = loaded(tmp_path, pinned=pinned, cuda_graph=cuda_graph)
    np.testing.assert_allclose(infer(session, example(4)), model[1](example(4)), atol=1e-6)
    assert ("cudaMallocHost" in gpu.cudart.calls) is pinned
    assert ("cudaGraphLaunch" in gpu.cudart.calls) is cuda_graph


@pytest.mark.parametrize("engines", ["each", "profile"])
def test_a_batch_is_filled_up_to_a_measured_size(
    model: tuple[Path, Any], gpu: Any, tmp_path: Path, engines: str
) -> None:
    converted(model, tmp_path, "fp32", engines=engines)
    session = loaded(tmp_path)
    np.testing.assert_allclose(infer(session, example(3)), model[1](example(3)), atol=1e-6)
    assert session._engine._context.shape[0] == 4


def test_pinned_memory_is_not_written_while_a_copy_reads_it(model: tuple[Path, Any], gpu: Any, tmp_path: Path) -> None:
    converted(model, tmp_path, "fp32", engines="profile")
    session = loaded(tmp_path)
    gpu.cudart.calls.clear()
    session.put(example(4))
    session.put(example(4))
    copies = [place for place, call in enumerate(gpu.cudart.calls) if call == "cudaMemcpyAsync"]
    assert "cudaStreamSynchronize" in gpu.cudart.calls[copies[0] : copies[1]]


def test_a_batch_larger_than_any_engine_is_refused(model: tuple[Path, Any], gpu: Any, tmp_path: Path) -> None:
    converted(model, tmp_path, "fp32")
    with pytest.raises(PipelineError) as refused:
        loaded(tmp_path).put(example(5))
    assert str(refused.value) == (
        "a batch of 5 is larger than any engine (the largest takes 4): add the size to benchmark.batch_sizes and run "
        "`make repro`"
    )


@pytest.mark.parametrize(("engines", "recorded"), [("each", 2), ("profile", 4)])
def test_a_graph_is_recorded_when_an_engine_changes_its_size_and_the_old_one_ends(
    model: tuple[Path, Any], gpu: Any, tmp_path: Path, engines: str, recorded: int
) -> None:
    converted(model, tmp_path, "fp32", engines=engines)
    session = loaded(tmp_path)
    gpu.cudart.calls.clear()
    for size in (1, 4, 1, 4, 4, 3):
        infer(session, example(size))
    assert gpu.cudart.calls.count("cudaStreamBeginCapture") == recorded
    del session
    gc.collect()
    assert gpu.cudart.calls.count("cudaGraphExecDestroy") == recorded


def test_a_recording_that_fails_leaves_the_stream_as_it_was(model: tuple[Path, Any], gpu: Any, tmp_path: Path) -> None:
    converted(model, tmp_path, "fp32", engines="each")
    session = loaded(tmp_path)

    def fail() -> None:
        raise PipelineError("broken")

    with pytest.raises(PipelineError, match="broken"):
        session._stream.recorded(fail)
    assert gpu.cudart.capturing is None


def test_the_gpu_splits_an_inference_into_copies_and_compute(model: tuple[Path, Any], gpu: Any, tmp_path: Path) -> None:
    converted(model, tmp_path, "fp32")
    session = loaded(tmp_path)
    session.put(example(4))
    parts = session.parts_ms()
    assert parts is not None and list(parts) == ["input_copy", "compute", "output_copy"]
    assert 0 < parts["input_copy"] < parts["compute"] > parts["output_copy"] > 0


def test_memory_is_that_of_engines_buffers_and_nothing_stays(model: tuple[Path, Any], gpu: Any, tmp_path: Path) -> None:
    converted(model, tmp_path, "fp32", engines="profile")
    gpu.cudart.memory.clear()
    session = loaded(tmp_path)
    plan = (tmp_path / "batch1-4.plan").stat().st_size
    assert session.gpu_peak_bytes() == plan + 1000 + 4 * 4 * (8 * 8 * 3 + CLASSES)
    assert len(gpu.cudart.memory) == 4
    del session
    gc.collect()
    assert gpu.cudart.memory == {}


def test_no_gpu_memory_is_one_sentence(model: tuple[Path, Any], gpu: Any, tmp_path: Path) -> None:
    converted(model, tmp_path, "fp32")
    gpu.cudart.failures["cudaMalloc"] = Error.cudaErrorMemoryAllocation
    with pytest.raises(
        PipelineError, match="CUDA answered cudaErrorMemoryAllocation: `nvidia-smi` shows who holds the"
    ):
        loaded(tmp_path)


@pytest.mark.parametrize("call", ["cudaGraphInstantiateWithFlags", "cudaStreamEndCapture", "cudaStreamSynchronize"])
def test_a_failure_half_way_to_another_size_answers_no_later_batch_wrongly(
    model: tuple[Path, Any], gpu: Any, tmp_path: Path, call: str
) -> None:
    converted(model, tmp_path, "fp32", engines="profile")
    session = loaded(tmp_path)
    infer(session, example(1))
    gpu.cudart.failures[call] = Error.cudaErrorIllegalAddress
    with pytest.raises(
        PipelineError, match="CUDA answered cudaErrorIllegalAddress: `nvidia-smi` shows whether the GPU"
    ):
        infer(session, example(4))
    gpu.cudart.failures.clear()
    np.testing.assert_allclose(infer(session, example(4)), model[1](example(4)), atol=1e-6)


@pytest.mark.parametrize("cuda_graph", [True, False])
def test_an_engine_that_answers_no_number_is_caught(
    model: tuple[Path, Any], gpu: Any, tmp_path: Path, cuda_graph: bool
) -> None:
    converted(model, tmp_path, "fp16")
    session = loaded(tmp_path, cuda_graph=cuda_graph)
    session.put(np.full((4, *SHAPE), np.nan, np.float32))
    with pytest.raises(PipelineError) as failed:
        session.verify()
    assert str(failed.value) == (
        "the engine answers nan on a batch of 4: a layer leaves the range of its precision; use tensorrt-fp32"
    )


@pytest.mark.parametrize("pinned", [True, False])
def test_images_of_another_type_or_order_are_copied_as_they_should(
    model: tuple[Path, Any], gpu: Any, tmp_path: Path, pinned: bool
) -> None:
    converted(model, tmp_path, "fp32")
    session = loaded(tmp_path, pinned=pinned)
    images: Any = np.asfortranarray(example(4).astype(np.float64))
    np.testing.assert_allclose(infer(session, images), model[1](example(4)), atol=1e-6)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "batch1-4.plan").unlink(),
        lambda folder: (folder / "engines.json").write_text("[]"),
        lambda folder: (folder / "engines.json").write_text('{"built_by": {}}'),
        lambda folder: (folder / "engines.json").write_text('{"built_by": {}, "engines": [[1]]}'),
    ],
)
def test_a_damaged_folder_is_one_sentence(
    model: tuple[Path, Any], gpu: Any, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    converted(model, tmp_path, "fp32", engines="profile")
    damage(tmp_path)
    with pytest.raises(PipelineError, match=r"is damaged \(.+\): run `make repro`, which builds it anew"):
        loaded(tmp_path)


def test_an_engine_that_does_not_start_is_an_error(model: tuple[Path, Any], gpu: Any, tmp_path: Path) -> None:
    converted(model, tmp_path, "fp32")
    session = loaded(tmp_path, cuda_graph=False)
    session.put(example(1))
    gpu.trt.broken = True
    with pytest.raises(PipelineError, match="could not start the engine: an illegal memory access was encountered"):
        session.run()


def test_a_cuda_graph_that_answers_otherwise_is_caught(model: tuple[Path, Any], gpu: Any, tmp_path: Path) -> None:
    converted(model, tmp_path, "fp32")
    session = loaded(tmp_path)
    session.put(example(1))
    session._engine._graph = lambda: None  # type: ignore[assignment]  # the output of the call before stays
    session._stream.copy_to_device(session._buffers.output, np.full(CLASSES, 9, np.float32).ctypes.data, 4 * CLASSES)
    with pytest.raises(PipelineError, match=r"the CUDA graph answers 9 away from the engine on a batch of 1: set"):
        session.verify()


@pytest.mark.parametrize("here", [{"name": "NVIDIA A10"}, {"version": "8.6.1"}])
def test_an_engine_from_elsewhere_is_refused(
    model: tuple[Path, Any], gpu: Any, tmp_path: Path, here: dict[str, str]
) -> None:
    converted(model, tmp_path, "fp32")
    gpu.cudart.name = here.get("name", gpu.cudart.name)
    gpu.trt.__version__ = here.get("version", gpu.trt.__version__)
    with pytest.raises(PipelineError) as refused:
        loaded(tmp_path)
    ours = f"TensorRT {here.get('version', '8.5.3.1')} on {here.get('name', 'NVIDIA T4')}"
    assert str(refused.value) == (
        f"the engines were built by TensorRT 8.5.3.1 on NVIDIA T4, and this is {ours}: an engine runs on no "
        "other GPU and in no other version, so build it here with `make repro`"
    )


def test_a_damaged_plan_is_refused(model: tuple[Path, Any], gpu: Any, tmp_path: Path) -> None:
    converted(model, tmp_path, "fp32", engines="profile")
    plan = tmp_path / "batch1-4.plan"
    plan.write_bytes(plan.read_bytes()[:100])
    with pytest.raises(PipelineError) as refused:
        loaded(tmp_path)
    assert str(refused.value) == (
        "TensorRT 8.5.3.1 refuses the engine: Serialization assertion magicTagRead == kMAGIC_TAG failed; build it here "
        "with `make repro`"
    )


@pytest.mark.parametrize(
    ("precision", "flags"), [("fp32", set()), ("fp16", {"FP16", "PREFER"}), ("int8", {"FP16", "INT8"})]
)
def test_what_tensorrt_8_needs_besides_the_graph(
    model: tuple[Path, Any], gpu: Any, tmp_path: Path, precision: str, flags: set[str]
) -> None:
    converted(model, tmp_path, precision, engines="profile", tf32=False, max_workspace_mib=3)
    (build,) = gpu.trt.builds
    assert build.config.flags == flags
    assert build.config.profiling_verbosity == "detailed"
    assert (build.config.workspace, build.config.profile.sizes) == (3 << 20, [1, 4, 4])
    asked = {layer.type for layer in build.network.layers if layer.precision == "float16"}
    assert asked == ({"Conv", "MatMul"} if precision == "fp16" else set())


def test_a_build_that_fails_says_why(model: tuple[Path, Any], gpu: Any, tmp_path: Path) -> None:
    gpu.trt.refuses = True
    with pytest.raises(PipelineError) as failed:
        converted(model, tmp_path / "out", "fp16", engines="each")
    assert str(failed.value) == (
        "TensorRT built no engine for a batch of 1: could not find any implementation for node conv1"
    )
    assert list((tmp_path / "out").iterdir()) == []


def test_a_graph_it_cannot_read_is_named(model: tuple[Path, Any], gpu: Any, tmp_path: Path) -> None:
    newer = onnx.version_converter.convert_version(onnx.load(model[0]), 19)
    onnx.save(newer, tmp_path / "newer.onnx")
    with pytest.raises(PipelineError, match="TensorRT cannot read the ONNX graph: opset 19 is not supported"):
        converted((tmp_path / "newer.onnx", model[1]), tmp_path / "out", "fp32")


def test_an_engine_without_the_precision_asked_for_is_no_proof(
    model: tuple[Path, Any], gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt, "typed", lambda job, folder: job.onnx)  # nothing was quantised
    with pytest.raises(PipelineError) as failed:
        converted(model, tmp_path, "int8")
    assert str(failed.value) == "TensorRT computes no layer of the engine for batch 1 in INT8: 2 fp32"


def test_weights_kept_in_fp32_are_listed() -> None:
    layers: list[Any] = [
        {
            "Name": "conv1",
            "Weights": {"Type": "Half", "Count": 9},
            "Inputs": [{"Format/Datatype": "Channel major FP16"}],
        },
        {"Name": "conv2", "Weights": {"Type": "Float", "Count": 9}, "Inputs": [{"Format/Datatype": "linear FP32"}]},
        {"Name": "conv3", "Weights": {"Type": "Int8", "Count": 9}, "Inputs": [{"Format/Datatype": "wide Int8 format"}]},
        {"Name": "pool", "Inputs": [{"Format/Datatype": "Half"}], "Weights": {"Type": "Float", "Count": 0}},
        {"Name": "topk", "Inputs": [{"Format/Datatype": "BFloat16"}], "Weights": None},
        {"Name": "reformat", "LayerType": "Reformat", "Inputs": [{"Format/Datatype": "linear FP32"}]},
    ]
    assert tensorrt_api.proof(json.dumps({"Layers": layers})) == {
        "layers": {"fp16": 2, "fp32": 1, "int8": 1, "other": 1},
        "weights": {"fp16": 1, "fp32": 1, "int8": 1},
        "fp32_weights": ["conv2"],
    }
    for strange in ("", "{}", '{"Layers": [{"Weights": {"Count": 3}}]}', '{"Layers": [{"Inputs": [{}]}]}', "[1]"):
        with pytest.raises(PipelineError, match="describes the engine in a way that is not known"):
            tensorrt_api.proof(strange)
    with pytest.raises(PipelineError, match="tells nothing of the engine's layers"):
        tensorrt_api.proof(json.dumps({"Layers": ["conv1", "conv2"]}))


def test_a_newer_tensorrt_fuses_layers_whose_weights_it_no_longer_names() -> None:
    fused = {"layers": {"int8": 3, "fp16": 1}, "weights": {}, "fp32_weights": [], "bytes": 5}
    found = tensorrt.proven("int8", {"1": fused})
    assert (found["engine_bytes"], found["int8_layers"], found["fp16_layers"]) == (5, 3, 1)
    assert tensorrt.proven("int8", {"1": fused | {"weights": {"fp16": 1}}})["fp16_layers"] == 1
    with pytest.raises(PipelineError, match="no layer of the engine for batch 1 in FP32: 3 int8, 1 fp16"):
        tensorrt.proven("fp32", {"1": fused})


@pytest.mark.parametrize(
    ("profile", "form", "gain"), [(2.0, "each", "2.00"), (1.01, "profile", "1.01"), (0.5, "profile", "0.50")]
)
def test_the_faster_form_is_kept_and_one_engine_if_it_is_close(profile: float, form: str, gain: str) -> None:
    kept, because = tensorrt.fastest({"each": {"1": 1.0, "8": 4.0}, "profile": {"1": profile, "8": 4.0 * profile}})
    assert kept == form
    assert because == (
        f"{tensorrt.FORMS[form]}: separate engines run {gain} times as fast as a single one (1.000 against "
        f"{profile:.3f} ms at batch 1, 4.000 against {4 * profile:.3f} ms at batch 8)"
    )


def test_both_forms_are_built_and_measured_and_one_is_kept(model: tuple[Path, Any], gpu: Any, tmp_path: Path) -> None:
    details = converted(model, tmp_path, "fp32")
    assert len(gpu.trt.builds) == 3
    assert {form: set(times) for form, times in details["form_p50_ms"].items()} == {
        "each": {"1", "4"}, "profile": {"1", "4"},
    }  # fmt: skip
    names = {"each": {"batch1.plan", "batch4.plan"}, "profile": {"batch1-4.plan"}}[details["form"]]
    assert {path.name for path in tmp_path.iterdir() if path.name != "cache"} == {"engines.json", *names}
    assert set(details["engine_build_s"]) == set(details["engines"])


def test_the_timing_cache_is_kept_for_this_gpu_driver_and_tensorrt(
    model: tuple[Path, Any], gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = converted(model, tmp_path / "first", "fp32", engines="each")
    again = converted(model, tmp_path / "again", "fp32", engines="each")
    assert [found["timing_cache"]["warm"] for found in (first, again)] == [False, True]
    (cache,) = (tmp_path / "cache/trt-pipeline").iterdir()
    assert cache.name == "TensorRT-8.5.3.1-NVIDIA-T4-7.5-driver-580.1.timing"
    assert cache.read_bytes() == b"++++"  # each build hands on what it learned
    monkeypatch.setattr(nvml, "driver", lambda: "581.0")
    assert not converted(model, tmp_path / "driver", "fp32")["timing_cache"]["warm"]
    gpu.cudart.name = "NVIDIA A10"
    assert not converted(model, tmp_path / "gpu", "fp32")["timing_cache"]["warm"]
    off = converted(model, tmp_path / "off", "fp32", timing_cache=False)
    assert off["timing_cache"] == {"used": False, "warm": False, "bytes": 3, "lost": None}


def test_a_damaged_timing_cache_is_begun_anew(model: tuple[Path, Any], gpu: Any, tmp_path: Path) -> None:
    converted(model, tmp_path / "first", "fp32", engines="profile")
    (cache,) = (tmp_path / "cache/trt-pipeline").iterdir()
    cache.write_bytes(b"damaged")
    converted(model, tmp_path / "again", "fp32", engines="profile")
    assert cache.read_bytes() == b"+"


def test_a_timing_cache_that_cannot_be_kept_costs_no_build(
    model: tuple[Path, Any], gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").write_text("")
    for cache, why in ((tmp_path / "a file", "Not a directory"), ("/proc/nowhere", "No such file"), ("", "no home")):
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        monkeypatch.setattr(Path, "home", no_home)
        details = converted(model, tmp_path / "out", "fp32", engines="profile")
        assert why in details["timing_cache"]["lost"]
        assert infer(loaded(tmp_path / "out"), example(1)).shape == (1, CLASSES)


def no_home() -> Path:
    raise RuntimeError("no home")


def test_a_champion_loads_without_what_only_converting_needs() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['tqdm', 'onnx', 'onnxruntime', 'tensorflow', 'pynvml']))\n"
        "from stages.runtimes import tensorrt, tensorrt_session"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


NATIVE = {
    "python": "3.10",
    "tensorrt_python": {"version": "8.5.3.1", "rtx": False},
    "cuda_python": "11.8.7",
    "driver": "580.1",
}


def on(capability: str, **more: Any) -> dict[str, Any]:
    return NATIVE | {"gpus": [{"name": "a GPU", "compute_capability": capability}]} | more


@pytest.mark.parametrize(
    ("precision", "machine", "reason"),
    [
        ("fp32", on("9.0"), None),
        ("int8", on("7.5"), None),
        ("fp32", NATIVE | {"gpus": [], "gpu_missing": "its driver lists no device"},
         "no NVIDIA GPU (its driver lists no device)"),
        ("fp32", on("9.0", tensorrt_python=None),
         "TensorRT's Python module is not installed: the extra `gpu` has it for Python 3.10"),
        ("fp32", on("9.0", tensorrt_python=None, python="3.11"),
         "TensorRT's Python module is not installed: the extra `gpu` has it for Python 3.10, and this is 3.11"),
        ("fp32", on("9.0", cuda_python=None),
         "CUDA's Python bindings are not installed: `pip install cuda-bindings`, in the version of this CUDA"),
        ("fp32", on("9.0", tensorrt_python={"version": "9.3.0", "rtx": False}),
         "TensorRT 9.3.0 is none of those that were tried: 8.5, 10, 11 and TensorRT-RTX"),
        ("fp32", on("7.5", tensorrt_python={"version": "8.4.3", "rtx": False}),
         "TensorRT 8.4.3 is none of those that were tried: 8.5, 10, 11 and TensorRT-RTX"),
        ("fp32", on("9.0", driver="440.33"),
         "the NVIDIA driver 440.33 is too old for TensorRT 8.5.3.1: install 450.80.02 or newer"),
        ("fp32", on("9.0", driver="510.1", tensorrt_python={"version": "11.4.0.106", "rtx": False}),
         "the NVIDIA driver 510.1 is too old for TensorRT 11.4.0.106: install 525.60.13 or newer"),
        ("fp32", on("12.0"),
         "TensorRT 8.5.3.1 has no kernels for a GPU (compute capability 12.0): `make repro TENSORRT=11` or `make repro "
         "TENSORRT=rtx` brings one that has"),
        ("fp32", on("3.7"), "TensorRT 8.5.3.1 has no kernels for a GPU (compute capability 3.7)"),
        ("fp32", on("7.0", tensorrt_python={"version": "11.4.0.106", "rtx": False}),
         "TensorRT 11.4.0.106 has no kernels for a GPU (compute capability 7.0): `make repro` brings one that has"),
        ("fp32", on("9.0", tensorrt_python={"version": "1.7.1.116", "rtx": True}),
         "TensorRT-RTX 1.7.1.116 has no kernels for a GPU (compute capability 9.0): `make repro` or `make repro "
         "TENSORRT=11` brings one that has"),
        ("fp16", on("6.1"), "a GPU (compute capability 6.1) has no fast FP16 units"),
        ("int8", on("6.0"), "a GPU (compute capability 6.0) has no INT8 units"),
    ],
)  # fmt: skip
def test_a_skip_names_its_cause(precision: str, machine: dict[str, Any], reason: str | None) -> None:
    assert tensorrt.unavailable(precision, machine) == reason


def test_no_tensorrt_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_api, "MODULES", ("no_such_tensorrt",))
    with pytest.raises(PipelineError, match="TensorRT's Python module is not installed: install the extra `gpu`"):
        tensorrt_api.module()


def test_records_are_what_the_session_reads(model: tuple[Path, Any], gpu: Any, tmp_path: Path) -> None:
    converted(model, tmp_path, "fp32", engines="each")
    assert files.read_json(tmp_path / "engines.json") == {
        "built_by": {"tensorrt": "TensorRT 8.5.3.1", "name": "NVIDIA T4", "compute_capability": "7.5"},
        "form": "each",
        "input": "images",
        "output": "probabilities",
        "engines": [[1, "batch1.plan"], [4, "batch4.plan"]],
    }
    converted(model, tmp_path, "fp32", engines="profile")
    assert files.read_json(tmp_path / "engines.json")["engines"] == [[1, "batch1-4.plan"], [4, "batch1-4.plan"]]
