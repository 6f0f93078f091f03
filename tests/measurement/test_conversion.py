import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stages import convert
from stages.cluster import adopt, kept
from stages.contracts import codec, system
from stages.contracts.conversion import MANIFEST, Conversion, ConvertJob, Manifest, Proof, conversion_path, folder
from stages.contracts.environment import ENVIRONMENT, Environment, RuntimeEnvironment
from stages.contracts.images import CALIBRATION, IMAGES, ImageSet
from stages.contracts.messages import Block, Converted
from stages.contracts.model import MODEL, ONNX, ONNX_RECORD, SAVED_MODEL, OnnxRecord
from stages.contracts.reference import ANSWERS, Reference
from stages.contracts.status import OK, Status
from stages.contracts.system import Sample, system_path
from stages.contracts.training import QAT_ONNX, QAT_RECORD, QAT_SAVED_MODEL, QatRecord
from stages.contracts.variant import Variant
from stages.core import files
from stages.core.errors import PipelineError
from stages.measurement import conversion
from stages.measurement.conversion import Setting
from stages.params.measurement import variants
from stages.runtimes import loading, registry
from tests.fixtures.errors import refused
from tests.fixtures.records import BASE, CPU_MACHINE, PREPARED, SETS, TINY

Edit = Callable[..., None]
Run = Callable[[str], None]
NO_GPU = "no NVIDIA GPU"
SETTING = Setting((1, 8), 1, {})
BASELINE = Variant("savedmodel", "fp32")


def runtime(name: str) -> RuntimeEnvironment:
    reason = NO_GPU if name in ("tftrt", "tensorrt") else None
    described = registry.description(name)
    return RuntimeEnvironment(name, "3.10", {}, dict.fromkeys(described.precisions, reason), described.starts_from)


@pytest.fixture
def prepared(checkout: Path) -> None:
    """What the stages before `convert` leave; a copy of the SavedModel does not need it to be a real one."""
    codec.write(Environment(CPU_MACHINE, BASE, tuple(map(runtime, registry.RUNTIMES))), ENVIRONMENT)
    codec.write(TINY, MODEL)
    codec.write(SETS, IMAGES)
    codec.write(OnnxRecord(), ONNX_RECORD)
    files.write_text(SAVED_MODEL / "saved_model.pb", "graph")
    files.write_text(SAVED_MODEL / "variables/variables.index", "weights")


@pytest.fixture
def run(command_line: Callable[..., None]) -> Run:
    def main(variant: str) -> None:
        command_line(variant)
        convert.main()

    return main


def record(variant: str) -> Conversion:
    return codec.read(Conversion, conversion_path(variant))


def manifest(variant: str) -> Manifest:
    return codec.read(Manifest, folder(variant) / MANIFEST)


def test_the_baseline_is_a_copy_with_a_manifest(prepared: None, run: Run) -> None:
    run("savedmodel-fp32")
    expected = {"saved_model.pb": 5, "variables/variables.index": 7}
    assert files.sizes(folder("savedmodel-fp32")).keys() == {*expected, MANIFEST}
    assert manifest("savedmodel-fp32") == Manifest(BASELINE, OK, {"tf32": True})
    made = record("savedmodel-fp32")
    assert (made.variant, made.status, made.builds) == (BASELINE, OK, ())
    assert made.proof and made.proof.facts["tf32"] is True
    assert made.seconds and made.seconds > 0
    assert (made.files, made.size_bytes) == (expected, 12)
    assert made.sha256 == files.tree_digest(SAVED_MODEL)


def test_the_manifest_has_the_defaults_of_a_block_that_is_left_out(prepared: None, run: Run, edit: Edit) -> None:
    conversion.run("savedmodel-fp32", replace(SETTING, options={}))
    assert manifest("savedmodel-fp32").options == {"tf32": True}
    edit(("savedmodel.tf32", False))
    run("savedmodel-fp32")
    assert manifest("savedmodel-fp32").options == {"tf32": False}


