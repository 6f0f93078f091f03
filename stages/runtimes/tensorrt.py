"""Native TensorRT: engines built from the ONNX graph with its precision typed into it, run without TensorFlow."""

import os
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from stages.common import files, gpu_support
from stages.common.errors import PipelineError
from stages.runtimes import tensorrt_api as api
from stages.runtimes import typed_onnx
from stages.runtimes.protocol import Job, Session
from stages.runtimes.tensorrt_api import Sizes
from stages.runtimes.tensorrt_session import RECORD, TensorRTSession, built_by

# By TensorRT's major version, or RTX: oldest driver of its CUDA, and the compute capabilities it has kernels for
# (NVIDIA's support matrices; TensorRT-RTX by its bindings' ComputeCapability).
SUPPORTED: dict[str, tuple[tuple[int, ...], float, float]] = {
    "8": (gpu_support.CUDA_11_DRIVER, 5.0, 9.0),
    "10": (gpu_support.CUDA_12_DRIVER, 7.5, 12.1),
    "11": (gpu_support.CUDA_12_DRIVER, 7.5, 12.1),
    "rtx": (gpu_support.CUDA_13_DRIVER, 7.5, 12.1),
}
# Hopper's and Blackwell's in data centres, which TensorRT-RTX leaves out.
DATA_CENTRE = (9.0, 10.0, 10.3)
# To compare the two forms: rounds in which each has one block of calls, after one to warm up.
ROUNDS, CALLS = 10, 20
# One engine for all sizes is the simpler one, so that separate ones must be this much faster.
WORTHWHILE = 1.02
FORMS = {
    "each": "one engine for each batch size",
    "profile": "one engine with an optimisation profile for all batch sizes",
}


def unavailable(precision: str, environment: dict[str, Any]) -> str | None:
    """The first thing that is missing, from the GPU upwards."""
    if not environment["gpus"]:
        return f"no NVIDIA GPU ({environment['gpu_missing']})"
    found = environment["tensorrt_python"]
    if found is None:
        return (
            "TensorRT's Python module is not installed: the extra `gpu` has it for Python 3.10, and "
            "`make repro TENSORRT=11` an environment with the newest"
        )
    if not environment["cuda_python"]:
        return "CUDA's Python bindings are not installed: `pip install cuda-bindings`, in the version of this CUDA"
    name = f"{'TensorRT-RTX' if found['rtx'] else 'TensorRT'} {found['version']}"
    kind = "rtx" if found["rtx"] else found["version"].partition(".")[0]
    if kind not in SUPPORTED:
        return f"{name} is none of those that were tried: 8.5, 10, 11 or TensorRT-RTX"
    return _no_support(name, kind, precision, environment)


def _no_support(name: str, kind: str, precision: str, environment: dict[str, Any]) -> str | None:
    """What the driver or the GPU lacks for this TensorRT."""
    gpu, driver = environment["gpus"][0], environment["driver"]
    oldest_driver, oldest, newest = SUPPORTED[kind]
    if gpu_support.numbers(driver) < oldest_driver:
        needed = ".".join(map(str, oldest_driver))
        return f"the NVIDIA driver {driver} is too old for {name}: install {needed} or newer"
    capability = gpu_support.capability(gpu)
    if not oldest <= capability <= newest or (kind == "rtx" and capability in DATA_CENTRE):
        other = (
            "`make repro TENSORRT=11` brings a newer one" if kind == "8" else "`make repro` alone brings TensorRT 8.5"
        )
        return f"{name} has no kernels for {gpu_support.described(gpu)}: {other}"
    return gpu_support.no_units(precision, gpu)


def convert(job: Job) -> dict[str, Any]:
    """Type the precision into the graph, build the engines, keep the faster form, and prove what it computes in."""
    wanted = list(FORMS) if job.options["engines"] == "auto" else [job.options["engines"]]
    with tempfile.TemporaryDirectory(dir=job.target) as work:
        graph = typed(job, Path(work))
        cache = TimingCache(job.options["timing_cache"])
        built = {form: _build(job, graph, form, Path(work) / form, cache) for form in wanted}
        cache.keep()
        times = p50s(job, {form: Path(work) / form for form in wanted}) if len(wanted) > 1 else {}
        form, because = fastest(times) if times else (wanted[0], "as tensorrt.engines says")
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
    graph, path = job.onnx, folder / "typed.onnx"
    if job.precision == "int8":
        if api.strongly_typed():
            typed_onnx.with_fp16_scales(graph, path)
            graph = path
        typed_onnx.quantise_for_tensorrt(job, graph, path)
        graph = path
    # TensorRT 8.5 reads no FP16 scales of Q/DQ pairs; what they leave in float it computes in FP16 on its own.
    if job.precision == "fp16" or (job.precision == "int8" and api.strongly_typed()):
        typed_onnx.cast_to_fp16(graph, path)
        graph = path
    return graph


