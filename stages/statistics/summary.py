"""Raw records to Summary: a row for each variant on each device."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stages.contracts import codec, predictions
from stages.contracts.conversion import Conversion, conversion_path
from stages.contracts.cpu import CpuLoad, load
from stages.contracts.environment import ENVIRONMENT, OTHER_GPUS, Environment
from stages.contracts.evaluation import Evaluation, evaluation_path, predictions_path
from stages.contracts.images import IMAGES, ImagesRecord
from stages.contracts.model import DOWNLOAD, MODEL, DownloadRecord, ModelRecord
from stages.contracts.predictions import Predictions
from stages.contracts.row import HERE, Accuracy, Footprint, Row, Speed, Summary
from stages.contracts.status import OK, Status
from stages.contracts.timing import (
    PARTS,
    SAMPLES,
    TERMS,
    TIMING,
    Parts,
    Repeats,
    RepeatTiming,
    Series,
    Timing,
    VariantTiming,
    read_samples,
)
from stages.contracts.training import QAT_RECORD, QatRecord
from stages.contracts.variant import Variant
from stages.core.errors import PipelineError
from stages.statistics import accuracy, latency, resizes
from stages.statistics.doubts import doubts
from stages.statistics.gpu_conditions import conditions, largest

MISSING = Status("failed", "the stage left no result: it was ended, or what it needs is missing")

UNKNOWN = Evaluation(MISSING)


@dataclass(frozen=True)
class Records:
    """What the stages left of a variant; without a converted model there is nothing else."""

    variant: Variant
    status: Status
    conversion: Conversion | None = None
    evaluation: Evaluation = UNKNOWN
    answers: Predictions | None = None
    repeats: tuple[RepeatTiming, ...] = ()
    max_foreign_cpu: float | None = None


def build(names: Sequence[str]) -> Summary:
    """All of summary.json; PipelineError for a shared record that is missing, or any that is damaged."""
    roots = {HERE: Path()} | {root.name: root for root in sorted(OTHER_GPUS.glob("*"))}
    images = codec.read(ImagesRecord, IMAGES)
    trained = any(Variant.parse(name).qat for name in names)
    return Summary(
        model=codec.read(ModelRecord, MODEL),
        environments={device: codec.read(Environment, root / ENVIRONMENT) for device, root in roots.items()},
        evaluation=images.evaluation,
        calibration=images.calibration,
        qat=codec.read(QatRecord, QAT_RECORD) if trained else None,
        rows=tuple(row for device, root in roots.items() for row in rows(names, root, device)),
        class_order=codec.read(DownloadRecord, DOWNLOAD).class_order,
    )


def rows(names: Sequence[str], root: Path = Path(), device: str = HERE) -> tuple[Row, ...]:
    """The variants on one device, in the order given; `root` stands for the checkout."""
    timing = codec.read(Timing, root / TIMING)
    calls = read_samples(root / SAMPLES)
    records = {name: read_records(name, root, timing) for name in names}
    counts = {name: record.evaluation.counts for name, record in records.items() if record.evaluation.counts}
    answers = {name: record.answers for name, record in records.items() if record.answers}
    accuracies = accuracy.compare(counts, answers)
    return tuple(row(record, calls, accuracies.get(name), device) for name, record in records.items())


def read_records(name: str, root: Path, timing: Timing) -> Records:
    """A missing record means that its stage was ended, and one may be damaged: the row fails, and the others stay."""
    variant = Variant.parse(name)
    conversion = _conversion(variant, root / conversion_path(name))
    if not conversion.status.ok:
        return Records(variant, _first_failure(convert=conversion.status))
    evaluation, answers = _evaluation(root / evaluation_path(name), root / predictions_path(name))
    timed = _timed(timing.variants.get(name, VariantTiming(MISSING)), root / TIMING)
    status = _first_failure(evaluate=evaluation.status, benchmark=timed.status)
    return Records(variant, status, conversion, evaluation, answers, timed.repeats, timing.max_foreign_cpu)


def _conversion(variant: Variant, path: Path) -> Conversion:
    if not path.exists():
        return Conversion(variant, MISSING)
    try:
        found = codec.read(Conversion, path)
    except PipelineError as error:
        return Conversion(variant, Status("failed", str(error)))
    alike = found.variant == variant
    return found if alike else Conversion(variant, _damaged(path, f"it is of {found.variant.name}"))


def _evaluation(path: Path, table: Path) -> tuple[Evaluation, Predictions | None]:
    """With the answers that were counted, where they were."""
    if not (path.exists() and table.exists()):
        return Evaluation(MISSING), None
    try:
        found = codec.read(Evaluation, path)
        if not found.status.ok:
            return Evaluation(found.status), None
        answers = predictions.read(table)
    except PipelineError as error:
        return Evaluation(Status("failed", str(error))), None
    fault = found.fault(len(answers))
    return (Evaluation(_damaged(path, fault)), None) if fault else (found, answers)


def _timed(found: VariantTiming, path: Path) -> VariantTiming:
    """Without repeats unless all of it went well."""
    if not found.status.ok:
        return VariantTiming(found.status)
    return VariantTiming(_damaged(path, found.fault)) if found.fault else found


def _damaged(path: Path, fault: str) -> Status:
    return Status("failed", f"{path} is damaged ({fault}): delete it and run `make repro`")


def _first_failure(**statuses: Status) -> Status:
    """By stage; what was skipped needs no stage to be understood."""
    for stage, status in statuses.items():
        if not status.ok:
            return Status(status.state, status.reason, stage if status.state == "failed" else None)
    return OK


def row(record: Records, calls: Mapping[Series, Repeats], measured: Accuracy | None, device: str = HERE) -> Row:
    """One variant: loading and first calls are those of the first process, memory is the largest of all."""
    gpu = conditions([repeat.gpu for repeat in record.repeats if repeat.gpu])
    speeds = _speeds(record, calls)
    return Row(
        variant=record.variant,
        status=record.status,
        device=device,
        conversion=record.conversion,
        accuracy=_resized(record, measured),
        speeds=speeds,
        load_ms=record.repeats[0].load_ms if record.repeats else None,
        footprint=_footprint(record.repeats) if record.repeats else None,
        gpu=gpu,
        doubts=doubts(speeds, gpu, record.max_foreign_cpu),
    )


def _resized(record: Records, measured: Accuracy | None) -> Accuracy | None:
    """With what the accuracy is where images are resized otherwise."""
    probe = record.evaluation.probe
    if measured is None or probe is None or record.answers is None:
        return measured
    return replace(measured, resized=resizes.compare(probe, record.answers))


def _footprint(repeats: Sequence[RepeatTiming]) -> Footprint:
    memories = [repeat.memory for repeat in repeats]
    return Footprint(
        on_gpu=memories[0].on_gpu,
        peak_memory_bytes=max(memory.peak_memory_bytes for memory in memories),
        gpu_peak_memory_bytes=largest([memory.gpu_peak_memory_bytes for memory in memories]),
        gpu_process_memory_bytes=largest([repeat.gpu.process_memory_bytes for repeat in repeats if repeat.gpu]),
    )


def _speeds(record: Records, calls: Mapping[Series, Repeats]) -> tuple[Speed, ...]:
    first = record.repeats[0].warm_up if record.repeats else {}
    return tuple(_speed(record, size, calls) for size in sorted(map(int, first)))


def _cpu(record: Records, key: str) -> CpuLoad | None:
    """Of its blocks; where they are too short to tell, of the time of all blocks at this batch size."""
    own = load([use for repeat in record.repeats for use in repeat.cpu.get(key, ())])
    if own is None or own.resolution <= (record.max_foreign_cpu or math.inf):
        return own
    return load([repeat.window[key] for repeat in record.repeats if key in repeat.window]) or own


def _speed(record: Records, batch_size: int, calls: Mapping[Series, Repeats]) -> Speed:
    name, key = record.variant.name, str(batch_size)
    term, host_term = (Series(name, batch_size, term) for term in TERMS)
    if term not in calls or host_term not in calls:
        raise PipelineError(
            f"{SAMPLES} has no calls of {name} at batch {batch_size}, which {TIMING} says were timed: delete both and "
            "run `make repro`",
            code="samples-missing",
            file=str(SAMPLES),
            variant=name,
            batch_size=batch_size,
        )
    return Speed(
        batch_size=batch_size,
        first_inference_ms=record.repeats[0].warm_up[key].first_inference_ms,
        latency=latency.summarize(calls[term], batch_size),
        latency_host=latency.summarize(calls[host_term], batch_size),
        parts_ms=_parts(name, batch_size, calls),
        cpu=_cpu(record, key),
        retimed=sum(repeat.retimed.get(key, 0) for repeat in record.repeats),
    )


def _parts(name: str, batch_size: int, calls: Mapping[Series, Repeats]) -> Parts | None:
    """Medians over all repeats, where the GPU's clock tells them all."""
    repeats = [calls.get(Series(name, batch_size, part), []) for part in PARTS]
    times = [[ms for repeat in part for block in repeat for ms in block] for part in repeats]
    return Parts(*map(statistics.median, times)) if all(times) else None
