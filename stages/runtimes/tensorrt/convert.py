"""Types the precision into the ONNX graph and builds engines from it, in the form that runs faster."""

import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

from ...contracts import codec
from ...contracts.conversion import ConvertJob, Proof
from ..shared import fp16, onnx_precision, tensors
from . import api, forms, proof
from .api import Sizes
from .options import Options
from .proof import Engine
from .session import RECORD, Engines, Origin, built_by
from .timing_cache import TimingCache


def convert(job: ConvertJob, options: Options) -> Proof:
    """Type the precision into the graph, build the engines, keep the faster form, and prove what it computes in."""
    origin = built_by()  # asks CUDA first: calibration takes long
    kind = "fp16" if _is_cast(job) else job.precision
    lost = fp16.of(kind, lambda: onnx_precision.weights(Path(job.onnx)))
    seen = fp16.between_layers(kind, job, lambda: tensors.of_onnx(Path(job.onnx)))
    cache = TimingCache(options.timing_cache and not api.is_rtx(), origin)
    with tempfile.TemporaryDirectory(dir=job.target) as work:
        folders = {form: Path(work) / form for form in forms.candidates(options)}
        graph = typed(job, options, Path(work))
        built = {form: _build(job, options, graph, form, folders[form], cache) for form in folders}
        for form, folder in folders.items():
            _record(job, form, folder, built[form], origin)
        cache.save()
        choice = forms.choose(job, options, folders)
        for path in sorted(folders[choice.form].iterdir()):
            path.rename(Path(job.target) / path.name)
    proven = _proof(job, options, choice, built[choice.form], cache)
    return replace(proven, facts=proven.facts | lost.facts | seen, notes=proven.notes + lost.notes)


def typed(job: ConvertJob, options: Options, folder: Path) -> Path:
    """The ONNX file whose types are those that the engine computes in."""
    graph, path, strong = Path(job.onnx), folder / "typed.onnx", api.strongly_typed()
    if job.precision == "int8":
        if strong:
            onnx_precision.with_fp16_scales(graph, path)
        onnx_precision.quantize_for_tensorrt(job, path if strong else graph, path, options.calibrator)
        graph = path
    if _is_cast(job):
        onnx_precision.cast_to_fp16(graph, path)
        graph = path
    return graph


def _is_cast(job: ConvertJob) -> bool:
    """Whether the graph is cast to FP16, also around its INT8 layers.

    TensorRT 8.5 reads no FP16 scales of Q/DQ pairs; what they leave in float it computes in FP16 on its own.
    """
    return job.precision == "fp16" or (job.precision == "int8" and api.strongly_typed())


def _build(
    job: ConvertJob, options: Options, graph: Path, form: str, folder: Path, cache: TimingCache
) -> dict[str, Engine]:
    """Build all engines of one form into the folder, by name; PipelineError if one computes in another precision."""
    folder.mkdir()
    engines = {
        name: _engine(job.precision, options, graph, sizes, folder / f"batch{name}.plan", cache)
        for name, sizes in forms.ranges(form, job.batch_sizes).items()
    }
    proof.check(job.precision, engines)
    return engines


def _engine(precision: str, options: Options, graph: Path, sizes: Sizes, path: Path, cache: TimingCache) -> Engine:
    """Build one engine into that file."""
    start = time.perf_counter()
    plan = api.build(graph, precision, sizes, options, cache.content)
    seconds, cache.content = time.perf_counter() - start, plan.timing_cache
    path.write_bytes(plan.engine)
    engine = api.opened(plan.engine)
    layers = proof.layers(api.information(engine, sizes.tuned))
    return Engine(path.name, len(plan.engine), seconds, sizes, api.names(engine), layers)


def _record(job: ConvertJob, form: str, folder: Path, engines: dict[str, Engine], origin: Origin) -> None:
    """Write beside the engines what a session must know of them."""
    plans = [(size, engine.file) for engine in engines.values() for size in job.batch_sizes if engine.sizes.take(size)]
    source, result = next(iter(engines.values())).tensors
    codec.write(Engines(origin, form, source, result, job.preprocessing.shape, tuple(plans)), folder / RECORD)


def _proof(
    job: ConvertJob, options: Options, choice: forms.Choice, engines: dict[str, Engine], cache: TimingCache
) -> Proof:
    chosen = {f"options.{name}": value for name, value in asdict(options).items()}
    facts = {"tf32": options.tf32, "tensorrt": api.version(), **chosen, **choice.facts(), **cache.facts()}
    notes = (f"has {choice.because}", *proof.notes(job.precision, engines))
    return Proof("engine_layers", proof.totals(engines), facts | proof.facts(engines), notes)
