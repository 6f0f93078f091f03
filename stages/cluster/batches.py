"""Batches of evaluation images on their way through a cluster, as Ray Data's rows, and the predictions made of them."""

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TypedDict

from stages.contracts import labels
from stages.contracts.images import EVALUATION
from stages.contracts.predictions import Prediction
from stages.core.errors import PipelineError

TABLE = EVALUATION / "labels.csv"


class Batch(TypedDict):
    """Images to decode, with the first digits of the digest of each file."""

    index: int
    files: list[str]
    digests: list[str]
    labels: list[int]


class Decoded(TypedDict):
    """Pixels before they are scaled, mostly a quarter of the bytes; or what is wrong with an image."""

    index: int
    labels: list[int]
    pixels: bytes
    error: str


class Answered(TypedDict):
    """What is answered on each image, as JSON, which keeps every digit; or what failed."""

    index: int
    answers: str
    error: str


def of_evaluation(table: Sequence[tuple[str, int]], size: int) -> Iterator[Batch]:
    """All evaluation images, so many at a time."""
    digests = labels.read_digests(TABLE)
    for index, start in enumerate(range(0, len(table), size)):
        names, classes = zip(*table[start : start + size], strict=True)
        yield {
            "index": index,
            "files": [*names],
            "digests": list(itertools.islice(digests, size)),
            "labels": [*classes],
        }


def in_order(rows: Iterable[Answered], table: Sequence[tuple[str, int]], size: int) -> Iterator[Prediction]:
    """Predictions of all images from batches that come in any order; PipelineError unless each is there once.

    Only what came too early waits in memory.
    """
    early: dict[int, str] = {}
    due = 0
    for row in rows:
        if row["error"]:
            raise PipelineError(row["error"], code="batch-failed", batch=row["index"])
        if row["index"] < due or row["index"] in early:
            raise _wrong(row["index"], "was answered twice")
        early[row["index"]] = row["answers"]
        while due in early:
            yield from _predictions(due, early.pop(due), table[due * size : (due + 1) * size])
            due += 1
    if early or due * size < len(table):
        raise _wrong(due, "was never answered")


def _predictions(batch: int, answers: str, images: Sequence[tuple[str, int]]) -> Iterator[Prediction]:
    parsed = json.loads(answers)
    if len(parsed) != len(images):
        raise _wrong(batch, f"has {len(parsed)} of {len(images)} answers")
    for image, answer in zip(images, parsed, strict=True):
        yield Prediction(*image, *answer)


def _wrong(batch: int, what: str) -> PipelineError:
    return PipelineError(f"batch {batch} {what}: run the same command again", code="batch-answers", batch=batch)
