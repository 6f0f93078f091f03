"""The stage `sweep` on a real Ray cluster of several nodes on this machine, whose workers and nodes are killed."""

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pynvml
import pytest
import yaml
from PIL import Image

from stages import summarize, sweep
from stages.cluster import ray
from stages.cluster.kept import BENCHMARK, LOCAL, Kept, Sweep, pack, read
from stages.cluster.worker import Classifier, decode_batch, same_gpu
from stages.contracts import labels, paths
from stages.contracts.preprocessing import Preprocessing
from stages.core import files
from stages.environment import describe_machine
from stages.measurement import evaluation, interleave
from stages.params import document
from tests.fixtures.models import refusal, save_tiny_onnx

REPOSITORY = Path(__file__).parents[2]
VARIANTS = ["savedmodel-fp32", "tflite-fp32", "onnxruntime-int8", "tensorrt-fp16"]
IMAGES, BATCH = 30, 4
# Of an object store; nodes have them in their environment.
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
PREPARED = Preprocessing(16, 16, "crop", 0.875, (1 / 255,) * 3, (0.0,) * 3, "rgb")


# Without Ray.


def test_the_local_engine_leaves_nothing_to_adopt_and_does_not_need_ray(checkout: Path) -> None:
    files.write_text(paths.SWEEP / "tflite-fp32/convert/key", "of an earlier run")
    code = "import sys; from stages import sweep; sweep.main(); print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert read() == LOCAL
    assert list(paths.SWEEP.iterdir()) == list(paths.OTHER_GPUS.iterdir()) == []


def test_the_engine_ray_without_ray_says_what_to_install(
    checkout: Path, edit: Callable[..., None], no_gpu: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(("execution.engine", "ray"))
    files.write_json(paths.ENVIRONMENT, no_gpu)
    files.write_json(paths.GPU_MODELS, {"home": ray.UNLABELLED, "others": {}})
    monkeypatch.setattr(ray, "find_spec", lambda name: None)
    assert refusal(sweep.main) == (
        "`execution.engine` is ray, but Ray is not installed: run `make repro ENGINE=ray`, or "
        '`pip install ".[cluster]"`'
    )


def answered(index: int, count: int) -> dict[str, Any]:
    return {"index": index, "error": "", "answers": json.dumps([[[index], [0.5]]] * count)}


def test_batches_in_any_order_become_predictions_in_the_order_of_the_images() -> None:
    table = [(f"{index}.png", index) for index in range(5)]
    found = list(sweep.in_order([answered(2, 1), answered(0, 2), answered(1, 2)], table, 2))
    assert [prediction.file for prediction in found] == [name for name, _ in table]
    assert [prediction.classes for prediction in found] == [[0], [0], [1], [1], [2]]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([answered(0, 2), answered(1, 2)], "batch 2 was never answered: run the same command again"),
        ([answered(0, 2), answered(2, 1)], "batch 1 was never answered: run the same command again"),
        ([answered(0, 2), answered(1, 1), answered(2, 1)], "batch 1 has 1 of 2 answers: run the same command again"),
        ([answered(0, 2), answered(0, 2)], "batch 0 was answered twice: run the same command again"),
        ([answered(2, 1), answered(2, 1)], "batch 2 was answered twice: run the same command again"),
        (
            [answered(0, 2), answered(1, 2), answered(2, 1), answered(3, 1)],
            "batch 3 has 1 of 0 answers: run the same command again",
        ),
        ([answered(0, 2), {"index": 1, "error": "no image", "answers": "[]"}], "no image"),
    ],
)
def test_an_image_that_is_missing_or_counted_twice_is_an_error(rows: list[dict[str, Any]], sentence: str) -> None:
    assert refusal(lambda: list(sweep.in_order(rows, [("a.png", 0)] * 5, 2))) == sentence


