"""Asks a worker to convert the model into one variant, and records how it ended: for `convert`, and for a cluster."""

import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from stages.contracts import codec, system
from stages.contracts.conversion import MANIFEST, Build, Conversion, ConvertJob, Manifest, Scalar, conversion_path
from stages.contracts.conversion import folder as model_folder
from stages.contracts.environment import ENVIRONMENT, Environment, RuntimeEnvironment
from stages.contracts.images import CALIBRATION, IMAGES, ImagesRecord
from stages.contracts.messages import BatchOrder, Block, BlockOrder, Converted, Loaded, LoadOrder
from stages.contracts.model import MODEL, ONNX, ONNX_RECORD, SAVED_MODEL, ModelRecord, OnnxRecord
from stages.contracts.reference import ANSWERS, Reference
from stages.contracts.status import OK, Status
from stages.contracts.system import system_path
from stages.contracts.timing import TERMS, WarmUp
from stages.contracts.training import QAT_ONNX, QAT_RECORD, QAT_SAVED_MODEL, QatRecord
from stages.contracts.variant import Variant
from stages.core import files
from stages.core.errors import PipelineError
from stages.measurement.system import watched
from stages.runtimes.client import Client

# Of each build, where builds are compared.
CALLS = 100


@dataclass(frozen=True)
class Setting:
    """What params.yaml says of conversions: the batch sizes that are ever served, and the runtime's block."""

    batch_sizes: tuple[int, ...]
    repeats: int
    options: dict[str, Scalar]


def run(name: str, setting: Setting) -> Status:
    """Convert, and write the model's folder, convert.json and convert_system.csv; how it ended."""
    variant = Variant.parse(name)
    impossible = _impossible(variant)  # before anything is written under a name that no runtime makes
    return _write(name, lambda folder: _outcome(variant, impossible, setting, folder))


def record_failure(name: str, reason: str) -> Status:
    """Write the same where all that is known is why there is no model."""
    return _write(name, lambda folder: Conversion(Variant.parse(name), Status("failed", reason)))


def job_for(variant: Variant, setting: Setting, target: Path) -> ConvertJob:
    """All that the conversion needs to know."""
    model = codec.read(ModelRecord, MODEL)
    return ConvertJob(
        saved_model=str(QAT_SAVED_MODEL if variant.qat else SAVED_MODEL),
        onnx=str(QAT_ONNX if variant.qat else ONNX),
        target=str(target),
        precision=variant.precision,
        batch_sizes=setting.batch_sizes,
        calibration=str(CALIBRATION),
        preprocessing=model.preprocessing,
        options=setting.options,
        reference=Reference(str(ANSWERS), model.parameters, model.allowed_difference),
    )


def _write(name: str, convert: Callable[[Path], Conversion]) -> Status:
    system.write([], system_path(name, "convert"))
    with files.new_directory(model_folder(name)) as folder:
        conversion = convert(folder)
        if not conversion.status.ok:
            codec.write(Manifest(conversion.variant, conversion.status, {}), folder / MANIFEST)
    codec.write(conversion, conversion_path(name))
    return conversion.status


def _outcome(variant: Variant, impossible: Status | None, setting: Setting, target: Path) -> Conversion:
    """Convert into `target`, whatever happens to the worker."""
    if impossible:
        return Conversion(variant, impossible)
    try:
        return _convert(variant, setting, target)
    except PipelineError as error:
        shutil.rmtree(target)
        target.mkdir()
        return Conversion(variant, Status("failed", str(error)))


def _impossible(variant: Variant) -> Status | None:
    """Why nothing is tried: what this machine lacks, or what a stage before could not make."""
    environment = codec.read(Environment, ENVIRONMENT)
    if missing := environment.unavailable(variant):
        return Status("skipped", missing)
    found = environment.runtime(variant.edition)
    return next((status for status in _needed(variant, found) if not status.ok), None)


def _needed(variant: Variant, found: RuntimeEnvironment) -> Iterator[Status]:
    """How the stages ended whose results this variant takes, and not all do."""
    yield _unless("environment", found.failed)
    if variant.qat:
        yield codec.read(QatRecord, QAT_RECORD).status
    elif found.starts_from == "onnx":
        exported = codec.read(OnnxRecord, ONNX_RECORD).status
        yield replace(exported, reason=f"to_onnx: {exported.reason}")
    if variant.precision == "int8":
        yield _unless("images", codec.read(ImagesRecord, IMAGES).calibration.failed)


def _unless(stage: str, failed: str | None) -> Status:
    return Status("failed", f"{stage}: {failed}") if failed else OK


def _convert(variant: Variant, setting: Setting, target: Path) -> Conversion:
    job = job_for(variant, setting, target)
    with watched(system_path(variant.name, "convert")):
        converted = _ask(variant, job)
    sizes, digest = files.sizes(target), files.tree_digest(target)
    codec.write(Manifest(variant, OK, converted.options), target / MANIFEST)
    conversion = Conversion(variant, OK, converted.seconds, sizes, digest, converted.proof)
    if setting.repeats == 1:
        return conversion
    first = Build(converted.seconds, sum(sizes.values()), digest, _p50_ms(variant, job))
    again = replace(job, options=converted.options)
    return replace(conversion, builds=(first, *(_build_again(variant, again) for _ in range(setting.repeats - 1))))


def _ask(variant: Variant, job: ConvertJob) -> Converted:
    with Client(variant.edition) as client:
        return client.ask("convert", job, Converted)


def _build_again(variant: Variant, job: ConvertJob) -> Build:
    """The same once more, in a folder that is not kept."""
    # From what the first one learned of kernels, TensorRT would build the same again.
    anew: dict[str, Scalar] = {"timing_cache": False} if "timing_cache" in job.options else {}
    with tempfile.TemporaryDirectory() as place:
        again, folder = replace(job, target=place, options=job.options | anew), Path(place)
        converted = _ask(variant, again)
        size, digest = sum(files.sizes(folder).values()), files.tree_digest(folder)
        codec.write(Manifest(variant, OK, converted.options), folder / MANIFEST)
        return Build(converted.seconds, size, digest, _p50_ms(variant, again))


def _p50_ms(variant: Variant, job: ConvertJob) -> float:
    """Median latency of a build by itself: enough to compare builds, not to compare variants."""
    with Client(variant.edition) as client:
        client.ask("load", LoadOrder(job.target, None, job.preprocessing), Loaded)
        client.ask("warm_up", BatchOrder(job.batch_sizes[0]), WarmUp)
        block = client.ask("block", BlockOrder(job.batch_sizes[0], dict.fromkeys(TERMS, CALLS)), Block)
    return statistics.median(block.ms["latency"])
