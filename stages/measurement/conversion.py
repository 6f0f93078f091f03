"""Convert the model into one variant, or record why it cannot be: for the stage `convert`, and for a worker."""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from typing import Any

from stages import runtimes
from stages.contracts import paths
from stages.contracts.preprocessing import Floats, Preprocessing
from stages.contracts.variant import Variant
from stages.core import files, isolate
from stages.core.errors import PipelineError
from stages.data import batches
from stages.measurement import system
from stages.params.document import Params
from stages.runtimes.contract import Job
from stages.runtimes.timer import TERMS, Stopwatch

# Of each build, where builds are compared.
CALLS = 100


def calibration_batches(preprocessing: Preprocessing, size: int) -> Iterator[Floats]:
    """The calibration set in full batches of one shape; PipelineError if it does not fill one."""
    found = batches.files(paths.CALIBRATION)
    full = found[: len(found) - len(found) % size]
    if not full:
        raise PipelineError(
            f"calibration needs at least one batch of {size} images, but calibration.images is {len(found)}"
        )
    return batches.batches(full, preprocessing, size)


def convert(runtime: str, job: Job) -> tuple[float, dict[str, Any]]:
    """Seconds that the conversion takes in this process, imports included, and the runtime's own details."""
    start = time.perf_counter()
    details = runtimes.runtime(runtime).convert(job)
    return time.perf_counter() - start, details


def p50_of(runtime: str, job: Job, batch_size: int) -> float:
    """Median latency of a build by itself, in this process: enough to compare builds, not to compare variants."""
    preprocessing = Preprocessing.from_json(files.read_json(paths.MODEL)["preprocessing"])
    load = partial(runtimes.runtime(runtime).load, job.target, job.precision, job.options, None)
    watch = Stopwatch(load, preprocessing)
    watch.warm_up(batch_size)
    return statistics.median(watch.block(batch_size, dict.fromkeys(TERMS, CALLS))["latency"])


def builds(runtime: str, job: Job, first: tuple[float, dict[str, Any]], repeats: int) -> list[dict[str, Any]]:
    """The first build and more like it, of which none is kept: how far they differ in time, size and speed."""
    found = [_build(runtime, job, *first)]
    # From what the first one learned of kernels, TensorRT would build the same again.
    anew = {"timing_cache": False} if "timing_cache" in job.options else {}
    for _ in range(repeats - 1):
        with tempfile.TemporaryDirectory() as folder:
            again = replace(job, target=Path(folder), options=job.options | anew)
            found.append(_build(runtime, again, *isolate.call(convert, runtime, again)))
    return found


def _build(runtime: str, job: Job, seconds: float, details: dict[str, Any]) -> dict[str, Any]:
    return {
        "convert_s": seconds,
        "engine_build_s": details.get("engine_build_s"),
        "size_bytes": sum(files.sizes(job.target).values()),
        "model_sha256": files.tree_digest(job.target),
        "p50_ms": isolate.call(p50_of, runtime, job, job.batch_sizes[0]),
    }


def job_for(name: str, setting: Params, target: Path) -> Job:
    """All that the conversion of variant `name` needs to know."""
    runtime, precision, qat = astuple(Variant.parse(name))
    model = files.read_json(paths.MODEL)
    preprocessing = Preprocessing.from_json(model["preprocessing"])
    return Job(
        saved_model=paths.QAT_SAVED_MODEL if qat else paths.SAVED_MODEL,
        onnx=paths.QAT_ONNX if qat else paths.ONNX,
        target=target,
        precision=precision,
        input_shape=tuple(model["input_shape"]),
        calibration=partial(calibration_batches, preprocessing),
        batch_sizes=setting.engine_batch_sizes(),
        options=setting.options(runtime),
    )


def outcome(name: str, setting: Params, target: Path) -> dict[str, Any]:
    """Convert into `target`; says how that went, whatever happens to the converting process."""
    runtime, precision, qat = astuple(Variant.parse(name))
    result: dict[str, Any] = {"status": "ok", "reason": None, "convert_s": None, "details": {}}
    reason = runtimes.runtime(runtime).unavailable(precision, files.read_json(paths.ENVIRONMENT))
    if reason:
        return result | {"status": "skipped", "reason": reason}
    if qat and (trained := files.read_json(paths.QAT_RECORD))["status"] != "ok":
        return result | {"status": trained["status"], "reason": trained["reason"]}
    try:
        job = job_for(name, setting, target)
        with system.watched(paths.record(name, "convert_system.csv")):
            seconds, details = isolate.call(convert, runtime, job)
        if setting.convert.repeats > 1:
            details["builds"] = builds(runtime, job, (seconds, details), setting.convert.repeats)
    except PipelineError as error:
        shutil.rmtree(target)
        target.mkdir()
        return result | {"status": "failed", "reason": str(error)}
    return result | {"convert_s": seconds, "details": details}


def run(name: str, setting: Params) -> str | None:
    """Convert, and write the model's folder, convert.json and convert_system.csv; why it failed, if it did."""
    return _write(name, setting, lambda folder: outcome(name, setting, folder))


def lost(name: str, setting: Params, reason: str) -> str:
    """Write the same where all that is known is why there is no model; returns it."""
    failed: dict[str, Any] = {"status": "failed", "reason": reason, "convert_s": None, "details": {}}
    _write(name, setting, lambda folder: failed)
    return reason


def _write(name: str, setting: Params, make: Callable[[Path], dict[str, Any]]) -> str | None:
    runtime, precision, qat = astuple(Variant.parse(name))
    system.write([], paths.record(name, "convert_system.csv"))
    header = {"variant": name, "runtime": runtime, "precision": precision, "qat": qat}
    with files.new_directory(paths.model(name)) as folder:
        result = make(folder)
        written = files.sizes(folder)
        digest = files.tree_digest(folder) if written else None
        manifest = {
            "status": result["status"],
            "reason": result["reason"],
            "options": setting.options(runtime) if result["status"] == "ok" else {},
        }
        files.write_json(folder / paths.MANIFEST, header | manifest)
    size = {"size_bytes": sum(written.values()) or None, "files": written, "model_sha256": digest}
    files.write_json(paths.record(name, "convert.json"), header | result | size)
    return result["reason"] if result["status"] == "failed" else None
