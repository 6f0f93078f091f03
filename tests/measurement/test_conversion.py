import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import convert
from stages.contracts import paths
from stages.contracts.preprocessing import Preprocessing
from stages.core import files
from stages.core.errors import PipelineError
from stages.measurement import conversion, system
from stages.measurement.system import Sample
from stages.params import document
from stages.runtimes import Manifest
from stages.runtimes.contract import Job

Edit = Callable[..., None]
Run = Callable[[str], None]


@pytest.fixture
def prepared(checkout: Path, no_gpu: dict[str, Any], model_record: dict[str, Any], photo: Callable[..., Path]) -> None:
    """What the stages before `convert` leave; a copy of the SavedModel does not need it to be a real one."""
    files.write_json(paths.ENVIRONMENT, no_gpu)
    files.write_json(paths.MODEL, model_record)
    files.write_text(paths.SAVED_MODEL / "saved_model.pb", "graph")
    files.write_text(paths.SAVED_MODEL / "variables/variables.index", "weights")
    for seed in range(5):
        photo(paths.CALIBRATION / f"{seed}.png", seed)


@pytest.fixture
def run(command_line: Callable[..., None]) -> Run:
    def main(variant: str) -> None:
        command_line(variant)
        convert.main()

    return main


def record(variant: str) -> dict[str, Any]:
    return dict(files.read_json(paths.record(variant, "convert.json")))


def test_the_baseline_is_a_copy_with_a_manifest(prepared: None, run: Run) -> None:
    run("savedmodel-fp32")
    folder = paths.model("savedmodel-fp32")
    expected = {"saved_model.pb": 5, "variables/variables.index": 7}
    assert files.sizes(folder).keys() == {*expected, "variant.json"}
    assert Manifest.read("savedmodel-fp32") == Manifest(
        "savedmodel-fp32", "savedmodel", "fp32", False, "ok", None, {"tf32": True}
    )
    found = record("savedmodel-fp32")
    assert (found["status"], found["reason"], found["details"]["tf32"]) == ("ok", None, True)
    assert [found["details"][f"{part}_bytes"] for part in ("graph", "variables", "engine")] == [5, 7, 0]
    assert found["convert_s"] > 0
    assert (found["files"], found["size_bytes"]) == (expected, 12)
    assert found["model_sha256"] == files.tree_digest(paths.SAVED_MODEL)


