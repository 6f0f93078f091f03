"""Makes the winner of a choice a version of a registered model with the alias `champion`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stages.contracts import codec
from stages.contracts.conversion import MANIFEST, Conversion, Manifest, conversion_path, folder
from stages.contracts.row import Row
from stages.core.errors import PipelineError
from stages.core.shown import masked, say
from stages.selection.certainty import unmeasured
from stages.serving.winner import Winner
from stages.tracking import logged_model, receipts
from stages.tracking.candidate import Candidate, identity
from stages.tracking.receipts import REGISTER, TRACK, RegisterReceipt, TrackReceipt
from stages.tracking.registry import CHAMPION, PREVIOUS, Registry
from stages.tracking.store import cause, connect, digest, one_at_a_time, stamp

if TYPE_CHECKING:
    from mlflow import MlflowClient


def leave(uri: str, reason: str) -> RegisterReceipt:
    """Without a choice to ship the champion is what it was; the receipt says why."""
    say(f"{reason}: the model registry stays as it is")
    receipt = RegisterReceipt(reason, masked(uri))
    receipts.keep(receipt, REGISTER)
    return receipt


def register(winner: Winner, rows: Sequence[Row], name: str, batch_size: int, uri: str) -> None:
    """Make the winner the champion unless it or a rival of it is already, and write the receipt.

    `rows` are all that were measured beside it. A request is answered in batches of `batch_size`. PipelineError where
    the store does not answer: the champion is then what it was.
    """
    candidate = Candidate(winner, tracked_run(uri), batch_size)
    key = digest([name, candidate.identity, winner.chosen.rivals])
    receipt = receipts.registered(key, uri, candidate.run)
    if receipt is None:
        REGISTER.unlink(missing_ok=True)
        receipt = _promoted(candidate, rows, name, key, uri)
    receipts.keep(receipt, REGISTER)


def tracked_run(uri: str) -> str:
    """The pipeline run that `track` logged these results to."""
    receipt = codec.read(TrackReceipt, TRACK)
    if receipt.uri != masked(uri):
        raise PipelineError(
            f"{TRACK} is of another store than {uri}: run `make repro`, which logs to this one",
            code="other-store",
            file=str(TRACK),
            uri=uri,
        )
    return receipt.run


def _promoted(candidate: Candidate, rows: Sequence[Row], name: str, key: str, uri: str) -> RegisterReceipt:
    try:
        with one_at_a_time(uri):
            client = connect(uri)
            registry = Registry(client, name)
            refuse_other_classes(registry, candidate, name)
            if reason := _stays(registry, candidate, rows):
                return leave(uri, reason)
            version, variant = promote(client, registry, candidate)
            return RegisterReceipt("selected", masked(uri), key, candidate.run, name, version, variant, stamp(uri))
    except PipelineError:
        raise
    except Exception as error:
        raise PipelineError(
            f"could not register {candidate.name} in MLflow at {uri} ({cause(error)}): the {CHAMPION} is what it was; "
            "run `make repro` once the store answers, which registers it",
            code="not-registered",
            variant=candidate.name,
            uri=uri,
        ) from None


def refuse_other_classes(registry: Registry, candidate: Candidate, name: str) -> None:
    """PipelineError if the versions of that name answer other classes: who loads the champion expects those."""
    known = registry.champion() or registry.newest()
    if known and registry.tags(known).get("labels", candidate.identity["labels"]) != candidate.identity["labels"]:
        raise PipelineError(
            f"the registered model {name} has version {known} with other classes: give this model a name of its own in "
            "model.label, or delete that one in MLflow",
            code="other-classes",
            key="model.label",
            name=name,
            version=known,
        )


def _stays(registry: Registry, candidate: Candidate, rows: Sequence[Row]) -> str | None:
    """Why the champion stays, if nobody knows that the winner is better."""
    champion = registry.champion()
    if champion is None or registry.find(candidate.identity) == champion:
        return None
    return unmeasured(registry.tags(champion).get("variant"), rows)


def promote(client: "MlflowClient", registry: Registry, candidate: Candidate) -> tuple[str, str]:
    """Version and variant of the champion, which does not change for a difference that measurements cannot tell."""
    experiment = client.get_run(candidate.run).info.experiment_id
    tags, name = candidate.identity, registry.name
    champion = registry.champion()
    if champion and (rival := _rival(registry, candidate, champion)):
        say(f"{name}: version {champion}, {rival}, cannot be told from {candidate.name} and stays the {CHAMPION}")
        return champion, rival
    version = registry.find(tags)
    if version is None:
        version = registry.add(logged_model.log(client, experiment, candidate), candidate.run, tags)
    if version != champion:
        registry.describe(version, candidate.story, candidate.description)
        registry.promote(version)
        before = f", and version {champion} the {PREVIOUS}" if champion else ""
        say(f"{name}: version {version}, {candidate.name}, is now the {CHAMPION}{before}")
    return version, candidate.name


def _rival(registry: Registry, candidate: Candidate, champion: str) -> str | None:
    """The variant that the champion is, if the measurements cannot tell it from the winner."""
    for name in candidate.winner.chosen.rivals:
        manifest = codec.read(Manifest, folder(name) / MANIFEST)
        conversion = codec.read(Conversion, conversion_path(name))
        if registry.find(identity(manifest, conversion, candidate.winner.model)) == champion:
            return name
    return None