def test_only_batches_that_came_too_early_wait() -> None:
    taken: list[int] = []

    def rows() -> Iterator[dict[str, Any]]:
        for index in (1, 0, 2):
            taken.append(index)
            yield answered(index, 1)

    found = sweep.in_order(rows(), [("a.png", 0)] * 3, 1)
    assert [(next(found).classes, list(taken)) for _ in range(3)] == [([0], [1, 0]), ([1], [1, 0]), ([2], [1, 0, 2])]


def test_a_node_with_another_gpu_is_refused(machine: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert refusal(same_gpu, machine) == (
        "a task ran on a node without a GPU, and the environment was described on NVIDIA T4, whose results do not "
        "compare: set execution.gpu_model to one GPU model of the cluster"
    )


def test_a_bad_image_is_told_as_the_local_engine_tells_it(checkout: Path) -> None:
    files.write_text(paths.EVALUATION / "a.png", "no image")
    folder = str(paths.EVALUATION.absolute())
    batch = {"index": 3, "files": ["a.png"], "digests": [files.sha256(paths.EVALUATION / "a.png")[:16]]}
    row = decode_batch(folder, PREPARED, batch)
    reason = "data/evaluation/a.png cannot be read as an image (not an image): replace or remove it"
    assert row == {"index": 3, "pixels": b"", "error": reason}
    gone = decode_batch(folder, PREPARED, batch | {"files": ["b.png"]})["error"]
    assert gone == (
        f"{folder} has no b.png on this node: set execution.images to where all nodes find the files of data/evaluation"
    )


def test_another_image_of_the_same_name_does_not_count(checkout: Path, photo: Callable[..., Path]) -> None:
    photo(Path("store/a.png"), 1)
    batch = {"index": 0, "files": ["a.png"], "digests": [files.sha256(Path("store/a.png"))[:16]]}
    store = str(Path("store").absolute())
    assert decode_batch(store, PREPARED, batch)["error"] == ""
    photo(Path("store/a.png"), 2)
    assert decode_batch(store, PREPARED, batch)["error"] == (
        f"{store} has another a.png than data/evaluation: copy these files there again"
    )


def test_a_key_changes_with_what_a_conversion_reads_and_with_nothing_else(
    checkout: Path, edit: Callable[..., None], model_record: dict[str, Any], no_gpu: dict[str, Any]
) -> None:
    files.write_json(paths.MODEL, model_record)
    for path in (paths.SAVED_MODEL / "saved_model.pb", paths.ONNX, paths.CALIBRATION / "a.png"):
        files.write_text(path, "content")
    edit(("variants", ["tflite-int8", "onnxruntime-int8"]))

    def keys() -> dict[str, str]:
        return sweep.converted_key(document.load(), sweep.shared_key(no_gpu))

    first = keys()
    edit(("evaluation.source", "photos"), ("benchmark.min_samples", 7), ("execution.retries", 5))
    assert keys() == first
    edit(("tflite.xnnpack", False))
    assert {name for name, key in keys().items() if key != first[name]} == {"tflite-int8"}
    files.write_text(paths.CALIBRATION / "a.png", "another")
    assert all(key != first[name] for name, key in keys().items())
    assert sweep.shared_key(no_gpu) != sweep.shared_key(no_gpu | {"driver": "535.1"})


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


# With Ray.


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


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key != ray.ADDRESS}
    return kept | {"PYTHONPATH": str(REPOSITORY)} | more


