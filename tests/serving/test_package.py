"""What travels with a champion, and whether it answers where nothing but that is there."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.contracts import codec, labels
from stages.contracts.environment import RuntimeEnvironment
from stages.contracts.labels import LABELS, Labels
from stages.contracts.predictions import top_k
from stages.core import closure
from stages.data import batches
from stages.runtimes import loading, registry
from stages.runtimes.contract import infer
from stages.runtimes.environments import VARIABLE, Lock
from stages.runtimes.shared.tensorrt_wheels import CUDA_BINDINGS, WHEELS
from stages.serving import package
from stages.serving.setting import SETTING, Setting
from tests.fixtures import variants
from tests.fixtures.tiny import preprocessing
from tests.fixtures.variants import CLASSES, SHAPE

PREPARED = preprocessing(SHAPE)
SIZES = ((40, 30), (4, 4), (17, 23), (64, 200), (9, 12))
# A process that knows nothing but the folders of two champions: no PYTHONPATH, no current folder, no checkout.
FRESH = """
import importlib, json, sys
import numpy as np
from PIL import Image
images = [np.asarray(Image.open(path).convert("RGB")) for path in sys.argv[2:]]
answers = []
for place, name, data in json.loads(sys.argv[1]):
    sys.path.insert(0, place)
    model = importlib.import_module(name)._load_pyfunc(data)
    rows = [model.predict({"image": np.stack([image])}).to_dict("records")[0] for image in images]
    modules = {module.partition(".")[0] for module in sys.modules}
    answers.append({"rows": rows, "imported": sorted(modules & {"stages", "dvc", "tensorflow", "ai_edge_litert"})})
