from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stages.cluster import ray, worker
from stages.cluster.batches import Batch
from stages.cluster.worker import decode_batch, place_of, same_gpu
from stages.contracts.images import EVALUATION
from stages.contracts.preprocessing import Floats, Library
from stages.core import files
from stages.data import batches
from stages.runtimes import predict
from tests.cluster.tiny_model import PREPARED
from tests.fixtures.errors import named, refused
from tests.fixtures.records import GPU_MACHINE, environment


def batch(name: str, digest: str) -> Batch:
    return {"index": 3, "files": [name], "digests": [digest], "labels": [0]}


def test_a_node_with_another_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    error = refused(same_gpu, environment(GPU_MACHINE))
    assert named(error, "key") == ("another-gpu", "execution.gpu_model")


def test_a_node_is_described_as_models_are_run_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the threads that Ray allows a task, and with what whoever started the node has set."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MKL_NUM_THREADS", "2")
    variables = ray.described(None).settings.variables
    assert "OMP_NUM_THREADS" not in variables and variables["MKL_NUM_THREADS"] == "2"


def test_a_bad_image_is_told_as_the_local_engine_tells_it(checkout: Path) -> None:
    files.write_text(EVALUATION / "a.png", "no image")
    folder = str(EVALUATION.absolute())
    digest = files.sha256(EVALUATION / "a.png")[:16]
    row = decode_batch(folder, PREPARED, batch("a.png", digest))
    assert (row["index"], row["pixels"]) == (3, b"")
    assert str(EVALUATION / "a.png") in row["error"]
    gone = decode_batch(folder, PREPARED, batch("b.png", digest))["error"]
    assert folder in gone and "b.png" in gone and "execution.images" in gone


def test_another_image_of_the_same_name_does_not_count(checkout: Path, photo: Callable[..., Path]) -> None:
    photo(Path("store/a.png"), 1)
    asked = batch("a.png", files.sha256(Path("store/a.png"))[:16])
    store = str(Path("store").absolute())
    assert decode_batch(store, PREPARED, asked)["error"] == ""
    photo(Path("store/a.png"), 2)
    error = decode_batch(store, PREPARED, asked)["error"]
    assert store in error and str(EVALUATION) in error


@pytest.mark.parametrize("library", ["pillow", "tensorflow"])
def test_a_node_answers_on_the_pixels_that_another_decoded(
    checkout: Path, photo: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, library: Library
) -> None:
    photo(Path("store/a.png"), 1)
    prepared = replace(PREPARED, library=library)
    asked = batch("a.png", files.sha256(Path("store/a.png"))[:16])
    decoded = decode_batch(str(Path("store").absolute()), prepared, asked)
    images: list[Floats] = []
    monkeypatch.setattr(worker.Classifier, "_session", None)
    monkeypatch.setattr(worker.repeated, "refuse", lambda *_: None)
    monkeypatch.setattr(predict, "classify", lambda _, images_, labels: images.append(images_) or [])
    answered = worker.Classifier("tflite-fp32", None, prepared, environment(GPU_MACHINE))(decoded)
    assert (answered["answers"], answered["error"]) == ("[]", "")
    np.testing.assert_array_equal(images[0], batches.load(Path("store/a.png"), prepared)[np.newaxis])


def test_a_kind_of_address_that_nobody_reads_is_refused() -> None:
    pytest.importorskip("pyarrow", reason="Arrow is not installed (the extra cluster)")
    error = refused(place_of, "ftp://host/photos")
    assert named(error, "key") == ("unknown-address", "execution.images")
