import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from stages.core import gpu as nvml
from stages.core.errors import PipelineError
from stages.runtimes.contract import infer
from stages.runtimes.onnxruntime import session as module
from stages.runtimes.onnxruntime.options import Options
from stages.runtimes.onnxruntime.session import CPU, CUDA, ONNXRuntimeSession, open_session
from stages.runtimes.onnxruntime.tests.conftest import SHAPE, Convert
from tests.fixtures import tiny

example = partial(tiny.example, shape=SHAPE)


@pytest.mark.parametrize(
    ("gpu", "providers", "expected"),
    [(None, [CPU], CPU), (None, [CUDA, CPU], CPU), ("a GPU", [CPU], CPU), ("a GPU", [CUDA, CPU], CUDA)],
)
def test_the_gpu_computes_where_there_is_one_and_a_provider_for_it(
    monkeypatch: pytest.MonkeyPatch, gpu: str | None, providers: list[str], expected: str
) -> None:
    monkeypatch.setattr(nvml, "first_gpu", lambda: nullcontext(gpu))
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: providers)
    assert module.provider() == expected


@pytest.mark.skipif(CUDA in ort.get_available_providers(), reason="this ONNX Runtime has the provider")
def test_a_provider_that_does_not_load_is_no_silent_fallback(
    model: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "provider", lambda: CUDA)  # which this wheel does not have
    with pytest.raises(PipelineError) as caught:
        open_session(model[0].parent, "fp32", Options(), 1)
    assert (caught.value.code, caught.value.values) == ("onnxruntime-fallback", {"provider": CUDA})


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

    answer: Any = None


class CudaSession:
    """An inference session that runs what is bound."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.get_inputs, self.get_outputs = session.get_inputs, session.get_outputs

    def get_providers(self) -> list[str]:
        return [CUDA, CPU]

    def io_binding(self) -> Binding:
        return Binding(self)

    def run_with_iobinding(self, binding: Binding) -> None:
        (binding.answer,) = self.session.run([binding.output], binding.bound)


def test_on_a_gpu_the_input_is_bound_there(model: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    real, placed = module.inference_session, []

    def place(images: Any, device: str, number: int) -> Any:
        placed.append((device, number))
        return images

    monkeypatch.setattr(module, "inference_session", lambda path, options: CudaSession(real(path, options)))
    monkeypatch.setattr("onnxruntime.OrtValue.ortvalue_from_numpy", place)
    session = open_session(model[0].parent, "fp32", Options(), 1)
    assert session.on_gpu
    for size in (1, 4):
        np.testing.assert_allclose(infer(session, example(size)), model[1](example(size)), atol=1e-6)
    assert placed == [("cuda", 0)] * 2


def test_a_champion_loads_without_what_only_converting_needs(converted: Convert, tmp_path: Path) -> None:
    converted("fp32", tmp_path)
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['tqdm', 'onnx', 'tensorflow', 'tf2onnx', 'PIL', 'pynvml']))\n"
        "from pathlib import Path; from stages.runtimes.onnxruntime import DESCRIPTION, session\n"
        f"session.open_session(Path({str(tmp_path)!r}), 'fp32', DESCRIPTION.options(), 1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_number_of_threads_is_set(model: tuple[Path, Any]) -> None:
    session = ONNXRuntimeSession(model[0], 3)
    assert session._session.get_session_options().intra_op_num_threads == 3


def test_on_a_cpu_it_is_synchronous_and_tells_nothing_of_a_gpu(model: tuple[Path, Any]) -> None:
    session = ONNXRuntimeSession(model[0], 1)
    assert session.asynchronous is False
    assert (session.gpu_peak_bytes(), session.parts_ms()) == (None, None)
