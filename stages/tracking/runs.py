"""What one run of the pipeline is in MLflow: a parent, and a child for each training and for each variant."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stages.contracts import codec, system
from stages.contracts.conversion import conversion_path
from stages.contracts.environment import ENVIRONMENT, OTHER_GPUS, Environment
from stages.contracts.evaluation import evaluation_path, predictions_path
from stages.contracts.images import IMAGES, ImageSet
from stages.contracts.model import MODEL
from stages.contracts.row import HERE, SUMMARY, Row, Summary
from stages.contracts.selection import SELECTION, Selection
from stages.contracts.timing import SAMPLES, TIMING
from stages.core.errors import PipelineError
from stages.core.git import git
from stages.core.shown import masked
from stages.params.document import Params
from stages.params.load import PARAMS
from stages.reporting.figures import device_name, find
from stages.reporting.report_data import PAGE
from stages.reporting.table import SUMMARY_TABLE
from stages.statistics.doubts import words
from stages.statistics.per_class import CLASSES, FILES
from stages.statistics.tables import METRICS, PLOTS
from stages.tracking import metrics, receipts, settings
from stages.tracking.experiment import Experiment, finished
from stages.tracking.receipts import TRACK, TrackReceipt
from stages.tracking.store import cause, digest, one_at_a_time, stamp, tracking_uri
from stages.tracking.trainings import Training, trainings

PARENT_FILES = (
    PARAMS, SUMMARY, SUMMARY_TABLE, METRICS, ENVIRONMENT, IMAGES, MODEL, SELECTION, PAGE, TIMING, SAMPLES, PLOTS,
)  # fmt: skip
# Of each variant, and the stages during which the machine was watched.
RECORDS = (conversion_path, evaluation_path, predictions_path)
WATCHED = ("convert", "evaluate")
# Which TensorRT a variant was made with: TF-TRT's, or that of native engines.
TENSORRT = ("tensorrt_linked", "tensorrt_loaded", "tensorrt")
# MLflow refuses longer tags; the summary stands among the artifacts anyway.
LONGEST_NOTE = 7000


@dataclass(frozen=True)
class Results:
    """All that is logged of one run of the pipeline; `experiment` is DVC's, if any."""

    setting: Params
    summary: Summary
    chosen: Selection
    experiment: str = ""
    commit: str = field(default_factory=lambda: git("rev-parse", "HEAD").strip())

    @property
    def key(self) -> str:
        """Same parameters and same results: same run."""
        return run_key(self.setting, self.summary)

    @property
    def sets(self) -> dict[str, ImageSet]:
        """By what they were used for."""
        return {"evaluation": self.summary.evaluation, "calibration": self.summary.calibration}

    def tags(self, device: str = HERE) -> dict[str, str]:
        """What every run says of its origin, and of the machine that it is about."""
        return (
            {"model": self.summary.model.name}
            | machine_tags(self.summary.environments[device])
            | ({"mlflow.source.git.commit": self.commit} if self.commit else {})
            | ({"dvc.experiment": self.experiment} if self.experiment else {})
        )


@dataclass(frozen=True)
class Place:
    """A device that variants ran on: how their runs are named and told apart, and where their records lie."""

    suffix: str = ""
    tags: Mapping[str, str] = field(default_factory=lambda: {"level": "variant"})
    root: Path = Path()

    @classmethod
    def of(cls, summary: Summary, device: str) -> "Place":
        """GPUs other than the primary one have runs of a level of their own."""
        if device == HERE:
            return cls()
        name = device_name(summary, device)
        tags = {"level": "other_gpu", "gpu_model": device, "gpu": name}
        return cls(f" on {name}", tags, OTHER_GPUS / device)


def already_logged(setting: Params, checkout: Path) -> bool:
    """Whether the receipt is for the results that lie here, and the store still has their run."""
    key = run_key(setting, codec.read(Summary, SUMMARY))
    return receipts.tracked(key, tracking_uri(setting.tracking, checkout)) is not None


def track(results: Results, checkout: Path) -> None:
    """Log what the store does not have yet, and write the receipt; PipelineError where the store does not answer."""
    uri = tracking_uri(results.setting.tracking, checkout)
    receipt = receipts.tracked(results.key, uri)
    if receipt is None:
        TRACK.unlink(missing_ok=True)
        receipt = _log(results, uri, checkout)
    receipts.keep(receipt, TRACK)


def _log(results: Results, uri: str, checkout: Path) -> TrackReceipt:
    try:
        with one_at_a_time(uri):
            run = log_pipeline(Experiment(uri, results.setting.tracking.experiment, checkout), results)
            return TrackReceipt(results.key, masked(uri), run, stamp(uri))
    except PipelineError:
        raise
    except Exception as error:
        raise PipelineError(
            f"could not log to MLflow at {uri} ({cause(error)}): nothing is lost; "
            "run `make repro` once the store answers, which logs what is missing",
            code="not-logged",
            uri=uri,
        ) from None


def run_key(setting: Params, summary: Summary) -> str:
    """Same parameters and same results: same run."""
    return digest([settings.parameters(setting), summary])


def machine_tags(environment: Environment) -> dict[str, str]:
    """What a run says of the machine that a variant ran on."""
    machine = environment.machine
    gpu = machine.gpus[0].name if machine.gpus else "none"
    return {"environment": digest(environment), "gpu": gpu, "cpu": machine.cpu}


