"""A tiny model's checkout, and real Ray clusters of several nodes on this machine."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pynvml
import pytest
import yaml
from PIL import Image

from stages.cluster import adopt, ray
from stages.cluster.adopt import Sweep, pack
from stages.cluster.batches import TABLE
from stages.contracts import codec
from stages.contracts.environment import ENVIRONMENT, GPU_MODELS, GpuModels
from stages.contracts.images import CALIBRATION, EVALUATION, IMAGES, ImageSet, ImagesRecord
from stages.contracts.model import DOWNLOAD, MODEL, ONNX, ONNX_RECORD, DownloadRecord, ModelRecord, OnnxRecord
from stages.core import files, isolate
from stages.params.load import PARAMS
from stages.runtimes import environments, host, registry
from tests.cluster.tiny_model import BATCH, COUNT, KEYS, PREPARED, VARIANTS, save

REPOSITORY = Path(__file__).parents[2]


def environment(**more: str) -> dict[str, str]:
    others = {key: value for key, value in os.environ.items() if key != ray.ADDRESS}
    return others | {"PYTHONPATH": str(REPOSITORY)} | more


def values(engine: str, names: list[str]) -> dict[str, Any]:
    """Those of params.yaml."""
    found: dict[str, Any] = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    found["variants"] = names
    found["evaluation"]["batch_size"] = BATCH
    found["benchmark"] |= {"batch_sizes": [1], "min_samples": 10, "min_seconds": 0, "max_foreign_cpu": 1.0}
    found["execution"]["engine"] = engine
    return found


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of a tiny model and noise to show it, as the stages before `sweep` leave it."""
    folder = tmp_path_factory.mktemp("model")
    for place, count in ((EVALUATION, COUNT), (CALIBRATION, 10)):
        (folder / place).mkdir(parents=True)
        for index in range(count):
            Image.effect_noise((24, 20), 40 + index).convert("RGB").save(folder / place / f"{index}.png")
    isolate.call(save, folder)
    (folder / ONNX).parent.mkdir()
    (folder / "models/model.onnx").rename(folder / ONNX)
    names = [f"{index}.png" for index in range(COUNT)]
    rows = [(name, index % 6, files.sha256(folder / EVALUATION / name)) for index, name in enumerate(names)]
    files.write_csv(folder / TABLE, ("file", "label", "sha256"), rows)
    write_records(folder)
    return folder


def write_records(folder: Path) -> None:
    record = ModelRecord("tiny", "a" * 64, 100, PREPARED.shape, 6, PREPARED, None, 0.0, 1000)
    here = host.describe(None)
    codec.write(record, folder / MODEL)
    codec.write(DownloadRecord("custom", "imagenet", "own", None, None), folder / DOWNLOAD)
    codec.write(ImagesRecord(*[ImageSet("noise", COUNT, "e", classes=6)] * 2), folder / IMAGES)
    codec.write(here, folder / ENVIRONMENT)
    codec.write(GpuModels(ray.UNLABELLED), folder / GPU_MODELS)
    codec.write(OnnxRecord(), folder / ONNX_RECORD)


class Nodes:
    """A head that does no work, and nodes that do, each in a folder of its own: else they delete each other's files."""

    def __init__(self, count: int, cores: int = 2) -> None:
        from ray.cluster_utils import Cluster

        # Ray notes a cluster's address here, also of one in another folder, and does not make it.
        Path(tempfile.gettempdir(), "ray").mkdir(exist_ok=True)
        self.folders: list[str] = []
        head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": self.folder()}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes = [self.add(num_cpus=cores) for _ in range(count)]

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

    def wait_until_idle(self, title: str) -> None:
        """Until those of an earlier driver are gone."""
        deadline = time.monotonic() + 60
        while list(self.workers(title)) and time.monotonic() < deadline:
            time.sleep(0.05)


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    """With a core each, which is to decode beside the models."""
    pytest.importorskip("ray", reason="Ray is not installed (the extra cluster)")
    found = Nodes(2, cores=1)
    yield found
    found.shutdown()


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


def pretend_gpu_environment(place: Path) -> None:
    """In the place of ONNX Runtime with CUDA, which is gigabytes, lies that for CPUs: no node here has a GPU."""
    folder = registry.folder("onnxruntime") / "locks"
    cpu, cuda = (environments.Lock(name, folder / f"{name}.txt") for name in ("onnxruntime", "onnxruntime-gpu"))
    made = environments.make(cpu)
    copy = place / cuda.folder.name
    shutil.copytree(cpu.folder, copy, symlinks=True)
    codec.write(replace(made, lock=cuda.sha256), copy / environments.STAMP)


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A node with a T4 and one with an H100, as Ray's labels and NVML have it."""
    pytest.importorskip("ray", reason="Ray is not installed (the extra cluster)")
    shim = tmp_path_factory.mktemp("nvml")
    (shim / "pynvml.py").write_text(NVML)
    found = Nodes(0)
    place = tmp_path_factory.mktemp("environments")
    pretend_gpu_environment(place)
    for label in ("T4", "H100"):
        own = {"PYTHONPATH": str(shim), "FAKE_GPU": f"NVIDIA {label}", environments.VARIABLE: str(place)}
        # With a core each, which is to decode while the GPU holds a model.
        found.nodes.append(found.add(num_cpus=1, num_gpus=1, labels={ray.GPU_MODEL: label}, env_vars=own))
    yield found
    found.shutdown()


# Runs stages, which come with their arguments.
IN_TURN = """
import importlib, json, sys
for sys.argv in json.loads(sys.argv[1]):
    importlib.import_module("stages." + sys.argv[0]).main()
"""


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
        (self.folder / PARAMS).write_text(yaml.safe_dump(found))

    def start(self, stage: str, *arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", f"stages.{stage}", *arguments]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def run(self, stage: str, *arguments: str, status: int = 0) -> str:
        process = self.start(stage, *arguments)
        output, _ = process.communicate(timeout=600)
        assert process.returncode == status, output
        return output

    def stages(self, names: list[str]) -> None:
        """All that the engine changes, in the order of DVC."""
        self.run("environment")
        self.run("sweep")
        self.adopt(names)

    def adopt(self, names: list[str]) -> None:
        """The stages after `sweep`, in one process: that each starts one of its own adds seconds alone."""
        stages = [[stage, name] for name in names for stage in ("convert", "evaluate")]
        command = [sys.executable, "-c", IN_TURN, json.dumps([*stages, ["benchmark"]])]
        subprocess.run(command, cwd=self.folder, env=self.environment, check=True, timeout=600)

    def kept(self) -> dict[str, bytes]:
        return pack(self.folder, str(adopt.SWEEP))

    def record(self) -> Sweep:
        return codec.read(Sweep, self.folder / adopt.SWEEP_RECORD)


@pytest.fixture(scope="session")
def local(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """All stages with the local engine."""
    found = Checkout(tmp_path_factory.mktemp("local") / "checkout", model, None, VARIANTS)
    found.stages(VARIANTS)
    return found