def values(engine: str, names: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    found["variants"] = names
    found["evaluation"]["batch_size"] = BATCH
    found["benchmark"] |= {"batch_sizes": [1], "min_samples": 10, "min_seconds": 0}
    found["execution"]["engine"] = engine
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of a tiny model and noise to show it, as the stages before `sweep` leave it."""
    folder = tmp_path_factory.mktemp("model")
    save_tiny_onnx(folder / "models", PREPARED.shape, 6)
    (folder / paths.ONNX).parent.mkdir()
    (folder / "models/model.onnx").rename(folder / paths.ONNX)
    for place, count in ((paths.EVALUATION, IMAGES), (paths.CALIBRATION, 10)):
        (folder / place).mkdir(parents=True)
        for index in range(count):
            Image.effect_noise((24, 20), 40 + index).convert("RGB").save(folder / place / f"{index}.png")
    names = [f"{index}.png" for index in range(IMAGES)]
    rows = [(name, index % 6, files.sha256(folder / paths.EVALUATION / name)) for index, name in enumerate(names)]
    files.write_csv(folder / sweep.TABLE, ("file", "label", "sha256"), rows)
    prepared = {**PREPARED.__dict__}
    record = {"name": "tiny", "input_shape": PREPARED.shape, "classes": 6, "preprocessing": prepared, "training": None}
    files.write_json(folder / paths.MODEL, record)
    images = {"source": "noise", "images": IMAGES, "classes": 6, "digest": "e"}
    files.write_json(folder / paths.IMAGES, {"evaluation": images, "calibration": images})
    files.write_json(folder / paths.ENVIRONMENT, describe_machine(None))
    files.write_json(folder / paths.GPU_MODELS, {"home": ray.UNLABELLED, "others": {}})
    return folder


class Nodes:
    """A head that does no work, and nodes that do, each in a folder of its own: else they delete each other's files."""

    def __init__(self, count: int) -> None:
        from ray.cluster_utils import Cluster

        # Ray notes a cluster's address here, also of one in another folder, and does not make it.
        Path(tempfile.gettempdir(), "ray").mkdir(exist_ok=True)
        self.folders: list[str] = []
        head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": self.folder()}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes = [self.add() for _ in range(count)]

    def folder(self) -> str:
        # With a short name, since Ray's sockets lie in it.
        self.folders.append(tempfile.mkdtemp(prefix="ray"))
        return self.folders[-1]

    def add(self, **more: Any) -> Any:
        return self.cluster.add_node(**{"num_cpus": 2, "temp_dir": self.folder(), "env_vars": KEYS} | more)

    def shutdown(self) -> None:
        self.cluster.shutdown()
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)

    def workers(self, title: str) -> Iterator[tuple[Any, psutil.Process]]:
        """Nodes and their processes that Ray has given such a title."""
        for node in self.nodes:
            for process in psutil.Process(node.all_processes["raylet"][0].process.pid).children(recursive=True):
                try:
                    if "".join(process.cmdline()[:1]).startswith(title):
                        yield node, process
                except psutil.NoSuchProcess:
                    continue

    def wait(self, title: str, *nodes: Any) -> tuple[Any, psutil.Process]:
        """The first such process, on one of these nodes if any are given."""
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            for found in self.workers(title):
                if not nodes or found[0] in nodes:
                    return found
            time.sleep(0.02)
        raise TimeoutError(title)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    pytest.importorskip("ray", reason="Ray is not installed (the extra cluster)")
    found = Nodes(2)
    yield found
    found.shutdown()