def log_pipeline(experiment: Experiment, results: Results) -> str:
    """Log the parent run and whatever children are missing; returns the parent's id."""
    experiment.end_abandoned()
    runs = experiment.search({"level": "pipeline", "pipeline.key": results.key})
    if runs and finished(runs[0]):
        return str(runs[0].info.run_id)
    # An interrupted parent is gone on with, so that its finished children stay where they are.
    parent = experiment.resume(runs[0]) if runs else experiment.create(results.summary.model.name, parent_tags(results))
    try:
        _log_all(experiment, results, parent)
    except KeyboardInterrupt:
        experiment.kill(parent)
        raise
    return parent


def _log_all(experiment: Experiment, results: Results, parent: str) -> None:
    for training in trainings(results.setting, results.summary):
        log_training(experiment, results, training, parent)
    for row in results.summary.rows:
        log_variant(experiment, results, row, parent)
    log_parent(experiment, results, parent)


def parent_tags(results: Results) -> dict[str, str]:
    """What the parent run is found by, and the choice."""
    chosen = results.chosen
    own = {"level": "pipeline", "pipeline.key": results.key, "outcome": chosen.outcome}
    winner = {"winner": chosen.winner} if chosen.winner else {}
    return results.tags() | own | winner | note(chosen.sentence, SUMMARY_TABLE.read_text(encoding="utf-8"))


def note(sentence: str, table: str) -> dict[str, str]:
    """The tag that MLflow shows as a run's description: the choice, and the table where it is short enough."""
    return {"mlflow.note.content": f"{sentence}\n\n{table if len(table) < LONGEST_NOTE else 'Table: summary.md.'}"}


def log_parent(experiment: Experiment, results: Results, run: str) -> None:
    """Parameters and reports; pipelines compare by the metrics of what they would ship."""
    summary, chosen = results.summary, results.chosen
    winner = find(summary, chosen.winner)
    experiment.log_datasets(run, results.sets)
    points = metrics.of_row(winner, chosen.batch_size) if winner else []
    experiment.log(run, settings.of_pipeline(results.setting, summary), points, PARENT_FILES)
    experiment.finish(run, failed=any(row.status.state == "failed" for row in summary.here))


def log_training(experiment: Experiment, results: Results, training: Training, parent: str) -> None:
    """Log a child run for one training, with its curve."""
    identity = {"mlflow.parentRunId": parent, "level": "training", **training.identity}
    if experiment.complete(identity):
        return
    run = experiment.create(training.name, {**results.tags(), **identity, **training.tags})
    experiment.log(run, settings.flat(training.params), training.points, training.files)
    experiment.finish(run)


def log_variant(experiment: Experiment, results: Results, row: Row, parent: str) -> None:
    """Log one child run, tagged as cached if an earlier run holds the very same results."""
    place = Place.of(results.summary, row.device)
    identity = {"mlflow.parentRunId": parent, "variant": row.name, **place.tags}
    if experiment.complete(identity):
        return
    choice = choice_tags(results.chosen, row.name) if row.device == HERE else {}
    origin = cached_tags(experiment, row, place)
    tags = results.tags(row.device) | choice | identity | origin | status_tags(row)
    run = experiment.create(row.name + place.suffix, tags)
    experiment.log_datasets(run, results.sets)
    points = metrics.of_row(row, results.chosen.batch_size) + _system_points(row.name, place.root)
    values = settings.of_variant(results.setting, row)
    experiment.log(run, values, points, [place.root / path(row.name) for path in RECORDS])
    if row.device == HERE:
        experiment.attach(run, [CLASSES / f"{row.name}{kind}" for kind in FILES], CLASSES.name)
    experiment.finish(run, failed=row.status.state == "failed")


def _system_points(name: str, root: Path) -> list[metrics.Point]:
    samples = [sample for stage in WATCHED for sample in system.read(root / system.system_path(name, stage))]
    return metrics.of_machine(samples)


def cached_tags(experiment: Experiment, row: Row, place: Place) -> dict[str, str]:
    """Results are equal only if nothing was converted, evaluated or timed again."""
    result = digest(row)
    earlier = [run for run in experiment.search({"result": result, **place.tags}) if finished(run)]
    origin = {"cached": "true", "cached_from": earlier[0].info.run_id} if earlier else {"cached": "false"}
    return {"result": result, **origin}


def status_tags(row: Row) -> dict[str, str]:
    """How the variant ended, what makes its measurement doubtful, and which TensorRT made it."""
    facts = row.conversion.proof.facts if row.conversion and row.conversion.proof else {}
    reason = row.status.explanation
    return (
        {"status": row.status.state}
        | ({"reason": reason} if reason else {})
        | ({"doubts": ", ".join(words(row.doubts))} if row.doubts else {})
        | {name: str(facts[name]) for name in TENSORRT if name in facts}
    )


def choice_tags(chosen: Selection, name: str) -> dict[str, str]:
    """Whether a variant was chosen, and why not."""
    judged = chosen.variants[name]
    verdict = {"verdict": judged.verdict} if judged.verdict else {}
    return {
        "chosen": str(name == chosen.winner).lower(),
        "mlflow.note.content": judged.reason or chosen.sentence,
        **verdict,
    }
