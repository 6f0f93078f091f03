"""What the pipeline and a runtime's worker say to each other: one JSON object a line; arrays travel as files."""

from dataclasses import dataclass
from typing import Literal

import msgspec

from . import codec
from .conversion import Proof, Scalar
from .preprocessing import Preprocessing

PROTOCOL = 1


class Hello(msgspec.Struct, frozen=True):
    """The worker's first line."""

    protocol: int
    runtime: str
    python: str
    pid: int


class Request(msgspec.Struct, frozen=True):
    """One thing to do; `arguments` are decoded by the type that the verb takes."""

    id: int
    verb: str
    arguments: msgspec.Raw


class Failure(msgspec.Struct, frozen=True):
    """`refused`: a sentence for the user; `unexpected`: an error of ours, whose traceback is in the worker's log.

    `code` is that of the PipelineError.
    """

    kind: Literal["refused", "unexpected"]
    message: str
    code: str = ""


class Answer(msgspec.Struct, frozen=True):
    """The answer to the request of that id."""

    id: int
    ok: bool
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: Failure | None = None


@dataclass(frozen=True)
class Converted:
    """Seconds that a conversion took in its process, imports included, its proof, and all options it had."""

    seconds: float
    proof: Proof
    options: dict[str, Scalar]


@dataclass(frozen=True)
class LoadOrder:
    """A variant's folder, with so many CPU threads (None: all cores); `preprocessing` tells the shape of its input."""

    folder: str
    threads: int | None
    preprocessing: Preprocessing


@dataclass(frozen=True)
class InferOrder:
    """Files of arrays: images float32 [n, height, width, channels] to read, probabilities [n, classes] to write."""

    images: str
    target: str


@dataclass(frozen=True)
class Loaded:
    """Milliseconds of loading, the import of the runtime's library included, as a fresh process pays for both."""

    load_ms: float


@dataclass(frozen=True)
class PredictOrder:
    """Classify the images of a labelled folder in the order of its labels.csv, and write the table `target`."""

    images: str
    target: str
    batch_size: int


@dataclass(frozen=True)
class ProbeOrder:
    """Classify every `step`th image of a labelled folder, prepared in each of these ways."""

    images: str
    step: int
    batch_size: int
    ways: dict[str, Preprocessing]


@dataclass(frozen=True)
class Probed:
    """By way how right the model is on each image, from 0 to 1."""

    top1: dict[str, list[float]]


@dataclass(frozen=True)
class BatchOrder:
    """Something to do at a batch size."""

    batch_size: int


@dataclass(frozen=True)
class BlockOrder:
    """So many timed calls by term."""

    batch_size: int
    calls: dict[str, int]


@dataclass(frozen=True)
class Block:
    """Milliseconds by term or part."""

    ms: dict[str, list[float]]


def raw(value: object, name: str) -> msgspec.Raw:
    """Arguments or a result as JSON; PipelineError for NaN and infinity, which msgspec would write as null."""
    return msgspec.Raw(msgspec.json.encode(codec.plain(value, name)))