def ranges(form: str, batch_sizes: tuple[int, ...]) -> list[Sizes]:
    """What each engine takes: one batch size, or all of them, tuned for the middle one."""
    if form == "each":
        return [Sizes(size, size, size) for size in batch_sizes]
    return [Sizes(1, batch_sizes[len(batch_sizes) // 2], batch_sizes[-1])]


def _build(job: Job, graph: Path, form: str, folder: Path, cache: "TimingCache") -> dict[str, Any]:
    """Build all engines of one form into the folder; what is proven of them."""
    folder.mkdir()
    seconds, engines = {}, {}
    for sizes in ranges(form, job.batch_sizes):
        start = time.perf_counter()
        plan = api.build(graph, job.precision, sizes, job.options, cache.content)
        cache.content = plan.timing_cache
        name = f"batch{sizes.largest}.plan" if form == "each" else "all.plan"
        (folder / name).write_bytes(plan.engine)
        key = str(sizes.largest) if form == "each" else f"{sizes.smallest}-{sizes.largest}"
        seconds[key] = time.perf_counter() - start
        engine, _ = api.opened(plan.engine)
        engines[key] = {"file": name, "bytes": len(plan.engine)} | api.proof(api.information(engine))
    source, result = api.names(engine)
    plans = [found["file"] for found in engines.values()] * (len(job.batch_sizes) // len(engines))
    listed = list(zip(job.batch_sizes, plans, strict=True))
    record = {"built_by": built_by(), "form": form, "input": source, "output": result, "engines": listed}
    files.write_json(folder / RECORD, record)
    return {"engine_build_s": seconds} | check_precision(job.precision, engines)


def check_precision(precision: str, engines: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The proof of all engines with its totals; PipelineError if one computes nothing in the precision asked for."""
    for key, engine in engines.items():
        # From TensorRT 10 on some layers are fused into kernels whose weights the inspector no longer names.
        if precision not in (engine["weights"] or engine["layers"]):
            found = ", ".join(f"{count} {name}" for name, count in (engine["weights"] or engine["layers"]).items())
            raise PipelineError(
                f"TensorRT computes no layer of the engine for batch {key} in {precision.upper()}: {found}"
            )
    totals = {
        f"{name}_layers": sum(engine["weights"].get(name, 0) for engine in engines.values())
        for name in ("int8", "fp16", "fp32")
    }
    return totals | {"engines": engines, "engine_bytes": sum(engine["bytes"] for engine in engines.values())}


class TimingCache:
    """What TensorRT learned of kernels in earlier builds, kept for this GPU, driver and TensorRT alone."""

    def __init__(self, wanted: bool) -> None:
        """Read what there is."""
        self._path = timing_cache_path() if wanted else None
        self._warm = bool(self._path and self._path.exists())
        self._lost: str | None = None
        self.content = self._path.read_bytes() if self._path and self._warm else b""

    def keep(self) -> None:
        """Write it for the next build; a folder that cannot be written costs time then, and no build now."""
        try:
            if self._path and self.content:
                files.write_bytes(self._path, self.content)
        except OSError as error:
            self._lost = f"{self._path}: {error.strerror or error}"

    def record(self) -> dict[str, Any]:
        """Whether it was used, whether an earlier build had filled it, and why it could not be kept."""
        size = len(self.content)
        return {"used": self._path is not None, "warm": self._warm, "bytes": size, "lost": self._lost}


def timing_cache_path() -> Path:
    """In the user's cache folder, so that a second checkout profits too."""
    from stages.common import nvml  # the champion loads this module, but builds nothing

    with nvml.session():
        driver = nvml.driver()
    words = (*built_by().values(), "driver", driver)
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "trt-pipeline" / f"{re.sub(r'[^A-Za-z0-9.]+', '-', ' '.join(words))}.timing"


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
