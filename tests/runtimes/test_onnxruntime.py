import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from stages.core import gpu as nvml
from stages.core.errors import PipelineError
from stages.runtimes import onnxruntime
from stages.runtimes.contract import Job, Session, infer
from stages.runtimes.shared import onnx_precision
from tests.fixtures import models
from tests.fixtures.models import save_tiny_onnx

SHAPE, CLASSES = (8, 8, 3), 6
OPTIONS = {"calibrator": "minmax", "reduce_range": True}


example = partial(models.example, shape=SHAPE)
calibration = partial(models.calibration, shape=SHAPE)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """ONNX file of a convolution and a softmax, and the same as a function of NumPy arrays."""
    folder = tmp_path_factory.mktemp("model")
    answer = save_tiny_onnx(folder, SHAPE, CLASSES)
    return folder / "model.onnx", answer


def converted(model: tuple[Path, Any], target: Path, precision: str, **options: Any) -> tuple[dict[str, Any], Session]:
    chosen = OPTIONS | options
    job = Job(Path("unused"), model[0], target, precision, SHAPE, calibration, (1, 4), chosen)
    return onnxruntime.convert(job), onnxruntime.load(target, precision, chosen, 1)


def weights(path: Path) -> list[Any]:
    """The stored INT8 weights."""
    found = [onnx.numpy_helper.to_array(constant) for constant in onnx.load(path).graph.initializer]
    return [array for array in found if array.dtype == np.int8 and array.ndim > 1]


def test_onnx_runtime_is_the_only_need(machine: dict[str, Any], no_gpu: dict[str, Any]) -> None:
    assert [onnxruntime.unavailable(precision, no_gpu) for precision in ("fp32", "int8")] == [None, None]
    assert onnxruntime.unavailable("fp32", machine) is None
    assert onnxruntime.unavailable("int8", machine | {"onnxruntime_gpu": False}) is None  # built for CPUs alone
    assert onnxruntime.unavailable("fp32", machine | {"driver": "470.1"}) == (
        "the NVIDIA driver 470.1 is too old for CUDA 12: install 525.60.13 or newer"
    )
    assert onnxruntime.unavailable("int8", machine | {"onnxruntime": None}) == (
        "ONNX Runtime is not installed: `pip install onnxruntime`"
    )
    assert onnxruntime.unavailable("int8", machine) == (
        "ONNX Runtime's CUDA provider has no QLinearConv and would compute in FP32 between Q/DQ pairs; the INT8 of a "
        "GPU is tensorrt-int8"
    )


@pytest.mark.parametrize(
    ("gpu", "providers", "expected"),
    [
        (None, ["CPUExecutionProvider"], "CPUExecutionProvider"),
        (None, ["CUDAExecutionProvider", "CPUExecutionProvider"], "CPUExecutionProvider"),
        ("a GPU", ["CPUExecutionProvider"], "CPUExecutionProvider"),
        ("a GPU", ["CUDAExecutionProvider", "CPUExecutionProvider"], "CUDAExecutionProvider"),
    ],
)
def test_the_gpu_computes_where_there_is_one_and_a_provider_for_it(
    monkeypatch: pytest.MonkeyPatch, gpu: str | None, providers: list[str], expected: str
) -> None:
    monkeypatch.setattr(nvml, "first_gpu", lambda: nullcontext(gpu))
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: providers)
    assert onnxruntime.provider() == expected


@pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="this ONNX Runtime has the provider"
)
def test_a_provider_that_does_not_load_is_no_silent_fallback(
    model: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "provider", lambda: "CUDAExecutionProvider")  # which this wheel does not have
    with pytest.raises(PipelineError, match="ONNX Runtime fell back to the CPU: CUDAExecutionProvider did not load"):
        onnxruntime.load(model[0].parent, "fp32", {}, 1)


class Binding:
    """An io_binding whose GPU is host memory."""

    def __init__(self, session: "CudaSession") -> None:
        self.session, self.bound = session, dict[str, Any]()

    def bind_ortvalue_input(self, name: str, value: Any) -> None:
        self.bound[name] = value

    def bind_output(self, name: str, device: str) -> None:
        assert device == "cpu"
        self.output = name

    def copy_outputs_to_cpu(self) -> list[Any]:
        return [self.answer]


