"""What several test files share: a checkout in a temporary folder, real images, a loopback server, finished results."""

import http.server
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from stages.cluster import kept
from stages.contracts import paths, predictions
from stages.contracts.labels import Labels
from stages.contracts.variant import Variant
from stages.core import files
from stages.core.tensorflow import tensorflow
from stages.data import sources
from stages.measurement import evaluation
from stages.params import document
from stages.training import fit
from tests.fixtures.models import COLOURED, COLOURS, Named, Setting, paint

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder for this test, with the params.yaml that ships."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copy(REPOSITORY / "params.yaml", folder)
    monkeypatch.chdir(folder)
    kept.write(kept.LOCAL)
    return folder


@pytest.fixture
def edit(checkout: Path) -> Callable[..., None]:
    """Change keys of the checkout's params.yaml: edit(("model.name", "VGG16"), ...)."""

    def change(*changes: tuple[str, Any]) -> None:
        values = yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8"))
        for key, value in changes:
            *owners, last = key.split(".")
            block = values
            for owner in owners:
                block = block[owner]
            block[last] = value
        paths.PARAMS.write_text(yaml.safe_dump(values), encoding="utf-8")

    return change


@pytest.fixture
def setting(checkout: Path, edit: Callable[..., None]) -> Setting:
    """Three classes of 20 images in data/train, and params.yaml for a short training on them with further changes."""
    paint(dict.fromkeys(COLOURS, 20))

    def change(*changes: tuple[str, Any]) -> document.Params:
        edit(*COLOURED, *changes)
        return document.load()

    return change


@pytest.fixture(scope="module")
def tf() -> Any:
    """TensorFlow, which takes seconds to import: only for tests that ask for it."""
    return tensorflow()


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the arguments that a stage's main reads."""
    return lambda *arguments: monkeypatch.setattr(sys, "argv", ["stage", *map(str, arguments)])


