"""What a worker of a cluster does: the work of a stage, in a folder of its own beside whatever else its node runs."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pynvml

from stages.cluster import adopt, ray
from stages.cluster.batches import Answered, Batch, Decoded
from stages.contracts import codec
from stages.contracts.conversion import folder as model_folder
from stages.contracts.conversion import record
from stages.contracts.environment import ENVIRONMENT, Environment
from stages.contracts.images import EVALUATION
from stages.contracts.preprocessing import Pixels, Preprocessing
from stages.contracts.timing import SAMPLES, TIMING
from stages.contracts.variant import Variant
from stages.core import gpu
from stages.core.errors import PipelineError, describe, reason
from stages.data import decode, fit
from stages.measurement import conversion, interleave
from stages.params.measurement import BenchmarkParams
from stages.runtimes import elsewhere, environments, loading, predict, repeated
from stages.runtimes.contract import Session

# Files that a process reads at once.
READERS = 16


@contextmanager
def workplace(environment: Environment, *contents: Mapping[str, bytes]) -> Iterator[None]:
    """A new current folder with these files in it, on the GPU that this environment was described on."""
    before = Path.cwd()
    ray.forget_threads()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            same_gpu(environment)
            codec.write(environment, ENVIRONMENT)
            for content in contents:
                adopt.unpack(content, Path())
            yield
        finally:
            os.chdir(before)


def same_gpu(environment: Environment) -> None:
    """PipelineError if this is another GPU than the one described: its results would not compare."""
    try:
        with gpu.session() as gpus:
            here = [one.describe().name for one in gpus][:1]
    except pynvml.NVMLError:
        here = []
    there = [described.name for described in environment.machine.gpus][:1]
    if here != there:
        raise PipelineError(
            f"a task ran on {_model(here)}, and the environment was described on {_model(there)}, whose results do not "
            "compare: set execution.gpu_model to one GPU model of the cluster",
            code="another-gpu",
            key="execution.gpu_model",
        )


def _model(names: Sequence[str]) -> str:
    return names[0] if names else "a node without a GPU"


def convert(
    name: str, setting: conversion.Setting, environment: Environment, inputs: Mapping[str, bytes]
) -> tuple[str | None, dict[str, bytes]]:
    """Why the conversion failed, if it did, and all that the stage `convert` writes."""
    with workplace(environment, inputs):
        status = conversion.run(name, setting)
        written = adopt.pack(Path(), str(model_folder(name)), str(record(name, "")))
        return status.reason if status.state == "failed" else None, written


def benchmark(
    names: Sequence[str], setting: BenchmarkParams, models: Sequence[Any], environment: Environment
) -> tuple[list[str], dict[str, bytes]]:
    """Which variants could not be timed, and all that the stage `benchmark` writes."""
    with workplace(environment, *map(ray.fetch, models)):
        failed = interleave.failures(interleave.run(names, setting))
        return failed, adopt.pack(Path(), str(TIMING), str(SAMPLES))


def decode_batch(folder: str, preprocessing: Preprocessing, batch: Batch) -> Decoded:
    """The pixels of a batch; or what is wrong with an image, as the local engine would tell it."""
    try:
        pixels, error = _pixels(folder, preprocessing, batch), ""
    except Exception as failure:
        pixels, error = b"", reason(failure)
    return {"index": batch["index"], "labels": batch["labels"], "pixels": pixels, "error": error}


def _pixels(folder: str, preprocessing: Preprocessing, batch: Batch) -> bytes:
    contents = readers().map(partial(_read, folder), batch["files"], batch["digests"])
    images = [
        fit.pixels(decode.decode(EVALUATION / name, content=content, upright=preprocessing.orientation), preprocessing)
        for name, content in zip(batch["files"], contents, strict=True)
    ]
    return np.stack(images).tobytes()


@cache
def readers() -> ThreadPoolExecutor:
    """An object store answers after many milliseconds, but many at a time."""
    return ThreadPoolExecutor(READERS)


def _read(folder: str, name: str, digest: str) -> bytes:
    """The file, if it is the one that the driver has under this name; PipelineError if not."""
    place, root = place_of(folder)
    try:
        with place.open_input_stream(f"{root}/{name}") as file:
            content = bytes(file.read())
    except FileNotFoundError:
        raise _unreadable(folder, f"{folder} has no {name} on this node") from None
    except (OSError, ValueError) as error:
        raise _unreadable(folder, f"{folder} cannot be read on a node ({describe(error)})") from None
    if not hashlib.sha256(content).hexdigest().startswith(digest):
        raise PipelineError(
            f"{folder} has another {name} than {EVALUATION}: put these files there again",
            code="another-image",
            file=name,
        )
    return content


def _unreadable(folder: str, reason: str) -> PipelineError:
    return PipelineError(
        f"{reason}: set execution.images to where all nodes find the files of {EVALUATION}",
        code="no-image-on-node",
        key="execution.images",
        folder=folder,
    )


@cache
def place_of(folder: str) -> tuple[Any, str]:
    """The file system of `execution.images` and the path in it; PipelineError if there is no such kind."""
    from pyarrow.fs import FileSystem

    try:
        place, root = FileSystem.from_uri(folder)
    except (ValueError, OSError) as error:
        raise PipelineError(
            f"params.yaml: `execution.images` is {folder} ({error}): it should be a whole path, or an address "
            "such as s3://bucket/photos",
            code="unknown-address",
            key="execution.images",
        ) from None
    return place, root


class Classifier:
    """Holds a loaded model and classifies batches; a row in, a row out."""

    def __init__(self, name: str, model: Any, preprocessing: Preprocessing, environment: Environment) -> None:
        """`model` is what `Cluster.put` took of its folder."""
        self._workplace = ExitStack()
        self._name = name
        self._model = model
        self._preprocessing = preprocessing
        self._environment = environment
        self._asked_again = False

    def __call__(self, row: Decoded) -> Answered:
        """The best classes of each image; or what failed."""
        answered: Answered = {"index": row["index"], "answers": "[]", "error": row["error"]}
        if row["error"]:
            return answered
        try:
            return {**answered, "answers": self._answers(row["pixels"], row["labels"])}
        except Exception as error:
            return {**answered, "error": reason(error)}

    def _answers(self, pixels: bytes, labels: Sequence[int]) -> str:
        prepared = self._preprocessing
        batch: Pixels = np.frombuffer(pixels, prepared.pixel_type).reshape(-1, *prepared.shape)
        images = prepared.normalize(batch)
        if not self._asked_again:
            repeated.refuse(self._session, images, self._name)
            self._asked_again = True
        return json.dumps(predict.classify(self._session, images, labels))

    @cached_property
    def _session(self) -> Session:
        # For as long as this process lives: a runtime may read on in its files.
        self._workplace.enter_context(workplace(self._environment, ray.fetch(self._model)))
        folder, edition = model_folder(self._name), Variant.parse(self._name).edition
        if environments.lock(edition) is None:
            return loading.load(folder)
        away = elsewhere.Away(edition, folder.absolute(), self._preprocessing)
        self._workplace.callback(away.close)
        return away