print(json.dumps(answers))
"""


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """JPEGs of several sizes, no two alike."""
    paths = []
    for index, size in enumerate(SIZES):
        coarse = np.random.default_rng(index).integers(0, 256, (3, 3, 3), np.uint8)
        paths.append(tmp_path / f"{index}.jpg")
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(paths[-1])
    return paths


LOCKS = str(closure.ROOT / "stages/runtimes/{}/locks/{}.txt")


def in_lock(runtime: str, lock: str | None = None) -> RuntimeEnvironment:
    """As it is recorded of an environment that is made of that lock, on another machine."""
    digest = Lock(lock, Path(LOCKS.format(runtime, lock))).sha256 if lock else None
    return RuntimeEnvironment(runtime, "3.10", {}, {}, lock=digest)


Pack = Callable[[str], tuple[str, str, str]]


@pytest.fixture
def pack(built: Path, checkout: Path, tmp_path: Path) -> Pack:
    """The champion of a variant: the folder of its package, the module to load, and its data."""
    labels.write(Labels.from_names(tuple("abcdef"[:CLASSES])), LABELS)

    def run(name: str) -> tuple[str, str, str]:
        variants.copy(built, name)
        place = tmp_path / name
        package.write_data(name, Setting(PREPARED, 2), place / "served")
        code = package.write_code(name.partition("-")[0], place)
        return str(place), package.loader(code), str(place / "served")

    return run


def fresh(champions: list[tuple[str, str, str]], images: list[Path]) -> Any:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    command = [sys.executable, "-I", "-c", FRESH, json.dumps(champions), *map(str, images)]
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def measured(folder: Path, images: list[Path]) -> list[tuple[list[int], list[str]]]:
    """What `evaluate` answers of each image."""
    session = loading.load(folder)
    answers = []
    for image in images:
        probabilities = infer(session, batches.load(image, PREPARED)[np.newaxis])
        best = top_k(probabilities)[0]
        answers.append((best.tolist(), [f"{score:.5g}" for score in probabilities[0, best]]))
    return answers


def answered(rows: list[dict[str, Any]]) -> list[tuple[list[int], list[str]]]:
    return [(row["top5_labels"], [f"{score:.5g}" for score in row["top5_scores"]]) for row in rows]


def test_two_champions_answer_in_one_process_without_this_package(pack: Pack, images: list[Path]) -> None:
    names = ("tflite-int8", "savedmodel-fp32")
    champions = [pack(name) for name in names]
    first, second = fresh(champions, images)
    assert answered(first["rows"]) == measured(Path("models/tflite-int8"), images)
    assert answered(second["rows"]) == measured(Path("models/savedmodel-fp32"), images)
    assert (first["imported"], second["imported"]) == (["ai_edge_litert"], ["ai_edge_litert", "tensorflow"])


@pytest.mark.parametrize("runtime", registry.RUNTIMES)
def test_a_package_has_its_own_name_and_only_relative_imports(tmp_path: Path, runtime: str) -> None:
    code = package.write_code(runtime, tmp_path)
    assert code.startswith("stages_")
    for path in (tmp_path / code).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not any(name.partition(".")[0] == "stages" for name in names), path


def test_the_name_changes_with_the_sources(tmp_path: Path) -> None:
    names = [package.write_code(runtime, tmp_path / str(i)) for i, runtime in enumerate(("tftrt", "tftrt", "tflite"))]
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize("runtime", registry.RUNTIMES)
def test_only_what_answers_travels(tmp_path: Path, runtime: str) -> None:
    root = tmp_path / package.write_code(runtime, tmp_path)
    travelling = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert {"serving/pyfunc.py", f"runtimes/{runtime}/session.py", "data/decode.py"} <= travelling
    rooms = {path.partition("/")[0] for path in travelling if "/" in path}
    assert rooms == {"contracts", "core", "data", "runtimes", "serving"}
    folders = {path.split("/")[1] for path in travelling if path.startswith("runtimes/") and path.count("/") == 2}
    assert folders <= {runtime, "shared"}
    assert (
        not {"runtimes/timer.py", "runtimes/worker.py", "core/closure.py", f"runtimes/{runtime}/convert.py"}
        & travelling
    )


def test_the_data_are_the_variants_files_its_classes_and_its_preprocessing(pack: Pack) -> None:
    place = Path(pack("tflite-fp32")[2])
    assert {path.name for path in place.iterdir()} == {"model", "labels.csv", SETTING}
    assert {path.name for path in (place / "model").iterdir()} == {"model.tflite", "variant.json"}
    assert codec.read(Setting, place / SETTING) == Setting(PREPARED, 2)


@pytest.mark.parametrize(
    ("runtime", "own"),
    [
        ("savedmodel", {"tensorflow-cpu"}),
        ("tflite", {"ai-edge-litert"}),
        ("tftrt/tftrt", {"tensorflow[and-cuda]"}),
        ("savedmodel/savedmodel-gpu", {"tensorflow[and-cuda]", "nvidia-cudnn-cu12"}),
        ("onnxruntime/onnxruntime_1_23", {"onnxruntime"}),
        ("onnxruntime/onnxruntime-gpu", {"onnxruntime-gpu[cuda,cudnn]", "nvidia-ml-py"}),
    ],
)
def test_it_needs_only_what_its_runtime_does(runtime: str, own: set[str]) -> None:
    """Measured in this environment, or in that of a lock."""
    lines = package.requirements(in_lock(*runtime.split("/")))
    assert all("==" in line for line in lines)
    needed = {line.partition("==")[0] for line in lines}
    assert needed == {"mlflow", "msgspec", "numpy", "pandas", "pillow", *own}


@pytest.mark.parametrize("wheel", WHEELS)
def test_native_engines_require_the_tensorrt_that_built_them(monkeypatch: pytest.MonkeyPatch, wheel: str) -> None:
    have = {*package.REQUIRED, wheel, wheel.replace("bindings", "libs"), CUDA_BINDINGS}

    def version(name: str) -> str:
        if name not in have:
            raise PackageNotFoundError(name)
        return "1.2"

    monkeypatch.setattr(package, "installed", version)
    assert {line.partition("==")[0] for line in package.requirements(in_lock("tensorrt"))} == have


@pytest.mark.parametrize(
    ("lock", "wheel"),
    [
        ("tensorrt", "tensorrt"),
        ("tensorrt_10", "tensorrt-cu12-bindings"),
        ("tensorrt_11", "tensorrt-cu12-bindings"),
        ("tensorrt_rtx", "tensorrt-rtx-cu13-bindings"),
    ],
)
def test_what_was_measured_in_an_environment_of_its_own_is_pinned_by_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lock: str, wheel: str
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none is made"))
    found = in_lock("tensorrt", lock)
    path = LOCKS.format("tensorrt", lock)
    pinned = re.findall(r"^([\w.-]+==\S+) ", Path(path).read_text(), re.MULTILINE)
    lines = package.requirements(found)
    assert wheel in {line.partition("==")[0] for line in lines}
    assert {line for line in lines if not line.startswith(("mlflow==", "pandas=="))} <= set(pinned)
    assert package.python(found) == "3.10"
    package.write_lock(found, tmp_path)
    assert (tmp_path / package.LOCK).read_text() == Path(path).read_text()