def noise(seed: int, width: int = 24, height: int = 16) -> Image.Image:
    """Pixels that no other seed has."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@pytest.fixture
def photo() -> Callable[..., Path]:
    """Write a real image: photo(path, seed=0, mode="RGB", **what Pillow's save takes)."""

    def write(path: Path, seed: int = 0, mode: str = "RGB", **options: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(seed).convert(mode).save(path, **options)
        return path

    return write


@pytest.fixture
def tiny_labels() -> Labels:
    """Four classes, of which two have the same name."""
    return Labels(("tench", "cock", "crane", "crane"), ("n01440764", "n01514668", "n02012849", "n03126707"))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """An empty folder for what a source fetches or unpacks."""
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture
def named(checkout: Path, work: Path, tiny_labels: Labels) -> Named:
    """Names and classes of a labelled source."""

    def read(source: str) -> list[tuple[str, int | None]]:
        return [(photo.name, photo.label) for photo in sources.labelled(source, tiny_labels, checkout, work)]

    return read


class Server:
    """What a loopback server answers: pages[path] = (status, headers, body), or bytes for a plain 200."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.pages: dict[str, Any] = {}

    def add(self, name: str, body: bytes) -> str:
        self.pages[f"/{name}"] = (200, {}, body)
        return f"{self.url}/{name}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A real HTTP server on 127.0.0.1."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = pages.get(self.path, (404, {}, b"not here"))
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        found = Server(listener.server_port)
        pages = found.pages
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        yield found
        listener.shutdown()
        thread.join()


@pytest.fixture
def closed_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A loopback port that refuses every connection: it is taken, and nobody listens."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: making one takes seconds, copying it does not."""
    import mlflow

    database = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{database}").search_experiments()
    return database


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KB; skips where this user may not mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.fixture
def machine() -> dict[str, Any]:
    """An environment.json of a machine where TF-TRT runs."""
    return {
        "gpus": [{"name": "NVIDIA T4", "compute_capability": "7.5", "memory_bytes": 15 << 30}],
        "gpu_missing": None,
        "driver": "535.1",
        "cuda": "11.8.89",
        "cudnn": "8.7.0.84",
        "tensorrt": {"required": "8.5.3.1", "loaded": "8.5.3", "missing": None},
        "tensorflow": {"version": "2.14.1", "built_with_tensorrt": True, "built_for_cuda": "11.8"},
        "tensorrt_python": {"version": "8.5.3.1", "rtx": False},
        "cuda_python": "11.8.7",
        "litert": "2.3.0",
        "onnxruntime": "1.23.2",
        "onnxruntime_gpu": True,
        "cpu": "a CPU",
        "cores": 2,
        "threads": 2,
        "python": "3.10",
        "platform": "Linux x86_64",
    }


@pytest.fixture
def no_gpu(machine: dict[str, Any]) -> dict[str, Any]:
    """An environment.json of a machine without a GPU."""
    missing = {"gpus": [], "gpu_missing": "no NVIDIA driver answers on this machine", "driver": None}
    return machine | missing | {"tensorrt_python": None, "cuda_python": None, "onnxruntime_gpu": False}


@pytest.fixture
def model_record() -> dict[str, Any]:
    """A model.json of a model that takes images of 4 x 4 pixels."""
    preprocessing = {
        "height": 4, "width": 4, "resize": "crop", "crop_fraction": 1.0,
        "scale": [1 / 255] * 3, "offset": [0.0] * 3, "channels": "rgb",
    }  # fmt: skip
    return {
        "name": "tiny", "input_shape": [4, 4, 3], "classes": 6, "preprocessing": preprocessing, "training": None,
    }  # fmt: skip


def latency(p50: float) -> dict[str, Any]:
    return {
        "p50_ms": p50, "p90_ms": p50 + 1, "p99_ms": None,
        "p50_ci95_ms": [p50 - 0.5, p50 + 0.5], "p90_ci95_ms": [p50, None], "p99_ci95_ms": [None, None],
        "mean_ms": p50, "throughput_ips": 9.5, "samples": 100, "repeat_p50_ms": [p50], "repeat_cv": None,
    }  # fmt: skip


def timing(p50: float) -> dict[str, Any]:
    """A variant's part of benchmark.json."""
    batches = {
        size: {
            "first_inference_ms": 30.0 + int(size), "warmup_calls": 11, "warmup_stable": True,
            "call_ms": {"latency": p50, "latency_host": p50},
            "latency": latency(p50 * int(size)), "latency_host": latency(p50 * int(size) + 1), "parts_ms": None,
        }
        for size in ("1", "8")
    }  # fmt: skip
    memory = {"on_gpu": False, "peak_memory_bytes": 300_000_000, "gpu_peak_memory_bytes": None, "gpu": None}
    return {"status": "ok", "reason": None, "load_ms": 12.5, "batches": batches} | memory


class Results:
    """Records in reports/, as the stages before `summarize` write them."""

    def __init__(self, machine: dict[str, Any], model: dict[str, Any]) -> None:
        self.timings: dict[str, Any] = {}
        files.write_json(paths.ENVIRONMENT, machine)
        files.write_json(paths.MODEL, model)
        evaluation = {"source": "sample", "images": 4, "classes": 2, "digest": "e" * 64}
        calibration = {"source": "sample", "images": 100, "seed": 0, "digest": "c" * 64}
        files.write_json(paths.IMAGES, {"evaluation": evaluation, "calibration": calibration})
        files.write_text(paths.SAMPLES, "variant,batch_size,term,repeat,block,ms\n")
        self.write_timings()

    def write_timings(self) -> None:
        files.write_json(paths.BENCHMARK, {"blocks": 10, "repeats": 1, "variants": self.timings})

    def converted(self, name: str, status: str = "ok", reason: str | None = None, **more: Any) -> None:
        runtime, precision, qat = astuple(Variant.parse(name))
        done = {"convert_s": 1.5, "details": {"kind": "test"}, "size_bytes": 2_000_000, "files": {"model": 2_000_000}}
        none = {"convert_s": None, "details": {}, "size_bytes": None, "files": {}}
        header = {"variant": name, "runtime": runtime, "precision": precision, "qat": qat}
        record = header | {"status": status, "reason": reason}
        files.write_json(paths.record(name, "convert.json"), record | (done if status == "ok" else none) | more)

    def evaluated(self, name: str, classes: list[int], labels: list[int] | None = None) -> None:
        """Predictions of which the first class is given, on images of class 0 or of the labels."""
        found = [
            predictions.Prediction(f"{i}.jpg", label, [best, 9, 8, 7, 6], [0.5, 0.2, 0.1, 0.1, 0.1])
            for i, (best, label) in enumerate(zip(classes, labels or [0] * len(classes), strict=True))
        ]
        record = {"status": "ok", "reason": None} | evaluation.write(found, paths.record(name, "predictions.csv"))
        files.write_json(paths.record(name, "evaluate.json"), record)

    def timed(self, name: str, p50: float, **more: Any) -> None:
        self.timings[name] = timing(p50) | more
        self.write_timings()

    def ok(self, name: str, classes: list[int], p50: float, labels: list[int] | None = None) -> None:
        self.converted(name)
        self.evaluated(name, classes, labels)
        self.timed(name, p50)

    def learned(self, **more: Any) -> None:
        """What quantisation-aware training leaves after two epochs, of which the first was the better one."""
        record = {
            "status": "ok", "reason": None, "seed": 3, "best_epoch": 1, "best_val_loss": 0.25,
            "best_val_accuracy": 0.9375, "first_val_accuracy": 0.875, "train_s": 41.6, "train_images": 1200,
            "validation_images": 96, "layers_not_simulated": {}, "sources": {"tflite-int8-qat": "d" * 64},
        }  # fmt: skip
        files.write_json(paths.QAT_RECORD, record | more)
        first = {"seed": 3, "epoch": 0, "val_loss": 0.5, "val_accuracy": 0.875}
        lessons = [first | {"epoch": i, "val_loss": loss, "loss": 1.0} for i, loss in ((1, 0.25), (2, 0.375))]
        fit.write_curves([first, *lessons], paths.QAT_CURVE)

    def copy_to(self, gpu_model: str, machine: dict[str, Any]) -> None:
        """What is there now becomes that of another GPU model of a cluster."""
        root = paths.OTHER_GPUS / gpu_model
        shutil.copytree("reports/variants", root / "reports/variants")
        shutil.copy(paths.BENCHMARK, root / paths.BENCHMARK)
        files.write_json(root / paths.ENVIRONMENT, machine)

    def stopped(self, name: str, status: str, reason: str) -> None:
        """A conversion that was skipped or failed, and the evaluation that followed it."""
        self.converted(name, status, reason)
        predictions.write([], paths.record(name, "predictions.csv"))
        files.write_json(paths.record(name, "evaluate.json"), {"status": "skipped", "reason": reason})


@pytest.fixture
def results(checkout: Path, no_gpu: dict[str, Any], model_record: dict[str, Any]) -> Results:
    """A checkout in which everything but the variants has run."""
    return Results(no_gpu, model_record)


MIXED = ("savedmodel-fp32", "tftrt-fp32", "tftrt-int8", "tflite-fp32", "tflite-int8")


@pytest.fixture
def mixed(results: Results) -> tuple[str, ...]:
    """Two variants that ran, two that were skipped for one reason, one that failed."""
    results.ok("savedmodel-fp32", [0, 0, 0, 1], 4.0)
    results.ok("tflite-int8", [0, 0, 1, 1], 2.0)
    results.stopped("tftrt-fp32", "skipped", "no NVIDIA GPU")
    results.stopped("tftrt-int8", "skipped", "no NVIDIA GPU")
    results.stopped("tflite-fp32", "failed", "no memory")
    return MIXED


@pytest.fixture
def other_gpu(results: Results, mixed: tuple[str, ...], machine: dict[str, Any]) -> tuple[str, ...]:
    """The same on a T4, which is slower."""
    results.timed("savedmodel-fp32", 10.0)
    results.timed("tflite-int8", 4.0)
    results.copy_to("T4", machine)
    results.timed("savedmodel-fp32", 4.0)
    results.timed("tflite-int8", 2.0)
    return mixed


@pytest.fixture
def heeded() -> Iterator[None]:
    """Ctrl-C as a terminal has it: where these tests run in the background, they and their children would ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
