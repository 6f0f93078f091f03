"""What a page of results keeps of a run: the figures of its summary in a flat form, as docs/results has them."""

from dataclasses import asdict
from typing import Any

from stages.contracts.environment import Environment
from stages.contracts.row import Row, Summary
from stages.statistics.doubts import words
from stages.tracking import store


def flat(summary: Summary) -> dict[str, Any]:
    """Of one run."""
    sets = {name: asdict(getattr(summary, name)) for name in ("evaluation", "calibration")}
    environment = next(iter(summary.environments.values()))
    return {"model": {"name": summary.model.name}, "environment": machine(environment), **sets} | {
        "rows": [row(each) for each in summary.here]
    }


def machine(environment: Environment) -> dict[str, Any]:
    """The hardware, and the versions that a page names; `digest` stands for all of it."""
    versions = {name: value for each in environment.runtimes for name, value in each.versions.items()}
    return asdict(environment.machine) | {
        "tensorflow": {"version": environment.base.get("tensorflow")},
        "tensorrt": {"loaded": versions.get("tensorrt")},
        "digest": store.digest(environment),
    }


def row(measured: Row) -> dict[str, Any]:
    """Of one variant; what was not measured is None."""
    accuracy, conversion = measured.accuracy, measured.conversion
    return {
        "variant": measured.name,
        "precision": measured.variant.precision,
        "status": measured.status.state,
        "reason": measured.status.explanation,
        "doubts": words(measured.doubts),
        "top1": accuracy and accuracy.top1.value,
        "agreement": accuracy and accuracy.agreement,
        "latency": {str(speed.batch_size): asdict(speed.latency) for speed in measured.speeds},
        "first_inference_ms": measured.speeds[0].first_inference_ms if measured.speeds else None,
        "convert_s": conversion and conversion.seconds,
        "size_bytes": measured.size_bytes,
        "details": details(measured),
    }


def details(measured: Row) -> dict[str, Any]:
    """The facts of the proof, and what was seen of the GPU."""
    proof = measured.conversion.proof if measured.conversion else None
    gpu = asdict(measured.gpu) if measured.gpu else None
    if gpu and measured.footprint:
        gpu["process_memory_bytes"] = measured.footprint.gpu_process_memory_bytes
    if not proof:
        return {"gpu": gpu}
    layers = {f"{name}_layers": proof.layers.get(name, 0) for name in ("int8", "fp16", "fp32")}
    built = {name.removeprefix("batch"): seconds for name, seconds in proof.under("engine_build_s").items()}
    return proof.facts | {"engine_build_s": built, "gpu": gpu} | (layers if proof.kind == "engine_layers" else {})