class CudaSession:
    """An inference session that runs what is bound."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.get_inputs, self.get_outputs = session.get_inputs, session.get_outputs

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def io_binding(self) -> Binding:
        return Binding(self)

    def run_with_iobinding(self, binding: Binding) -> None:
        (binding.answer,) = self.session.run([binding.output], binding.bound)


def test_on_a_gpu_the_input_is_bound_there(model: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    ours, placed = onnxruntime._session, []

    def place(images: Any, device: str, number: int) -> Any:
        placed.append((device, number))
        return images

    monkeypatch.setattr(onnxruntime, "_session", lambda path, options: CudaSession(ours(path, options)))
    monkeypatch.setattr("onnxruntime.OrtValue.ortvalue_from_numpy", place)
    session = onnxruntime.load(model[0].parent, "fp32", {}, 1)
    assert session.on_gpu
    for size in (1, 4):
        np.testing.assert_allclose(infer(session, example(size)), model[1](example(size)), atol=1e-6)
    assert placed == [("cuda", 0)] * 2


def test_a_champion_loads_without_what_only_converting_needs(model: tuple[Path, Any], tmp_path: Path) -> None:
    converted(model, tmp_path, "fp32")
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['tqdm', 'onnx', 'tensorflow', 'tf2onnx']))\n"
        "from pathlib import Path; from stages.runtimes import onnxruntime\n"
        f"onnxruntime.load(Path({str(tmp_path)!r}), 'fp32', {{}}, 1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_fp32_answers_as_the_model_does_at_any_batch_size(model: tuple[Path, Any], tmp_path: Path) -> None:
    details, session = converted(model, tmp_path, "fp32")
    assert (details["int8_layers"], details["fp32_layers"]) == (0, 2)
    for size in (1, 4, 3):
        np.testing.assert_allclose(infer(session, example(size)), model[1](example(size)), atol=1e-6)


@pytest.mark.parametrize("calibrator", ["minmax", "percentile", "entropy"])
def test_int8_computes_every_layer_in_int8_and_stays_near(
    model: tuple[Path, Any], tmp_path: Path, calibrator: str
) -> None:
    details, session = converted(model, tmp_path, "int8", calibrator=calibrator)
    assert (details["int8_layers"], details["fp32_layers"]) == (2, 0)
    assert (details["calibrator"], details["reduce_range"]) == (calibrator, True)
    assert details["operations"]["QLinearConv"] == 1
    for size in (1, 4):
        found = infer(session, example(size))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, model[1](example(size)), atol=0.06)


@pytest.mark.parametrize(("reduce_range", "largest"), [(True, 64), (False, 127)])
def test_a_reduced_range_takes_seven_bits(
    model: tuple[Path, Any], tmp_path: Path, reduce_range: bool, largest: int
) -> None:
    converted(model, tmp_path, "int8", reduce_range=reduce_range)
    stored = weights(tmp_path / onnxruntime.FILE)
    assert len(stored) == 2
    assert max(np.abs(array.astype(int)).max() for array in stored) == largest


def test_weights_have_a_scale_for_each_channel(model: tuple[Path, Any], tmp_path: Path) -> None:
    converted(model, tmp_path, "int8")
    scales = [c for c in onnx.load(tmp_path / onnxruntime.FILE).graph.initializer if c.name.endswith("_scale")]
    assert {8, 6} <= {c.dims[0] for c in scales if c.dims}


def test_a_graph_without_an_int8_layer_is_a_failure(
    model: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget(job: Job, path: Path) -> None:
        path.write_bytes(job.onnx.read_bytes())

    monkeypatch.setattr(onnx_precision, "quantise_for_cpu", forget)
    with pytest.raises(PipelineError, match="computes no layer of the quantised graph in INT8"):
        converted(model, tmp_path, "int8")


def test_the_number_of_threads_is_set(model: tuple[Path, Any]) -> None:
    session = onnxruntime.ONNXRuntimeSession(model[0], 3)
    assert session._session.get_session_options().intra_op_num_threads == 3


def test_quantising_is_silent(model: tuple[Path, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    converted(model, tmp_path, "int8", calibrator="entropy")
    assert capfd.readouterr().out == ""
