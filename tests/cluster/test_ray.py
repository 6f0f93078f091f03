"""Nodes by their GPU models, and tasks on those of one model."""

import math
import socket

import pytest

from stages.cluster import ray
from stages.params.execution import ExecutionParams
from tests.fixtures.errors import named, refused

SETTING = ExecutionParams(engine="ray", gpu_model=None, retries=0, images=None)


def node(gpus: int, label: str | None = None) -> ray.Node:
    return {
        "Resources": {"CPU": 2.0} | ({"GPU": gpus} if gpus else {}),
        "Labels": {ray.GPU_MODEL: label} if label else {},
    }


def test_nodes_go_by_their_gpu_model_and_those_without_a_gpu_only_decode() -> None:
    t4, h100, unknown, plain = node(1, "T4"), node(8, "H100"), node(2), node(0)
    found = ray.by_gpu_model([t4, plain, unknown, h100, t4])
    assert list(found.items()) == [("H100", [h100]), ("T4", [t4, t4]), ("unlabelled", [unknown])]
    assert [ray.selector(name, found) for name in found] == [
        {"ray.io/accelerator-type": "H100"},
        {"ray.io/accelerator-type": "T4"},
        {"ray.io/accelerator-type": "!in(H100,T4)"},
    ]


def test_without_any_gpu_all_nodes_are_one_model_whatever_their_labels() -> None:
    nodes = [node(0), node(0, "T4")]
    assert ray.by_gpu_model(nodes) == {"unlabelled": nodes}
    assert ray.selector("unlabelled", ["unlabelled"]) == {}


@pytest.mark.parametrize(
    ("nodes", "items", "each"),
    [(1, 100, 100), (1, 5000, 156), (8, 5000, 128), (8, 50_000, 195), (8, 50_000_000, 512), (0, 5000, 512)],
)
def test_images_travel_in_parts_large_enough_for_ray_and_small_enough_to_share_out(
    nodes: int, items: int, each: int
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (the extra cluster)")
    found = ray.Cluster([node(1)], [1] * nodes, {}, retries=0)
    assert found.blocks(items) == math.ceil(items / each)


def test_the_engine_ray_without_ray_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "find_spec", lambda name: None)
    error = refused(ray.joined(SETTING).__enter__)
    assert named(error, "key") == ("ray-missing", "execution.engine")


def test_an_address_where_nobody_listens_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (the extra cluster)")
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*bound.getsockname())
        monkeypatch.setenv(ray.ADDRESS, address)
        error = refused(ray.joined(SETTING).__enter__)
    assert named(error, "address") == ("no-cluster", address)
