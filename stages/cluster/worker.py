"""What a worker of a cluster does: the work of a stage, in a folder of its own beside whatever else its node runs."""

import hashlib
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pynvml

from stages.cluster import kept, ray
from stages.contracts import paths
from stages.contracts.preprocessing import Preprocessing
from stages.core import files
from stages.core.errors import PipelineError, describe
from stages.core.gpu import session
from stages.data import decode, fit
from stages.measurement import conversion, evaluation, interleave
from stages.params.document import BenchmarkParams, Params
from stages.runtimes import Manifest
from stages.runtimes.contract import Session

# Files that a process reads at once.
READERS = 16

Row = dict[str, Any]
# An environment.json.
Machine = dict[str, Any]


@contextmanager
def workplace(machine: Machine, *contents: Mapping[str, bytes]) -> Iterator[None]:
    """A new current folder with these files in it, on the GPU that this environment was described on."""
    before = Path.cwd()
    # Ray allows a library as many threads as a task has cores by name; models are run as they are on a single machine.
    os.environ.pop("OMP_NUM_THREADS", None)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            same_gpu(machine)
            files.write_json(paths.ENVIRONMENT, machine)
            for content in contents:
                kept.unpack(content, Path())
            yield
        finally:
            os.chdir(before)


def same_gpu(machine: Machine) -> None:
    """PipelineError if this is another GPU than the one described: its results would not compare."""
    try:
        with session() as gpus:
            here = [gpu.describe()["name"] for gpu in gpus][:1]
    except pynvml.NVMLError:
        here = []
    there = [gpu["name"] for gpu in machine["gpus"]][:1]
    if here != there:
        raise PipelineError(
            f"a task ran on {_model(here)}, and the environment was described on {_model(there)}, whose results do not "
            "compare: set execution.gpu_model to one GPU model of the cluster"
        )


def _model(names: Sequence[str]) -> str:
    return names[0] if names else "a node without a GPU"


def convert(
    name: str, setting: Params, machine: Machine, inputs: Mapping[str, bytes]
) -> tuple[str | None, dict[str, bytes]]:
    """Why the conversion failed, if it did, and all that the stage `convert` writes."""
    with workplace(machine, inputs):
        failed = conversion.run(name, setting)
        return failed, kept.pack(Path(), str(paths.model(name)), str(paths.record(name, "")))


def benchmark(
    names: Sequence[str], setting: BenchmarkParams, models: Sequence[Any], machine: Machine
) -> tuple[list[str], dict[str, bytes]]:
    """Which variants could not be timed, and all that the stage `benchmark` writes."""
    with workplace(machine, *map(ray.fetch, models)):
        failed = interleave.run(names, setting)
        return failed, kept.pack(Path(), str(paths.BENCHMARK), str(paths.SAMPLES))


def decode_batch(folder: str, preprocessing: Preprocessing, row: Row) -> Row:
    """The pixels of a batch before they are scaled, a quarter of the bytes; or what is wrong with an image."""
    return {"index": row["index"]} | _caught("pixels", b"", lambda: _pixels(folder, preprocessing, row))


def _pixels(folder: str, preprocessing: Preprocessing, row: Row) -> bytes:
    names = row["files"]
    contents = readers().map(partial(_read, folder), names, row["digests"])
    found = [
        fit.pixels(decode.decode(paths.EVALUATION / name, content=content), preprocessing)
        for name, content in zip(names, contents, strict=True)
    ]
    return np.stack(found).tobytes()


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
        told = f"{folder} has no {name} on this node"
    except (OSError, ValueError) as error:
        told = f"{folder} cannot be read on a node ({describe(error)})"
    else:
        if hashlib.sha256(content).hexdigest().startswith(digest):
            return content
        raise PipelineError(f"{folder} has another {name} than {paths.EVALUATION}: copy these files there again")
    raise PipelineError(f"{told}: set execution.images to where all nodes find the files of {paths.EVALUATION}")


@cache
def place_of(folder: str) -> tuple[Any, str]:
    """The file system of `execution.images` and the path in it; PipelineError if there is no such kind."""
    from pyarrow.fs import FileSystem

    try:
        place, root = FileSystem.from_uri(folder)
    except (ValueError, OSError) as error:
        raise PipelineError(
            f"params.yaml: `execution.images` is {folder} ({error}): it should be a whole path, or an address "
            "such as s3://bucket/photos"
        ) from None
    return place, root


class Classifier:
    """Holds a loaded model and classifies batches; a row in, a row out."""

    def __init__(self, name: str, model: Any, preprocessing: Preprocessing, machine: Machine) -> None:
        """`model` is what `Cluster.put` took of its folder."""
        self._workplace = ExitStack()
        self._name = name
        self._model = model
        self._preprocessing = preprocessing
        self._machine = machine

    def __call__(self, row: Row) -> Row:
        """The best classes of each image and their probabilities, as JSON, which keeps every digit; or what failed."""
        if row["error"]:
            return {"index": row["index"], "answers": "[]", "error": row["error"]}
        return {"index": row["index"]} | _caught("answers", "[]", lambda: self._answers(row["pixels"]))

    def _answers(self, pixels: bytes) -> str:
        batch = np.frombuffer(pixels, np.uint8).reshape(-1, *self._preprocessing.shape)
        return json.dumps(list(evaluation.classify(self._session, self._preprocessing.normalize(batch))))

    @cached_property
    def _session(self) -> Session:
        # For as long as this process lives: a runtime may read on in its files.
        self._workplace.enter_context(workplace(self._machine, ray.fetch(self._model)))
        return Manifest.read(self._name).load()


def _caught(key: str, nothing: Any, compute: Callable[[], Any]) -> Row:
    """A row with what it computes, or with the reason as the local engine would tell it."""
    try:
        return {key: compute(), "error": ""}
    except Exception as error:
        if not isinstance(error, PipelineError):
            traceback.print_exc(file=sys.stderr)
        return {key: nothing, "error": describe(error)}
