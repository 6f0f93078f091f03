from functools import partial
from pathlib import Path

import pytest

from stages.core import gpu as nvml
from stages.runtimes.contract import infer
from stages.runtimes.tensorrt.tests.conftest import CLASSES, SHAPE, Convert, loaded
from stages.runtimes.tensorrt.tests.fake_gpu import FakeGpu
from tests.fixtures import tiny

example = partial(tiny.example, shape=SHAPE)


def test_it_is_for_this_gpu_driver_and_tensorrt(
    converted: Convert, gpu: FakeGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = converted(tmp_path / "first", "fp32", engines="each")
    again = converted(tmp_path / "again", "fp32", engines="each")
    assert [proof.facts["timing_cache.warm"] for proof in (first, again)] == [False, True]
    (cache,) = (tmp_path / "cache/trt-pipeline").iterdir()
    assert cache.name == "TensorRT-8.5.3.1-NVIDIA-T4-7.5-driver-580.1.timing"
    assert cache.read_bytes() == b"++++"  # each build hands on what it learned
    monkeypatch.setattr(nvml, "driver", lambda: "581.0")
    assert not converted(tmp_path / "driver", "fp32").facts["timing_cache.warm"]
    gpu.cudart.name = "NVIDIA A10"
    assert not converted(tmp_path / "gpu", "fp32").facts["timing_cache.warm"]
    off = converted(tmp_path / "off", "fp32", timing_cache=False)
    assert off.under("timing_cache") == {"used": False, "warm": False, "bytes": 3, "failed": None}


def test_a_damaged_one_is_begun_anew(converted: Convert, tmp_path: Path) -> None:
    converted(tmp_path / "first", "fp32", engines="profile")
    (cache,) = (tmp_path / "cache/trt-pipeline").iterdir()
    cache.write_bytes(b"damaged")
    converted(tmp_path / "again", "fp32", engines="profile")
    assert cache.read_bytes() == b"+"


def test_one_that_cannot_be_written_costs_no_build(
    converted: Convert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").write_text("")
    for cache, why in ((tmp_path / "a file", "Not a directory"), ("/proc/nowhere", "No such file"), ("", "no home")):
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        monkeypatch.setattr(Path, "home", no_home)
        proof = converted(tmp_path / "out", "fp32", engines="profile")
        assert why in str(proof.facts["timing_cache.failed"])
        assert infer(loaded(tmp_path / "out"), example(1)).shape == (1, CLASSES)


def no_home() -> Path:
    raise RuntimeError("no home")
