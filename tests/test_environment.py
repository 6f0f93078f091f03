import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stages import environment
from stages.contracts import paths
from stages.core import files
from stages.params import document

REPOSITORY = Path(__file__).parents[1]
Edit = Callable[..., None]


def fingerprint(checkout: Path) -> dict[str, Any]:
    return environment.fingerprint(document.load(), checkout)


def test_a_machine_is_described_with_every_key(machine: dict[str, Any]) -> None:
    found = environment.describe_machine(None)
    assert found.keys() == machine.keys()
    for key in ("tensorrt", "tensorflow"):
        assert found[key].keys() == machine[key].keys()
    assert found["cpu"]
    assert found["cores"] == len(os.sched_getaffinity(0))
    assert found["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    # Either the GPUs, or why there are none.
    assert bool(found["gpus"]) != bool(found["gpu_missing"])
    assert bool(found["tensorrt"]["loaded"]) != bool(found["tensorrt"]["missing"])


@pytest.mark.parametrize(
    ("wheels", "found"),
    [
        ({}, None),
        ({"tensorrt": "8.5.3.1", "tensorrt-rtx-cu13-bindings": "1.7.1"}, {"version": "8.5.3.1", "rtx": False}),
        ({"tensorrt-cu12-bindings": "11.4.0"}, {"version": "11.4.0", "rtx": False}),
        ({"tensorrt-rtx-cu13-bindings": "1.7.1", "cuda-bindings": "13.4"}, {"version": "1.7.1", "rtx": True}),
        ({"tensorrt-rtx-cu13-bindings": "1.7.1"}, None),  # the tests' own
    ],
)
def test_the_tensorrt_of_python_is_that_of_its_wheel_where_there_is_a_gpu(
    monkeypatch: pytest.MonkeyPatch, wheels: dict[str, str], found: dict[str, Any] | None
) -> None:
    monkeypatch.setattr(environment, "_wheel", wheels.get)
    monkeypatch.setattr(environment, "_nvidia", lambda: ("580.1", [{"name": "a GPU"}], None))
    assert environment.describe_machine(None)["tensorrt_python"] == found
    monkeypatch.setattr(environment, "_nvidia", lambda: (None, [], "none"))
    assert environment.describe_machine(None)["tensorrt_python"] is None


def test_what_is_told_of_a_tensorrt_that_does_not_load_is_why_the_wheels_own_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library = tmp_path / environment.TENSORRT_LIBRARY
    library.write_text("no library")
    folder = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: folder)
    found = environment._tensorrt()
    assert found["loaded"] is None
    assert found["missing"].startswith(f"{library}: ")


def test_the_onnx_runtime_for_gpus_counts_as_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_wheel", {"onnxruntime-gpu": "1.23.2"}.get)
    found = environment.describe_machine(None)
    assert (found["onnxruntime"], found["onnxruntime_gpu"]) == ("1.23.2", True)


def test_the_installed_tensorflow_is_described_without_importing_it() -> None:
    found = environment.describe_machine(None)["tensorflow"]
    assert found["version"].startswith("2.")
    assert isinstance(found["built_with_tensorrt"], bool)


def test_a_description_does_not_change_by_itself() -> None:
    assert environment.describe_machine(None) == environment.describe_machine(None)


@pytest.mark.parametrize(("threads", "shown"), [(3, 3), (None, len(os.sched_getaffinity(0)))])
def test_threads_are_those_of_params_or_all_cores(threads: int | None, shown: int) -> None:
    assert environment.describe_machine(threads)["threads"] == shown


def test_the_stage_runs_without_importing_tensorflow(checkout: Path) -> None:
    code = "import sys; from stages import environment; environment.main(); print('tensorflow' in sys.modules)"
    search = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"
    assert files.read_json(paths.ENVIRONMENT)["litert"]
    assert files.read_json(paths.GPU_MODELS) == {"home": None, "others": {}}
    assert list(files.read_json(paths.SOURCES)) == [
        "weights", "path", "labels", "split", "train", "qat", "evaluation", "calibration"
    ]  # fmt: skip


def test_what_is_not_local_has_no_fingerprint(checkout: Path, edit: Edit) -> None:
    edit(("evaluation.source", "https://host/photos.zip#sha256=" + "0" * 64))
    found = fingerprint(checkout)
    assert {key for key, digest in found.items() if digest == "not a local file"} == {
        "weights", "evaluation", "calibration"
    }  # fmt: skip
    assert {found[key] for key in ("path", "labels", "split", "train", "qat")} == {None}


def test_a_long_signed_address_is_not_taken_for_a_file(checkout: Path, edit: Edit) -> None:
    signature = "X-Amz-Signature=" + "f" * 400
    edit(("evaluation.source", f"https://bucket.s3.amazonaws.com/photos.zip?{signature}#sha256=" + "0" * 64))
    assert fingerprint(checkout)["evaluation"] == "not a local file"


