"""One tiny model and a GPU made of host memory (fake_gpu.py) for the tests of this folder."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from stages.contracts.conversion import Proof
from stages.core import gpu as nvml
from stages.runtimes.tensorrt import api, cuda
from stages.runtimes.tensorrt.convert import convert
from stages.runtimes.tensorrt.options import Options
from stages.runtimes.tensorrt.session import TensorRTSession, open_session
from stages.runtimes.tensorrt.tests.fake_gpu import FakeGpu
from tests.fixtures import tiny

SHAPE, CLASSES = (8, 8, 3), 6
Convert = Callable[..., Proof]
Model = tuple[Path, Callable[[Any], Any]]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """ONNX file of a convolution and a softmax, and the same as a function of NumPy arrays."""
    folder = tmp_path_factory.mktemp("model")
    answer = tiny.save_tiny_onnx(folder, SHAPE, CLASSES)
    return folder / "model.onnx", answer


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """To calibrate with."""
    return tiny.calibration_images(tmp_path_factory.mktemp("calibration") / "images", SHAPE)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeGpu:
    """A GPU with TensorRT 8.5; `cudart` and `trt` of it may be changed."""
    fake = FakeGpu()
    monkeypatch.setattr(cuda, "cudart", lambda: fake.cudart)
    monkeypatch.setattr(api, "module", lambda: fake.trt)
    api.log.cache_clear()
    monkeypatch.setattr(nvml, "session", nullcontext)
    monkeypatch.setattr(nvml, "driver", lambda: "580.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return fake


@pytest.fixture
def converted(model: Model, images: Path, gpu: FakeGpu) -> Convert:
    """Convert the model to a precision, with further options, in a folder that is made if it is missing."""

    def run(target: Path, precision: str, source: Path = model[0], **options: Any) -> Proof:
        return convert(tiny.convert_job(source, target, precision, images, SHAPE), Options(**options))

    return run


def loaded(folder: Path, **options: Any) -> TensorRTSession:
    """A session on the engines in the folder."""
    return open_session(folder, "fp32", Options(**options), None)
