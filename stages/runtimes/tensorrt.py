"""Native TensorRT: engines built from the ONNX graph with its precision typed into it, run without TensorFlow."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..core import files
from ..core.errors import PipelineError
from . import tensorrt_api as api
from .contract import Job, Session
from .shared import gpu_requirements, onnx_precision
from .tensorrt_api import Sizes
from .tensorrt_session import RECORD, TensorRTSession, built_by
from .tensorrt_timing import TimingCache


class Kind(NamedTuple):
    """A TensorRT that engines may be built with: what it needs (NVIDIA's support matrices), and how it is installed."""

    driver: str
    oldest: float
    newest: float
    without: tuple[float, ...]
    command: str


# TensorRT-RTX leaves out Hopper's and Blackwell's data centre GPUs (its bindings' ComputeCapability).
KINDS = {
    "8": Kind(gpu_requirements.CUDA_11_DRIVER, 5.0, 9.0, (), "make repro"),
    "10": Kind(gpu_requirements.CUDA_12_DRIVER, 7.5, 12.1, (), "make repro TENSORRT=11"),
    "11": Kind(gpu_requirements.CUDA_12_DRIVER, 7.5, 12.1, (), "make repro TENSORRT=11"),
    "rtx": Kind(gpu_requirements.CUDA_13_DRIVER, 7.5, 12.1, (9.0, 10.0, 10.3), "make repro TENSORRT=rtx"),
}
# To compare the two forms: rounds in which each has one block of calls, after one to warm up.
ROUNDS, CALLS = 10, 20
# One engine for all sizes is the simpler one, so that separate ones must be this much faster.
WORTHWHILE = 1.02
FORMS = {
    "each": "one engine for each batch size",
    "profile": "one engine with an optimisation profile for all batch sizes",
}


def unavailable(precision: str, environment: dict[str, Any]) -> str | None:
    """The first thing that is missing; which GPU will do depends on the TensorRT that is installed."""
    if not environment["gpus"]:
        return f"no NVIDIA GPU ({environment['gpu_missing']})"
    found = environment["tensorrt_python"]
    if found is None:
        hint = ", and this is 3.11" if environment["python"] == "3.11" else ""
        return f"TensorRT's Python module is not installed: the extra `gpu` has it for Python 3.10{hint}"
    if not environment["cuda_python"]:
        return "CUDA's Python bindings are not installed: `pip install cuda-bindings`, in the version of this CUDA"
    name = f"{'TensorRT-RTX' if found['rtx'] else 'TensorRT'} {found['version']}"
    kind = KINDS.get("rtx" if found["rtx"] else found["version"].partition(".")[0])
    if kind is None or (kind is KINDS["8"] and gpu_requirements.numbers(found["version"]) < (8, 5)):
        return f"{name} is none of those that were tried: 8.5, 10, 11 and TensorRT-RTX"
    if reason := gpu_requirements.too_old(environment["driver"], kind.driver, name):
        return reason
    gpu = environment["gpus"][0]
    if not _has_kernels(kind, gpu):
        commands = dict.fromkeys(other.command for other in KINDS.values() if _has_kernels(other, gpu))
        mend = " or ".join(f"`{command}`" for command in commands)
        return f"{name} has no kernels for {gpu_requirements.described(gpu)}" + (
            f": {mend} brings one that has" if mend else ""
        )
    return gpu_requirements.no_units(precision, gpu)


def _has_kernels(kind: Kind, gpu: dict[str, Any]) -> bool:
    capability = gpu_requirements.capability(gpu)
    return kind.oldest <= capability <= kind.newest and capability not in kind.without


def convert(job: Job) -> dict[str, Any]:
    """Type the precision into the graph, build the engines, keep the faster form, and prove what it computes in."""
    origin = built_by()  # asks CUDA first: calibration takes long
    wanted = list(FORMS) if job.options["engines"] == "auto" else [job.options["engines"]]
    cache = TimingCache(job.options["timing_cache"] and not api.is_rtx(), origin)
    with tempfile.TemporaryDirectory(dir=job.target) as work:
        graph = typed(job, Path(work))
        built = {form: _build(job, graph, form, Path(work) / form, cache, origin) for form in wanted}
        cache.keep()
        times = p50s(job, {form: Path(work) / form for form in wanted}) if len(wanted) > 1 else {}
        form, because = fastest(times) if times else (wanted[0], f"{FORMS[wanted[0]]}, as tensorrt.engines says")
        for path in sorted((Path(work) / form).iterdir()):
            path.rename(job.target / path.name)
    return {
        "tf32": job.options["tf32"],
        "options": job.options,
        "tensorrt": api.version(),
        "form": form,
        "because": because,
        "form_p50_ms": times,
        "timing_cache": cache.record(),
    } | built[form]


def typed(job: Job, folder: Path) -> Path:
    """The ONNX file whose types are those that the engine computes in."""
    graph, path, strong = job.onnx, folder / "typed.onnx", api.strongly_typed()
    if job.precision == "int8":
        if strong:
            onnx_precision.with_fp16_scales(graph, path)
        onnx_precision.quantise_for_tensorrt(job, path if strong else graph, path)
        graph = path
    # TensorRT 8.5 reads no FP16 scales of Q/DQ pairs; what they leave in float it computes in FP16 on its own.
    if job.precision == "fp16" or (job.precision == "int8" and strong):
        onnx_precision.cast_to_fp16(graph, path)
        graph = path
    return graph


def _build(
    job: Job, graph: Path, form: str, folder: Path, cache: TimingCache, origin: dict[str, str]
) -> dict[str, Any]:
    """Build all engines of one form into the folder; what is proven of them."""
    folder.mkdir()
    seconds, engines, listed = {}, {}, []
    for key, sizes in ranges(form, job.batch_sizes).items():
        start = time.perf_counter()
        plan = api.build(graph, job.precision, sizes, job.options, cache.content)
        cache.content, seconds[key] = plan.timing_cache, time.perf_counter() - start
        name = f"batch{key}.plan"
        (folder / name).write_bytes(plan.engine)
        engine = api.opened(plan.engine)
        engines[key] = {"file": name, "bytes": len(plan.engine)} | api.proof(api.information(engine, sizes.tuned))
        listed += [(size, name) for size in job.batch_sizes if sizes.smallest <= size <= sizes.largest]
    source, result = api.names(engine)
    record = {"built_by": origin, "form": form, "input": source, "output": result, "engines": listed}
    files.write_json(folder / RECORD, record)
    return {"engine_build_s": seconds} | proven(job.precision, engines)


def ranges(form: str, batch_sizes: tuple[int, ...]) -> dict[str, Sizes]:
    """What each engine takes, by a name for it: one batch size, or all of them, tuned for the middle one."""
    if form == "each":
        return {str(size): Sizes(size, size, size) for size in batch_sizes}
    largest = batch_sizes[-1]
    return {f"1-{largest}": Sizes(1, batch_sizes[len(batch_sizes) // 2], largest)}


def proven(precision: str, engines: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The proof of all engines with its totals; PipelineError if one computes nothing in the precision asked for."""
    # From TensorRT 10 on some layers are fused into kernels whose weights the inspector does not name.
    counted = {key: engine["weights"] or engine["layers"] for key, engine in engines.items()}
    for key, engine in engines.items():
        if precision not in engine["weights"] | engine["layers"]:
            found = ", ".join(f"{count} {name}" for name, count in counted[key].items())
            raise PipelineError(
                f"TensorRT computes no layer of the engine for batch {key} in {precision.upper()}: {found}"
            )
    names = ("int8", "fp16", "fp32")
    totals = {f"{name}_layers": sum(found.get(name, 0) for found in counted.values()) for name in names}
    return totals | {"engines": engines, "engine_bytes": sum(engine["bytes"] for engine in engines.values())}


def p50s(job: Job, folders: dict[str, Path]) -> dict[str, dict[str, float]]:
    """Median milliseconds of `run` by form and batch size, measured in turns so that drift hits all forms alike."""
    sessions = {form: load(folder, job.precision, job.options, None) for form, folder in folders.items()}
    found: dict[str, dict[str, float]] = {form: {} for form in folders}
    for size in job.batch_sizes:
        blocks: dict[str, list[float]] = {form: [] for form in folders}
        for session in sessions.values():
            session.put(np.zeros((size, *job.input_shape), np.float32))
        for lap in range(1 + ROUNDS):
            for form, session in sessions.items():
                times = _block(session)
                blocks[form] += times if lap else []  # the first warms up
        for form, times in blocks.items():
            found[form][str(size)] = statistics.median(times)
    return found


def _block(session: Session) -> list[float]:
    """Milliseconds of a few calls."""
    found = []
    for _ in range(CALLS):
        start = time.perf_counter()
        session.run()
        found.append((time.perf_counter() - start) * 1000)
    return found


def fastest(times: dict[str, dict[str, float]]) -> tuple[str, str]:
    """The form to keep, and why: one engine, unless separate ones are worth their space over all batch sizes."""
    ratios = [times["profile"][size] / ms for size, ms in times["each"].items()]
    gain = statistics.geometric_mean(ratios)
    form = "each" if gain >= WORTHWHILE else "profile"
    told = ", ".join(
        f"{times['each'][size]:.3f} against {times['profile'][size]:.3f} ms at batch {size}" for size in times["each"]
    )
    return form, f"{FORMS[form]}: separate engines run {gain:.2f} times as fast as a single one ({told})"


def load(folder: Path, precision: str, options: dict[str, Any], threads: int | None) -> Session:
    """A session on the engines in `folder`."""
    return TensorRTSession(folder, options["pinned"], options["cuda_graph"])