@pytest.fixture
def photos(checkout: Path, edit: Edit) -> Path:
    for name in ("a.jpg", "sub/b.jpg"):
        files.write_text(checkout / "photos" / name, "pixels")
    edit(("calibration.source", "photos"))
    return checkout / "photos"


def test_a_fingerprint_is_stable_and_of_one_key_only(checkout: Path, photos: Path) -> None:
    found = fingerprint(checkout)
    assert found == fingerprint(checkout)
    assert (found["weights"], found["evaluation"]) == ("not a local file",) * 2
    assert len(found["calibration"]) == 64


def add(photos: Path) -> None:
    files.write_text(photos / "sub/c.jpg", "pixels")


def remove(photos: Path) -> None:
    (photos / "sub/b.jpg").unlink()


def rename(photos: Path) -> None:
    (photos / "a.jpg").rename(photos / "z.jpg")


def grow(photos: Path) -> None:
    (photos / "a.jpg").write_text("more pixels")


def touch(photos: Path) -> None:
    os.utime(photos / "sub/b.jpg", ns=(1, 1))


@pytest.mark.parametrize("change", [add, remove, rename, grow, touch])
def test_a_change_of_any_file_is_noticed(checkout: Path, photos: Path, change: Callable[[Path], None]) -> None:
    before = fingerprint(checkout)
    change(photos)
    after = fingerprint(checkout)
    assert after["calibration"] != before["calibration"]
    assert after["evaluation"] == before["evaluation"]


def test_a_single_file_is_fingerprinted_too(checkout: Path, edit: Edit) -> None:
    files.write_text(checkout / "mine.h5", "weights")
    edit(("model.weights", "mine.h5"))
    before = fingerprint(checkout)["weights"]
    assert len(before) == 64
    (checkout / "mine.h5").write_text("other weights")
    assert fingerprint(checkout)["weights"] != before


def test_relative_paths_start_at_the_checkout_given(
    photos: Path, checkout: Path, tmp_path: Path, command_line: Callable[..., None]
) -> None:
    photos.rename(tmp_path / "photos")
    assert fingerprint(checkout)["calibration"] == "not a local file"
    command_line("--checkout", tmp_path)
    environment.main()
    assert len(files.read_json(paths.SOURCES)["calibration"]) == 64


def test_an_absolute_path_and_a_home_folder_are_found(
    photos: Path, tmp_path: Path, edit: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(photos.parent))
    found = []
    for source in (str(photos), "~/photos"):
        edit(("calibration.source", source))
        found.append(fingerprint(tmp_path / "elsewhere")["calibration"])
    assert found[0] == found[1] != "not a local file"


def test_a_model_of_ones_own_is_fingerprinted_with_what_names_its_classes(checkout: Path, edit: Edit) -> None:
    files.write_text(checkout / "own/saved_model.pb", "graph")
    files.write_text(checkout / "exam/cat/a.jpg", "pixels")
    files.write_text(checkout / "whole/cat/a.jpg", "other pixels")
    files.write_text(checkout / "names.txt", "cat")
    edit(("model.name", "custom"), ("model.path", "own"), ("evaluation.source", "exam"))
    found = fingerprint(checkout)
    assert len(found["path"]) == 64
    assert found["labels"] == found["evaluation"] and len(found["labels"]) == 64
    assert found["train"] is found["split"] is None
    edit(("split.source", "whole"))
    assert fingerprint(checkout)["labels"] == fingerprint(checkout)["split"] != found["labels"]
    edit(("custom.labels", "names.txt"))
    named = fingerprint(checkout)["labels"]
    assert named not in (found["labels"], "not a local file")
    files.write_text(checkout / "names.txt", "a cat")
    files.write_text(checkout / "own/saved_model.pb", "another graph")
    assert fingerprint(checkout)["labels"] != named
    assert fingerprint(checkout)["path"] != found["path"]


def test_images_to_train_with_are_fingerprinted_where_something_is_trained(checkout: Path, edit: Edit) -> None:
    files.write_text(checkout / "lessons/cat/a.jpg", "pixels")
    edit(("train.source", "lessons"))
    assert fingerprint(checkout)["train"] is None
    edit(("model.name", "custom"), ("model.path", "trained"), ("custom.size", [8, 8]))
    found = fingerprint(checkout)
    assert len(found["train"]) == 64 and found["qat"] is None
    assert found["path"] == "not a local file"


def test_a_variant_that_is_trained_for_int8_has_a_fingerprint_that_tells_so(checkout: Path, edit: Edit) -> None:
    files.write_text(checkout / "lessons/cat/a.jpg", "pixels")
    edit(("train.source", "lessons"), ("variants", ["tflite-int8"]))
    assert fingerprint(checkout)["qat"] is None
    edit(("variants", ["tflite-int8", "tflite-int8-qat"]))
    found = fingerprint(checkout)
    assert found["qat"] == found["train"] and len(found["qat"]) == 64
    edit(("train.source", "https://host/lessons.zip#sha256=" + "0" * 64))
    assert fingerprint(checkout)["qat"] == "not a local file"