def test_further_builds_are_compared_and_not_kept(
    prepared: None, run: Run, edit: Edit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    p50s = iter([2.0, 3.0, 4.0])
    manifests: list[Manifest] = []

    def p50_ms(variant: Variant, job: ConvertJob) -> float:
        manifests.append(codec.read(Manifest, Path(job.target) / MANIFEST))
        return next(p50s)

    monkeypatch.setattr(conversion, "_p50_ms", p50_ms)
    edit(("convert.repeats", 3))
    run("savedmodel-fp32")
    builds = record("savedmodel-fp32").builds
    assert [build.p50_ms for build in builds] == [2, 3, 4]
    assert {build.model_sha256 for build in builds} == {files.tree_digest(SAVED_MODEL)}
    assert all(build.size_bytes == 12 and build.convert_s > 0 for build in builds)
    assert manifests == [Manifest(BASELINE, OK, {"tf32": True})] * 3
    assert list(tmp_path.glob("tmp*")) == []


class FakeClient:
    """Notes what it is asked, and answers as a worker whose block took these milliseconds."""

    requests: list[tuple[str, Any]]

    def __init__(self, runtime: str) -> None:
        self._runtime = runtime

    def __enter__(self) -> "FakeClient":
        return self

    def __exit__(self, *_: object) -> None: ...

    def ask(self, verb: str, arguments: Any, kind: Any) -> Any:
        self.requests.append((verb, arguments))
        if verb == "convert":
            (Path(arguments.target) / "model").write_text("m")
            return Converted(1.0, Proof("engine_layers", {}, {}), loading.defaults(self._runtime, arguments.options))
        return Block({"latency": [1.0, 2.0, 9.0], "latency_host": [5.0] * 3}) if verb == "block" else None


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    FakeClient.requests = []
    monkeypatch.setattr(conversion, "Client", FakeClient)
    return FakeClient.requests


@pytest.mark.parametrize(("name", "learns"), [("tensorrt-fp16", True), ("onnxruntime-fp32", False)])
def test_further_builds_start_without_what_the_first_one_learned(
    prepared: None, requests: list[tuple[str, Any]], tmp_path: Path, name: str, learns: bool
) -> None:
    able = tuple(map(all_of, ("tensorrt", "onnxruntime")))
    codec.write(Environment(CPU_MACHINE, BASE, able), ENVIRONMENT)
    conversion.run(name, replace(SETTING, repeats=3))
    jobs = [arguments for verb, arguments in requests if verb == "convert"]
    assert [job.options.get("timing_cache") for job in jobs] == ([None, False, False] if learns else [None] * 3)
    assert [build.p50_ms for build in record(name).builds] == [2.0] * 3
    assert [arguments.batch_size for verb, arguments in requests if verb == "warm_up"] == [1] * 3


def all_of(name: str) -> RuntimeEnvironment:
    return replace(runtime(name), unavailable=dict.fromkeys(registry.description(name).precisions))


def test_the_machine_is_watched_while_it_converts_and_not_while_it_times(
    prepared: None, run: Run, edit: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    before = threading.active_count()

    def p50_ms(*_: Any) -> float:
        threads.append(threading.active_count())
        return 2.0

    monkeypatch.setattr(conversion, "_p50_ms", p50_ms)
    edit(("convert.repeats", 2))
    run("savedmodel-fp32")
    assert threads == [before] * 2
    assert len(system.read(system_path("savedmodel-fp32", "convert"))) >= 1


def test_what_is_not_converted_is_not_watched(prepared: None, run: Run) -> None:
    system.write([Sample(1, 2.0, 3.0, None, None, None)], system_path("tftrt-int8", "convert"))
    run("tftrt-int8")
    assert system.read(system_path("tftrt-int8", "convert")) == []


def test_a_variant_that_this_machine_cannot_run_is_skipped_with_its_reason(prepared: None, run: Run) -> None:
    run("tftrt-int8")
    skipped = Status("skipped", NO_GPU)
    assert record("tftrt-int8") == Conversion(Variant("tftrt", "int8"), skipped)
    assert list(files.sizes(folder("tftrt-int8"))) == [MANIFEST]
    assert manifest("tftrt-int8") == Manifest(Variant("tftrt", "int8"), skipped, {})


def test_a_conversion_that_fails_is_recorded_and_ends_the_stage(
    prepared: None, run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    (SAVED_MODEL / "saved_model.pb").rename("elsewhere.pb")
    (SAVED_MODEL / "saved_model.pb").symlink_to("nowhere.pb")
    files.write_text(folder("savedmodel-fp32") / "old.pb", "from an earlier run")
    error = refused(run, "savedmodel-fp32")
    assert (error.code, error.values) == ("not-converted", {"variant": "savedmodel-fp32"})
    made = record("savedmodel-fp32")
    assert made == Conversion(BASELINE, Status("failed", made.status.reason))
    assert "saved_model.pb" in str(made.status.reason)
    assert list(files.sizes(folder("savedmodel-fp32"))) == [MANIFEST]
    assert manifest("savedmodel-fp32").status == made.status
    assert "Traceback" in capfd.readouterr().err


def test_a_missing_record_of_the_model_is_this_variants_failure(prepared: None, run: Run) -> None:
    MODEL.unlink()
    assert refused(run, "savedmodel-fp32").code == "not-converted"
    assert str(MODEL) in str(record("savedmodel-fp32").status.reason)


@pytest.mark.parametrize("state", ["skipped", "failed"])
def test_a_training_that_did_not_happen_is_the_reason_of_its_variants_alone(
    prepared: None, run: Run, state: Any
) -> None:
    status = Status(state, "no layers")
    codec.write(QatRecord(status, None), QAT_RECORD)
    if state == "failed":
        assert refused(run, "tflite-int8-qat").code == "not-converted"
    else:
        run("tflite-int8-qat")
    trained = Variant("tflite", "int8", qat=True)
    assert record("tflite-int8-qat") == Conversion(trained, status)
    assert manifest("tflite-int8-qat") == Manifest(trained, status, {})
    run("savedmodel-fp32")
    assert record("savedmodel-fp32").status.ok


EXPORT = Status("failed", "no kernel for Conv")


def lose(stage: str) -> None:
    """What that stage leaves where it fails."""
    if stage == "to_onnx":
        codec.write(OnnxRecord(status=EXPORT), ONNX_RECORD)
    elif stage == "images":
        codec.write(replace(SETS, calibration=ImageSet("calib", 0, "", failed="no folder calib")), IMAGES)
    elif stage == "qat":
        codec.write(QatRecord(Status("failed", "qat: no layers"), None), QAT_RECORD)
    else:
        broken = replace(runtime("tflite"), failed="ImportError: no libc")
        codec.write(Environment(CPU_MACHINE, BASE, (broken, *map(runtime, ABLE[1:]))), ENVIRONMENT)


ABLE = ("tflite", "savedmodel", "onnxruntime")
ALL = (
    "savedmodel-fp32",
    *(f"{name}-{kind}" for name in ("tflite", "onnxruntime") for kind in ("fp32", "int8", "int8-qat")),
)


@pytest.mark.parametrize(
    ("stage", "lost", "reason"),
    [
        ("to_onnx", {"onnxruntime-fp32", "onnxruntime-int8"}, "to_onnx: no kernel for Conv"),
        ("images", {name for name in ALL if "int8" in name}, "images: no folder calib"),
        ("qat", {"tflite-int8-qat", "onnxruntime-int8-qat"}, "qat: no layers"),
        ("environment", {name for name in ALL if "tflite" in name}, "environment: ImportError: no libc"),
    ],
)
def test_a_stage_that_all_share_costs_what_takes_its_result_and_nothing_else(
    prepared: None, requests: list[tuple[str, Any]], stage: str, lost: set[str], reason: str
) -> None:
    codec.write(QatRecord(OK, "d"), QAT_RECORD)
    found = {name: record_of(name) for name in ALL}
    assert all(one.status.ok for one in found.values())
    lose(stage)
    for name in ALL:
        again = record_of(name)
        assert again == (Conversion(Variant.parse(name), Status("failed", reason)) if name in lost else found[name])
        assert manifest(name).status == again.status


def record_of(name: str) -> Conversion:
    """As a conversion leaves it now."""
    conversion.run(name, SETTING)
    return record(name)


def test_what_this_machine_lacks_is_told_before_what_a_training_did(prepared: None, run: Run) -> None:
    codec.write(QatRecord(Status("failed", "no layers"), None), QAT_RECORD)
    run("tensorrt-int8-qat")
    assert record("tensorrt-int8-qat").status == Status("skipped", NO_GPU)


@pytest.mark.parametrize("runtime", ["tflite", "onnxruntime", "tensorrt"])
def test_a_variant_takes_what_was_trained_for_it_and_no_other_does(prepared: None, runtime: str) -> None:
    plain, taught = (conversion.job_for(Variant(runtime, "int8", qat), SETTING, Path("t")) for qat in (False, True))
    assert (plain.saved_model, plain.onnx) == (str(SAVED_MODEL), str(ONNX))
    assert taught == replace(plain, saved_model=str(QAT_SAVED_MODEL), onnx=str(QAT_ONNX))


def test_an_unknown_variant_lists_the_valid_ones(prepared: None, run: Run) -> None:
    with pytest.raises(PipelineError) as caught:
        run("tflite-int4")
    assert caught.value.code == "unknown-variant" and "tflite-int8" in str(caught.value)
    assert not folder("tflite-int4").exists() and not conversion_path("tflite-int4").parent.exists()


def test_a_job_has_all_that_a_worker_must_know(
    prepared: None, run: Run, edit: Edit, requests: list[tuple[str, Any]]
) -> None:
    edit(("benchmark.batch_sizes", [16, 1]), ("evaluation.batch_size", 8), ("tflite.xnnpack", False))
    codec.write(replace(TINY, allowed_difference=0.002), MODEL)
    run("tflite-fp16")
    ((_, job),) = requests
    assert job == ConvertJob(
        str(SAVED_MODEL), str(ONNX), job.target, "fp16", (1, 8, 16), str(CALIBRATION), PREPARED, {"xnnpack": False},
        Reference(str(ANSWERS), 100, 0.002),
    )  # fmt: skip
    assert Path(job.target) != folder("tflite-fp16") and not Path(job.target).exists()


def test_what_a_cluster_converted_is_adopted_and_what_it_lost_is_a_failure(prepared: None, run: Run) -> None:
    sources = dict.fromkeys(variants()) | {"savedmodel-fp32": "a", "tflite-fp32": "b"}
    adopt.write(adopt.Sweep("ray", "T4", sources, None, {"convert@tflite-fp32": "its worker was lost"}))
    with kept.Kept("T4").keeping("convert@savedmodel-fp32", "key") as place:
        files.write_text(place / folder("savedmodel-fp32") / "model", "of the cluster")
        files.write_text(place / conversion_path("savedmodel-fp32"), "{}")
    files.write_text(folder("savedmodel-fp32") / "old", "of an earlier run")
    run("savedmodel-fp32")
    assert list(files.sizes(folder("savedmodel-fp32"))) == ["model"]
    assert json.loads(conversion_path("savedmodel-fp32").read_text()) == {}
    assert refused(run, "tflite-fp32").code == "not-converted"
    assert record("tflite-fp32").status == manifest("tflite-fp32").status == Status("failed", "its worker was lost")