class Checkout:
    """A copy of the tiny model's checkout, in which stages run."""

    def __init__(self, folder: Path, model: Path, nodes: Nodes | None, names: list[str]) -> None:
        shutil.copytree(model, folder)
        self.folder = folder
        self.environment = environment(**({ray.ADDRESS: nodes.cluster.address} if nodes else {}))
        self.write("ray" if nodes else "local", names)

    def write(self, engine: str, names: list[str], **execution: Any) -> None:
        found = values(engine, names)
        found["execution"] |= execution
        (self.folder / paths.PARAMS).write_text(yaml.safe_dump(found))

    def start(self, stage: str, *arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", f"stages.{stage}", *arguments]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def run(self, stage: str, *arguments: str, status: int = 0) -> str:
        process = self.start(stage, *arguments)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == status, output
        return output

    def stages(self, names: list[str]) -> None:
        """All that the engine changes, as DVC runs it."""
        self.run("environment")
        self.run("sweep")
        for name in names:
            self.run("convert", name)
            self.run("evaluate", name)
        self.run("benchmark")

    def kept(self) -> dict[str, bytes]:
        return pack(self.folder, str(paths.SWEEP))

    def record(self) -> Sweep:
        return Sweep(**files.read_json(self.folder / paths.SWEEP_RECORD))


@pytest.fixture(scope="module")
def swept(model: Path, nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    found = Checkout(tmp_path_factory.mktemp("swept") / "checkout", model, nodes, VARIANTS)
    found.stages(VARIANTS)
    return found


@pytest.fixture(scope="module")
def local(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    found = Checkout(tmp_path_factory.mktemp("local") / "checkout", model, None, VARIANTS)
    found.stages(VARIANTS)
    return found


def test_the_files_are_those_of_the_local_engine(swept: Checkout, local: Checkout) -> None:
    parts = ("models", "reports")
    ours, theirs = (pack(found.folder, *parts) for found in (swept, local))
    ours = {name: content for name, content in ours.items() if not name.startswith("models/sweep/")}
    assert ours.keys() == theirs.keys()
    differ = {name for name, content in ours.items() if content != theirs[name]}
    clocks = {"convert.json", "convert_system.csv", "evaluate_system.csv", "benchmark.json", "samples.csv"}
    assert {Path(name).name for name in differ} <= clocks | {"sweep.json", "gpu_models.json"}
    for name in VARIANTS:
        here, there = (files.read_json(found.folder / paths.record(name, "convert.json")) for found in (swept, local))
        assert {**here, "convert_s": None} == {**there, "convert_s": None}
    here, there = (files.read_json(found.folder / paths.BENCHMARK) for found in (swept, local))
    assert list(here["variants"]) == list(there["variants"]) == VARIANTS[:3]
    assert {timed["status"] for timed in here["variants"].values()} == {"ok"}
    assert files.read_json(swept.folder / paths.record("tflite-fp32", "evaluate.json"))["images"] == IMAGES


def test_a_second_sweep_redoes_nothing(swept: Checkout) -> None:
    before, record = swept.kept(), swept.record()
    assert {Path(name).parts[2:4] for name in before} == {("unlabelled", name) for name in (*VARIANTS, "benchmark")}
    swept.run("sweep")
    assert swept.kept() == before
    assert swept.record() == record


def test_counts_are_the_same_for_any_number_of_blocks(
    swept: Checkout, local: Checkout, nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(swept.folder)
    monkeypatch.setenv(ray.ADDRESS, nodes.cluster.address)
    table, digests = labels.read_table(sweep.TABLE), list(labels.read_digests(sweep.TABLE))
    rows = [
        {
            "index": at // BATCH,
            "files": [file for file, _ in table[at : at + BATCH]],
            "digests": digests[at : at + BATCH],
        }
        for at in range(0, IMAGES, BATCH)
    ]
    decode = partial(decode_batch, str(paths.EVALUATION.absolute()), PREPARED)
    machine = files.read_json(paths.ENVIRONMENT)
    with ray.joined(document.load().execution) as parts:
        (joined,) = parts.values()
        converted = joined.put(pack(Kept("unlabelled").folder("convert@tflite-fp32"), "models"))
        arguments = ("tflite-fp32", converted, PREPARED, machine)
        stream = partial(joined.stream, rows, decode, Classifier, *arguments, actors=2)
        found = [
            evaluation.write(sweep.in_order(stream(blocks=blocks), table, BATCH), tmp_path / f"{blocks}.csv")
            for blocks in (1, 2, 3, 7)
        ]
    theirs = files.read_json(local.folder / paths.record("tflite-fp32", "evaluate.json"))
    assert [{"status": "ok", "reason": None} | counted for counted in found] == [theirs] * 4
    answers = (local.folder / paths.record("tflite-fp32", "predictions.csv")).read_bytes()
    assert [(tmp_path / f"{blocks}.csv").read_bytes() for blocks in (1, 2, 3, 7)] == [answers] * 4


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        return None


@pytest.fixture
def object_store(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An empty bucket, by its address and its folder: what Arrow's S3 client sends to read is plain HEAD and GET."""
    (tmp_path / "store/bucket").mkdir(parents=True)
    handler = partial(Quiet, directory=tmp_path / "store")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        place = "{}:{}".format(*server.server_address)
        yield (
            f"s3://bucket/photos?scheme=http&region=us-east-1&endpoint_override={place}",
            tmp_path / "store/bucket",
        )
        server.shutdown()


def test_images_are_read_from_an_object_store(
    model: Path,
    nodes: Nodes,
    local: Checkout,
    object_store: tuple[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, bucket = object_store
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    found = Checkout(tmp_path / "checkout", model, nodes, ["tflite-fp32"])
    shutil.copytree(found.folder / paths.EVALUATION, bucket / "photos")
    for image in (found.folder / paths.EVALUATION).glob("*.png"):
        image.unlink()
    found.write("ray", ["tflite-fp32"], images=address)
    found.run("sweep")
    found.run("convert", "tflite-fp32")
    found.run("evaluate", "tflite-fp32")
    record = paths.record("tflite-fp32", "predictions.csv")
    assert (found.folder / record).read_bytes() == (local.folder / record).read_bytes()
    (bucket / "photos/7.png").unlink()
    assert decode_batch(address, PREPARED, {"index": 0, "files": ["7.png"], "digests": [""]})["error"] == (
        f"{address} has no 7.png on this node: set execution.images to where all nodes find the files of "
        "data/evaluation"
    )


def test_a_kind_of_address_that_nobody_reads_is_refused_before_anything_is_converted(
    model: Path, nodes: Nodes, tmp_path: Path
) -> None:
    found = Checkout(tmp_path / "checkout", model, nodes, ["tflite-fp32"])
    found.write("ray", ["tflite-fp32"], images="ftp://host/photos")
    output = found.run("sweep", status=1)
    assert output == (
        "error: params.yaml: `execution.images` is ftp://host/photos (Unrecognized filesystem type in URI: "
        "ftp://host/photos): it should be a whole path, or an address such as s3://bucket/photos\n"
    )
    assert not (found.folder / paths.SWEEP).exists()


def test_a_folder_that_nodes_do_not_have_is_told_once_and_before_anything_is_converted(
    model: Path, nodes: Nodes, tmp_path: Path
) -> None:
    found = Checkout(tmp_path / "checkout", model, nodes, ["tflite-fp32", "onnxruntime-int8"])
    found.write("ray", ["tflite-fp32", "onnxruntime-int8"], images="/nowhere/photos")
    assert found.run("sweep", status=1) == (
        "error: /nowhere/photos has no 0.png on this node: set execution.images to where all nodes find the files of "
        "data/evaluation\n"
    )
    assert not (found.folder / paths.SWEEP).exists()


def test_after_an_interrupt_a_sweep_ends_at_once_and_joins_no_other_cluster(
    model: Path, nodes: Nodes, heeded: None, tmp_path: Path
) -> None:
    # While the last variants are still converted.
    found = Checkout(tmp_path / "checkout", model, nodes, VARIANTS)
    running = found.start("sweep")
    nodes.wait("ray::MapWorker")
    running.send_signal(signal.SIGINT)
    output, _ = running.communicate(timeout=60)
    # Ray's own words before may have been of the evaluation, and none of another cluster.
    sentence = "error: interrupted: run the same command again, and it goes on where it stopped\n"
    assert (running.returncode, output[-len(sentence) :]) == (1, sentence)
    assert not any(word in output for word in ("Traceback", "Exception", "Found multiple", "Connecting", "Started"))


def test_an_address_where_nobody_listens_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (the extra cluster)")
    setting = document.ExecutionParams(engine="ray", gpu_model=None, retries=0, images=None)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*bound.getsockname())
        monkeypatch.setenv(ray.ADDRESS, address)
        with pytest.raises(sweep.PipelineError, match=rf"no Ray cluster to join at {address}, which RAY_ADDRESS names"):
            ray.joined(setting).__enter__()


def test_a_task_that_runs_out_of_memory_is_a_failed_row(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (the extra cluster)")
    # To this node's Ray any use of memory is too much.
    full = Nodes(0)
    full.nodes.append(full.add(env_vars={"RAY_memory_usage_threshold": "0.0", "RAY_memory_monitor_refresh_ms": "50"}))
    found = Checkout(tmp_path / "checkout", model, full, ["onnxruntime-int8"])
    found.write("ray", ["onnxruntime-int8"], retries=1)
    try:
        found.run("sweep", status=1)
    finally:
        full.shutdown()
    assert (
        found.record()
        .failed["convert@onnxruntime-int8"]
        .startswith(
            "its worker was lost 2 times, as often as execution.retries allows, the last time by OutOfMemoryError: "
        )
    )


def test_nodes_of_a_single_core_have_room_to_decode_beside_the_models(
    model: Path, local: Checkout, tmp_path: Path
) -> None:
    small = Nodes(0)
    small.nodes += [small.add(num_cpus=1), small.add(num_cpus=1)]
    found = Checkout(tmp_path / "checkout", model, small, ["tflite-fp32", "onnxruntime-int8"])
    try:
        found.run("sweep")
    finally:
        small.shutdown()
    for name in ("tflite-fp32", "onnxruntime-int8"):
        found.run("convert", name)
        found.run("evaluate", name)
        record = paths.record(name, "predictions.csv")
        assert (found.folder / record).read_bytes() == (local.folder / record).read_bytes()


def test_a_gpu_model_that_no_node_has_is_refused(
    swept: Checkout, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ray.ADDRESS, nodes.cluster.address)
    setting = document.ExecutionParams(engine="ray", gpu_model="H100", retries=0, images=None)
    with pytest.raises(sweep.PipelineError) as caught, ray.joined(setting):
        pass
    assert str(caught.value) == (
        "no node of the Ray cluster has the GPU model H100; those there are: unlabelled: set execution.gpu_model to "
        "one of them, or to null"
    )


def test_a_killed_worker_and_a_lost_node_change_nothing(
    model: Path, nodes: Nodes, local: Checkout, tmp_path: Path
) -> None:
    found = Checkout(tmp_path / "checkout", model, nodes, ["onnxruntime-int8"])
    running = found.start("sweep")
    _, worker = nodes.wait("ray::convert")
    worker.send_signal(signal.SIGKILL)
    node, _ = nodes.wait("ray::MapWorker")
    nodes.cluster.remove_node(node, allow_graceful=False)
    nodes.nodes.remove(node)
    output, _ = running.communicate(timeout=120)
    nodes.nodes.append(nodes.add())
    assert running.returncode == 0, output
    assert found.record().failed == {}
    for stage in ("convert", "evaluate"):
        found.run(stage, "onnxruntime-int8")
    for name in ("predictions.csv", "evaluate.json"):
        record = paths.record("onnxruntime-int8", name)
        assert (found.folder / record).read_bytes() == (local.folder / record).read_bytes()


def test_a_worker_that_is_always_lost_is_a_failed_row_until_the_next_sweep(
    model: Path, nodes: Nodes, tmp_path: Path
) -> None:
    found = Checkout(tmp_path / "checkout", model, nodes, ["onnxruntime-int8"])
    found.write("ray", ["onnxruntime-int8"], retries=1)
    running = found.start("sweep")
    killed: set[int] = set()

    def kill() -> None:
        while running.poll() is None:
            for _, worker in nodes.workers("ray::convert"):
                worker.send_signal(signal.SIGKILL)
                killed.add(worker.pid)
            time.sleep(0.02)

    killer = threading.Thread(target=kill)
    killer.start()
    output, _ = running.communicate(timeout=120)
    killer.join()
    assert running.returncode == 1
    assert len(killed) == 2
    reason = found.record().failed["convert@onnxruntime-int8"]
    assert reason.startswith("its worker was lost 2 times, as often as execution.retries allows, the last time by ")
    assert f"error: convert@onnxruntime-int8 failed: {reason}" in output
    assert f"onnxruntime-int8 could not be converted: {reason}" in found.run("convert", "onnxruntime-int8", status=1)
    found.run("evaluate", "onnxruntime-int8")
    found.run("benchmark")
    row = files.read_json(found.folder / paths.record("onnxruntime-int8", "convert.json"))
    assert (row["status"], row["reason"], row["model_sha256"]) == ("failed", reason, None)
    assert files.read_json(found.folder / paths.record("onnxruntime-int8", "evaluate.json"))["status"] == "skipped"
    found.run("sweep")
    assert found.record().failed == {}
    found.run("convert", "onnxruntime-int8")


def test_a_driver_that_was_killed_goes_on_where_it_was(model: Path, nodes: Nodes, tmp_path: Path) -> None:
    names = ["onnxruntime-fp32", "onnxruntime-int8"]
    found = Checkout(tmp_path / "checkout", model, nodes, names)
    running = found.start("sweep")
    deadline = time.monotonic() + 60
    while not list(found.folder.glob("models/sweep/*/*/convert/key")) and time.monotonic() < deadline:
        time.sleep(0.02)
    running.kill()
    running.communicate()
    before = {name: content for name, content in found.kept().items() if Path(name).name == "convert.json"}
    assert before and not (found.folder / paths.SWEEP_RECORD).exists()
    found.run("sweep")
    after = found.kept()
    # How long it took would be another number, had it been converted again.
    assert {name: after[name] for name in before} == before
    assert not [name for name in after if ".tmp" in name]
    assert found.record().failed == {}
    assert (
        json.loads(after["models/sweep/unlabelled/benchmark/benchmark/reports/benchmark.json"])["blocks"]
        == interleave.BLOCKS
    )


# NVML on a node with the GPU that FAKE_GPU names; what is not here fails as it does without a driver.
NVML = f"""
exec(open({pynvml.__file__!r}).read())
import os
nvmlInit = nvmlShutdown = lambda: None
nvmlDeviceGetCount = lambda: 1
nvmlDeviceGetHandleByIndex = lambda index: index
nvmlDeviceGetName = lambda handle: os.environ["FAKE_GPU"]
nvmlDeviceGetCudaComputeCapability = lambda handle: (7, 5)
nvmlSystemGetDriverVersion = lambda: "535.1"
"""
ONNX = ["onnxruntime-fp32", "onnxruntime-int8"]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A node with a T4 and one with an H100, as Ray's labels and NVML have it."""
    pytest.importorskip("ray", reason="Ray is not installed (the extra cluster)")
    shim = tmp_path_factory.mktemp("nvml")
    (shim / "pynvml.py").write_text(NVML)
    found = Nodes(0)
    for label in ("T4", "H100"):
        own = {"PYTHONPATH": str(shim), "FAKE_GPU": f"NVIDIA {label}"}
        # With a core each, which is to decode while the GPU holds a model.
        found.nodes.append(found.add(num_cpus=1, num_gpus=1, labels={ray.GPU_MODEL: label}, env_vars=own))
    yield found
    found.shutdown()


def test_each_part_of_a_cluster_runs_its_tasks_on_its_own_gpu_model(
    mixed: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here() -> str:
        import ray

        return str(ray.get_runtime_context().get_node_labels().get("ray.io/accelerator-type"))

    monkeypatch.setenv(ray.ADDRESS, mixed.cluster.address)
    unknown = mixed.add(num_gpus=1)
    with ray.joined(document.ExecutionParams(engine="ray", gpu_model=None, retries=0, images=None)) as parts:
        tasks = [(name, part.result(part.start(here))) for name, part in parts.items() for _ in range(2)]
    mixed.cluster.remove_node(unknown)
    assert tasks == [(name, name) for name in ("H100", "H100", "T4", "T4")] + [("unlabelled", "None")] * 2


@pytest.fixture(scope="module")
def swept_on_two(model: Path, mixed: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Swept on both GPU models, after a first sweep that lost a conversion on the T4."""
    found = Checkout(tmp_path_factory.mktemp("mixed") / "checkout", model, mixed, ONNX)
    found.write("ray", ONNX, retries=0)
    found.run("environment")
    running = found.start("sweep")
    _, worker = mixed.wait("ray::convert", mixed.nodes[0])
    worker.send_signal(signal.SIGKILL)
    running.communicate(timeout=300)
    assert running.returncode == 1
    shutil.copytree(found.folder, found.folder.with_name("first"))
    found.run("sweep")
    return found


def rows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], dict[str, Any]]:
    """Of the report, by the GPU that each row was measured on and its variant."""
    monkeypatch.chdir(folder)
    for name in ONNX:
        read().adopt(f"convert@{name}")
        read().adopt(f"evaluate@{name}")
    read().adopt(BENCHMARK)
    summary = summarize.summarise(tuple(ONNX))
    return {
        (measured["environment"]["gpus"][0]["name"], row["variant"]): row
        for measured in (summary, *summary["other_gpus"])
        for row in measured["rows"]
    }


def test_a_variant_that_one_gpu_model_loses_is_a_failed_row_there_alone(
    swept_on_two: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = rows(swept_on_two.folder.with_name("first"), monkeypatch)
    ((place, name),) = [key for key, row in found.items() if row["status"] != "ok"]
    assert (place, found[place, name]["status"]) == ("NVIDIA T4", "failed")
    assert found[place, name]["reason"].startswith("convert: its worker was lost 1 time, as often as")
    assert read().failed == {}


def test_a_mixed_cluster_makes_rows_for_each_gpu_model(
    swept_on_two: Checkout, local: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = rows(swept_on_two.folder, monkeypatch)
    assert list(found) == [(gpu, name) for gpu in ("NVIDIA H100", "NVIDIA T4") for name in ONNX]
    assert {row["status"] for row in found.values()} == {"ok"}
    assert len({row["latency"]["1"]["mean_ms"] for row in found.values()}) == 4
    theirs = files.read_json(local.folder / paths.record("onnxruntime-int8", "evaluate.json"))
    for gpu in ("NVIDIA H100", "NVIDIA T4"):
        assert found[gpu, "onnxruntime-int8"]["top1"] == theirs["top1_correct"] / IMAGES
    assert read().gpu_model == "H100"


def test_the_next_sweep_does_what_was_lost_and_nothing_else(
    swept_on_two: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, after = (
        pack(folder, str(paths.SWEEP)) for folder in (swept_on_two.folder.with_name("first"), swept_on_two.folder)
    )
    changed = {Path(name).parts[2:4] for name in after if after[name] != first.get(name)}
    assert changed < {("T4", "benchmark"), *(("T4", name) for name in ONNX)} and len(changed) == 2
    before, now = (
        files.read_json(folder / paths.SWEEP_RECORD)
        for folder in (swept_on_two.folder.with_name("first"), swept_on_two.folder)
    )
    assert before == now  # so that no stage of the home model runs again


def test_naming_the_other_gpu_model_adopts_what_is_kept_of_it_and_removes_the_rest(
    swept_on_two: Checkout, mixed: Nodes, tmp_path: Path
) -> None:
    found = Checkout(tmp_path / "checkout", swept_on_two.folder, mixed, ONNX)
    before = found.kept()
    found.write("ray", ONNX, retries=0, gpu_model="T4")
    found.run("environment")
    found.run("sweep")
    assert found.kept() == {name: content for name, content in before.items() if Path(name).parts[2] == "T4"}
    assert found.record().gpu_model == "T4"
    assert list((found.folder / paths.OTHER_GPUS).iterdir()) == []
