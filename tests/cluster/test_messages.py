"""Every sentence of the room, seen once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from stages.cluster import batches, ray, worker
from stages.cluster.batches import Answered
from stages.contracts.images import EVALUATION
from stages.core import files
from stages.params.execution import ExecutionParams
from tests.cluster.test_ray import node
from tests.fixtures.errors import assert_helps, refused
from tests.fixtures.records import GPU_MACHINE, environment

RAY = ExecutionParams(engine="ray", gpu_model="H100", retries=0, images=None)
ANSWERED: list[Answered] = [{"index": 0, "answers": "[]", "error": ""}]


def unreadable(folder: str, name: str, digest: str) -> None:
    files.write_text(EVALUATION / "a.png", "another")
    worker._read(folder, name, digest)


SENTENCES: dict[str, tuple[str, Callable[[], object]]] = {
    "batch-answers": ("batch 0", lambda: list(batches.in_order(ANSWERED, [("a.png", 0)], 1))),
    "another-gpu": ("execution.gpu_model", lambda: worker.same_gpu(environment(GPU_MACHINE))),
    "unknown-address": ("execution.images", lambda: worker.place_of("ftp://host/photos")),
    "no-image-on-node": ("execution.images", lambda: unreadable("/nowhere", "a.png", "")),
    "another-image": ("a.png", lambda: unreadable(str(EVALUATION.absolute()), "a.png", "0000")),
    "ray-missing": ("execution.engine", ray.joined(RAY).__enter__),
    "unknown-gpu-model": ("execution.gpu_model", lambda: ray._parts(RAY, [node(1, "T4")])),
}


@pytest.mark.parametrize("code", SENTENCES)
def test_a_sentence_names_its_place_and_a_remedy(code: str, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if code in ("unknown-address", "no-image-on-node", "another-image"):
        pytest.importorskip("pyarrow", reason="Arrow is not installed (the extra cluster)")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(ray, "find_spec", lambda name: None)
    place, call = SENTENCES[code]
    error = refused(call)
    assert error.code == code
    assert_helps(error, place)