def test_further_builds_are_compared_and_not_kept(
    prepared: None, run: Run, edit: Edit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(conversion.isolate, "call", lambda function, *arguments: function(*arguments))
    p50s = iter([2.0, 3.0, 4.0])
    monkeypatch.setattr(conversion, "p50_of", lambda runtime, job, batch_size: next(p50s))
    edit(("convert.repeats", 3))
    run("savedmodel-fp32")
    found = record("savedmodel-fp32")["details"]["builds"]
    assert [build["p50_ms"] for build in found] == [2, 3, 4]
    assert {build["model_sha256"] for build in found} == {files.tree_digest(paths.SAVED_MODEL)}
    assert all(build["size_bytes"] == 12 and build["convert_s"] > 0 for build in found)
    assert list(tmp_path.glob("tmp*")) == []


def test_further_builds_start_without_what_the_first_one_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def call(function: Any, *arguments: Any) -> Any:
        if function is conversion.p50_of:
            return 2.0
        asked.append(arguments[1].options)
        return 1.0, {}

    monkeypatch.setattr(conversion.isolate, "call", call)
    for options, expected in (({"timing_cache": True, "tf32": True}, {"timing_cache": False, "tf32": True}), ({}, {})):
        job = Job(Path(), Path(), Path("none"), "fp16", (4, 4, 3), lambda size: iter(()), (1,), options)
        assert len(conversion.builds("tensorrt", job, (1.0, {}), 3)) == 3
        assert asked == [expected] * 2
        asked.clear()


def test_the_machine_is_watched_while_it_converts_and_not_while_it_times(
    prepared: None, run: Run, edit: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    before = threading.active_count()

    def timed(*_: Any) -> float:
        threads.append(threading.active_count())
        return 2.0

    monkeypatch.setattr(conversion.isolate, "call", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(conversion, "p50_of", timed)
    edit(("convert.repeats", 2))
    run("savedmodel-fp32")
    assert threads == [before] * 2
    assert len(system.read(paths.record("savedmodel-fp32", "convert_system.csv"))) == 1


def test_what_is_not_converted_is_not_watched(prepared: None, run: Run) -> None:
    system.write([Sample(1, 2.0, 3.0, None, None, None)], paths.record("tftrt-int8", "convert_system.csv"))
    run("tftrt-int8")
    assert system.read(paths.record("tftrt-int8", "convert_system.csv")) == []


def test_one_build_has_nothing_to_be_compared_with(prepared: None, run: Run) -> None:
    run("savedmodel-fp32")
    assert "builds" not in record("savedmodel-fp32")["details"]


def test_a_variant_that_this_machine_cannot_run_is_skipped_with_its_reason(prepared: None, run: Run) -> None:
    run("tftrt-int8")
    reason = "no NVIDIA GPU (no NVIDIA driver answers on this machine)"
    found = record("tftrt-int8")
    assert (found["status"], found["reason"]) == ("skipped", reason)
    assert (found["convert_s"], found["size_bytes"], found["files"], found["model_sha256"]) == (None, None, {}, None)
    assert list(files.sizes(paths.model("tftrt-int8"))) == ["variant.json"]
    assert Manifest.read("tftrt-int8").reason == reason


def test_a_conversion_that_fails_is_recorded_and_ends_the_stage(
    prepared: None, run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    (paths.SAVED_MODEL / "saved_model.pb").rename("elsewhere.pb")
    (paths.SAVED_MODEL / "saved_model.pb").symlink_to("nowhere.pb")
    files.write_text(paths.model("savedmodel-fp32") / "old.pb", "from an earlier run")
    with pytest.raises(PipelineError, match=r"^savedmodel-fp32 could not be converted: Error: .*saved_model\.pb"):
        run("savedmodel-fp32")
    found = record("savedmodel-fp32")
    assert (found["status"], found["convert_s"], found["files"]) == ("failed", None, {})
    assert list(files.sizes(paths.model("savedmodel-fp32"))) == ["variant.json"]
    assert Manifest.read("savedmodel-fp32").status == "failed"
    assert "Traceback" in capfd.readouterr().err


def test_a_missing_record_of_the_model_is_this_variants_failure(prepared: None, run: Run) -> None:
    paths.MODEL.unlink()
    with pytest.raises(PipelineError, match=r"savedmodel-fp32 could not be converted: reports/model\.json is missing"):
        run("savedmodel-fp32")
    assert record("savedmodel-fp32")["status"] == "failed"


@pytest.mark.parametrize("status", ["skipped", "failed"])
def test_a_training_that_did_not_happen_is_the_reason_of_its_variants_alone(
    prepared: None, run: Run, status: str
) -> None:
    files.write_json(paths.QAT_RECORD, {"status": status, "reason": "no layers"})
    if status == "failed":
        with pytest.raises(PipelineError, match=r"^tflite-int8-qat could not be converted: no layers"):
            run("tflite-int8-qat")
    else:
        run("tflite-int8-qat")
    found = record("tflite-int8-qat")
    assert (found["runtime"], found["precision"], found["qat"]) == ("tflite", "int8", True)
    assert (found["status"], found["reason"], found["model_sha256"]) == (status, "no layers", None)
    assert Manifest.read("tflite-int8-qat") == Manifest(
        "tflite-int8-qat", "tflite", "int8", True, status, "no layers", {}
    )
    run("savedmodel-fp32")
    assert (record("savedmodel-fp32")["status"], record("savedmodel-fp32")["qat"]) == ("ok", False)


def test_what_this_machine_lacks_is_told_before_what_a_training_did(prepared: None, run: Run) -> None:
    files.write_json(paths.QAT_RECORD, {"status": "failed", "reason": "no layers"})
    run("tensorrt-int8-qat")
    assert record("tensorrt-int8-qat")["status"] == "skipped"
    assert "GPU" in record("tensorrt-int8-qat")["reason"]


@pytest.mark.parametrize("runtime", ["tflite", "onnxruntime", "tensorrt"])
def test_a_variant_takes_what_was_trained_for_it_and_no_other_does(
    prepared: None, tmp_path: Path, runtime: str
) -> None:
    plain, taught = (conversion.job_for(f"{runtime}-int8{end}", document.load(), tmp_path) for end in ("", "-qat"))
    assert (plain.saved_model, plain.onnx) == (paths.SAVED_MODEL, paths.ONNX)
    assert (taught.saved_model, taught.onnx) == (paths.QAT_SAVED_MODEL, paths.QAT_ONNX)
    assert (taught.precision, taught.options) == (plain.precision, plain.options)


def test_an_unknown_variant_lists_the_valid_ones(prepared: None, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("tflite-int4")
    assert "'tflite-int8'" in capsys.readouterr().err


def test_a_job_has_all_batch_sizes_that_are_ever_served(prepared: None, edit: Edit, tmp_path: Path) -> None:
    edit(("benchmark.batch_sizes", [16, 1]), ("evaluation.batch_size", 8), ("tftrt.max_workspace_mib", 512))
    job = conversion.job_for("tftrt-fp16", document.load(), tmp_path)
    assert job.batch_sizes == (1, 8, 16)
    assert (job.precision, job.input_shape, job.target) == ("fp16", (4, 4, 3), tmp_path)
    assert job.options == {
        "tf32": True, "minimum_segment_size": 3, "max_workspace_mib": 512, "maximum_cached_engines": None,
        "dynamic_shapes": False, "profile_strategy": "Range",
    }  # fmt: skip


def test_a_job_travels_to_another_process(prepared: None, tmp_path: Path) -> None:
    job = pickle.loads(pickle.dumps(conversion.job_for("tflite-int8", document.load(), tmp_path)))
    assert [batch.shape for batch in job.calibration(1)] == [(1, 4, 4, 3)] * 5


def test_calibration_comes_in_full_batches_only(prepared: None, model_record: dict[str, Any]) -> None:
    preprocessing = Preprocessing.from_json(model_record["preprocessing"])
    found = list(conversion.calibration_batches(preprocessing, 2))
    assert [batch.shape for batch in found] == [(2, 4, 4, 3)] * 2
    singly = list(conversion.calibration_batches(preprocessing, 1))
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(singly)[:4])


def test_too_few_calibration_images_for_one_batch_are_refused(prepared: None, model_record: dict[str, Any]) -> None:
    with pytest.raises(PipelineError) as caught:
        conversion.calibration_batches(Preprocessing.from_json(model_record["preprocessing"]), 8)
    assert str(caught.value) == "calibration needs at least one batch of 8 images, but calibration.images is 5"
