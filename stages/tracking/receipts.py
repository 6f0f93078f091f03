"""What `track` and `register` keep of their work, so that a run with nothing to do imports no MLflow.

A local store whose size and modification time are those of a receipt still holds what the receipt says; where they
differ, somebody logged or deleted something, and MLflow's client is asked. `register` writes to the store after `track`
and looks for its run, so that its receipt speaks for both.
"""

from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar, TypeVar

from stages.contracts import codec
from stages.core.errors import PipelineError
from stages.core.shown import masked
from stages.tracking.registry import Registry
from stages.tracking.store import Stamp, connect, database, digest, gone, stamp

TRACK = Path("reports/track.json")
REGISTER = Path("reports/register.json")
STORE = Path("reports/store.json")


@dataclass(frozen=True)
class TrackReceipt:
    """The pipeline run of these results; `key` is the digest of parameters and results.

    `store` is what reports/store.json had for this stage: it stays there until the store changes, as DVC compares it.
    """

    SCHEMA: ClassVar[int] = 1

    key: str
    uri: str
    run: str
    database: Stamp | None
    store: str | None = None


@dataclass(frozen=True)
class RegisterReceipt:
    """The champion of a choice; without one, how the choice ended. `run`: the pipeline run that the store had.

    `store` is as in TrackReceipt.
    """

    SCHEMA: ClassVar[int] = 1

    outcome: str
    uri: str
    key: str | None = None
    run: str | None = None
    name: str | None = None
    version: str | None = None
    variant: str | None = None
    database: Stamp | None = None
    store: str | None = None


@dataclass(frozen=True)
class StoreState:
    """By stage a value that stays while the store is as that stage left it: DVC runs the stage again if not."""

    SCHEMA: ClassVar[int] = 1

    track: str | None = None
    register: str | None = None


Receipt = TypeVar("Receipt", TrackReceipt, RegisterReceipt)


def read(kind: type[Receipt], path: Path) -> Receipt | None:
    """A damaged receipt is none."""
    with suppress(PipelineError):
        return codec.read(kind, path)
    return None


def champion() -> str | None:
    """The variant that the registry has as its champion, as `register` left it."""
    receipt = read(RegisterReceipt, REGISTER)
    return receipt.variant if receipt else None


def keep(receipt: Receipt, path: Path) -> None:
    """Write the receipt, unless it is the one that lies there."""
    known = codec.read(StoreState, STORE) if STORE.exists() else StoreState()
    receipt = replace(receipt, store=known.track if path == TRACK else known.register)
    if receipt != read(type(receipt), path):
        codec.write(receipt, path)


def state(uri: str) -> StoreState:
    """What DVC is to know of the store at `uri`, which no file of the checkout tells."""
    return StoreState(
        track=_known(uri, read(TrackReceipt, TRACK)), register=_known(uri, read(RegisterReceipt, REGISTER))
    )


def _known(uri: str, receipt: TrackReceipt | RegisterReceipt | None) -> str | None:
    """What the receipt has, or a digest of what the store is now, if that is not what the receipt has seen."""
    if receipt is None or _as_left(uri, receipt):
        return receipt.store if receipt else None
    now = stamp(uri)
    return digest([masked(uri), asdict(now) if now else None])


def _as_left(uri: str, receipt: TrackReceipt | RegisterReceipt) -> bool:
    if isinstance(receipt, RegisterReceipt) and receipt.key is None:
        return True  # it left nothing there
    if receipt.uri != masked(uri):
        return False
    if database(uri) is None:  # a server tells nothing without MLflow's client
        return bool(receipt.run and holds_run(uri, receipt.run))
    return _holds(receipt, stamp(uri))


def _holds(receipt: TrackReceipt | RegisterReceipt, now: Stamp | None) -> bool:
    """Whether a database in that state is as the receipt has it, or as `register` left it after `track`."""
    seen = isinstance(receipt, TrackReceipt) and _seen_by_register(receipt, now)
    return now is not None and (receipt.database == now or seen)


def tracked(key: str, uri: str) -> TrackReceipt | None:
    """The receipt of these results in this store, as of now; None if the store does not have the run."""
    receipt = read(TrackReceipt, TRACK)
    if receipt is None or (receipt.key, receipt.uri) != (key, masked(uri)) or gone(uri):
        return None
    now = stamp(uri)
    if _holds(receipt, now):
        return receipt
    return replace(receipt, database=now) if holds_run(uri, receipt.run) else None


def _seen_by_register(receipt: TrackReceipt, now: Stamp | None) -> bool:
    last = read(RegisterReceipt, REGISTER)
    seen = last and (last.uri, last.run, last.database)
    return now is not None and seen == (receipt.uri, receipt.run, now)


def registered(key: str, uri: str, run: str) -> RegisterReceipt | None:
    """The receipt of this choice in this store, as of now, for the pipeline run that `track` logged.

    None if there is no champion: which one, a person may have decided since.
    """
    receipt = read(RegisterReceipt, REGISTER)
    if receipt is None or (receipt.key, receipt.uri) != (key, masked(uri)) or receipt.name is None or gone(uri):
        return None
    now = stamp(uri)
    if now is not None and receipt.database == now:
        return receipt
    if not _has_champion(uri, receipt.name):
        return None
    return replace(receipt, database=now, run=run if holds_run(uri, run) else None)


def holds_run(uri: str, run: str) -> bool:
    """Whether MLflow's client finds that run, and nobody deleted it."""
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):
        return bool(connect(uri).get_run(run).info.lifecycle_stage == "active")
    return False


def _has_champion(uri: str, name: str) -> bool:
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):
        return Registry(connect(uri), name).champion() is not None
    return False
