"""Asks a worker to classify the evaluation set with one variant: for the stage `evaluate`, and for a cluster."""

from stages.contracts import codec, predictions, system
from stages.contracts.conversion import MANIFEST, Manifest
from stages.contracts.conversion import folder as model_folder
from stages.contracts.evaluation import Counts, Evaluation, evaluation_path, predictions_path
from stages.contracts.images import EVALUATION
from stages.contracts.messages import Loaded, LoadOrder, PredictOrder
from stages.contracts.model import MODEL, ModelRecord
from stages.contracts.status import OK, Status
from stages.contracts.system import system_path
from stages.contracts.variant import BASELINE
from stages.core.errors import PipelineError
from stages.measurement import resizing
from stages.measurement.system import watched
from stages.runtimes.client import Client


def run(name: str, batch_size: int) -> Status:
    """Evaluate, and write evaluate.json, predictions.csv and evaluate_system.csv; how it ended.

    Without a model the evaluation is skipped: it is no failure of this stage, and runs again when there is one.
    """
    manifest = _manifest(name)
    if not manifest.status.ok:
        return record(name, Evaluation(Status("skipped", manifest.status.reason)))
    try:
        with watched(system_path(name, "evaluate")):
            evaluated = _evaluated(manifest, batch_size)
    except PipelineError as error:
        return record_failure(name, str(error))
    codec.write(evaluated, evaluation_path(name))
    return OK


def has_model(name: str) -> bool:
    """Whether its conversion succeeded."""
    return _manifest(name).status.ok


def record_failure(name: str, reason: str) -> Status:
    """Write the same where all that is known is why there are no predictions."""
    return record(name, Evaluation(Status("failed", reason)))


def record(name: str, evaluation: Evaluation) -> Status:
    """Write an evaluation without predictions and samples, so that none of an earlier run stay."""
    predictions.write([], predictions_path(name))
    system.write([], system_path(name, "evaluate"))
    codec.write(evaluation, evaluation_path(name))
    return evaluation.status


def _manifest(name: str) -> Manifest:
    return codec.read(Manifest, model_folder(name) / MANIFEST)


def _evaluated(manifest: Manifest, batch_size: int) -> Evaluation:
    """The baseline's worker also says how its answers depend on the resize."""
    name = manifest.variant.name
    preprocessing = codec.read(ModelRecord, MODEL).preprocessing
    with Client(manifest.variant.edition) as client:
        client.ask("load", LoadOrder(str(model_folder(name)), None, preprocessing), Loaded)
        order = PredictOrder(str(EVALUATION), str(predictions_path(name)), batch_size)
        counts = client.ask("predict", order, Counts)
        probe = resizing.ask(client, preprocessing, batch_size) if manifest.variant == BASELINE else None
        return Evaluation(OK, counts, probe)
