"""Prepares a SavedModel for TF-TRT, which cuts a graph at every operation that it does not know."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...contracts.closeness import HALF, REBUILT, distance
from ...contracts.conversion import ConvertJob, Scalar
from ...contracts.preprocessing import Floats
from ...core import frozen
from ...core.errors import PipelineError
from ...core.tensorflow import has_half
from ...data import batches
from . import rewrites

if TYPE_CHECKING:
    from tensorflow.core.framework.graph_pb2 import GraphDef
    from tensorflow.types.experimental import ConcreteFunction

# On which the two are compared: of the calibration set, and of noise.
IMAGES, NOISE = 12, 4


class Prepared(NamedTuple):
    """The folder of a SavedModel, and what was done to it."""

    folder: Path
    facts: dict[str, Scalar]


@contextmanager
def prepared(tf: ModuleType, job: ConvertJob) -> Iterator[Prepared]:
    """A job's SavedModel with fewer operations that TF-TRT does not know, for as long as the block lasts.

    It is the SavedModel itself where nothing of it can be written otherwise; PipelineError where the answers differ by
    more than rounding.
    """
    with tempfile.TemporaryDirectory() as folder:
        yield _prepare(tf, job, Path(folder))


def _prepare(tf: ModuleType, job: ConvertJob, folder: Path) -> Prepared:
    model = tf.saved_model.load(job.saved_model)  # its variables live as long as this
    signature = model.signatures["serving_default"]
    function, done = rewritten(tf, signature)
    if not done:
        return Prepared(Path(job.saved_model), {})
    frozen.save(tf, function, signature, folder)
    counts = {f"prepared.{name}": count for name, count in sorted(done.items())}
    return Prepared(folder, {**counts, **compare(tf, job, signature, folder)})


def rewritten(tf: ModuleType, signature: "ConcreteFunction") -> "tuple[ConcreteFunction, Counter[str]]":
    """A signature frozen and written otherwise; how many of each operation were."""
    closed = frozen.freeze(signature)
    opened, calls = frozen.inline(closed)
    graph, done = _rewritten(tf, opened)
    # Left in their calls, such convolutions cost an engine's end each, and inlined all engines.
    if calls and rewrites.has_other_groups(tf, graph):
        graph, done = _rewritten(tf, closed)
    elif calls:
        done["calls"] = calls
    return frozen.of_graph(graph, closed), done


def _rewritten(tf: ModuleType, function: "ConcreteFunction") -> "tuple[GraphDef, Counter[str]]":
    graph = function.graph.as_graph_def()
    return graph, rewrites.rewrite(tf, graph)


def compare(tf: ModuleType, job: ConvertJob, signature: "ConcreteFunction", folder: Path) -> dict[str, Scalar]:
    """How far the answers of the SavedModel in `folder` are from those of `signature`; PipelineError if too far."""
    images = np.concatenate(
        [batches.some(Path(job.calibration), job.preprocessing, IMAGES), job.preprocessing.noise(NOISE)]
    )
    other = tf.saved_model.load(str(folder))
    gap = distance(_answers(tf, signature, images), _answers(tf, other.signatures["serving_default"], images))
    most = HALF[0] if has_half(signature.graph) else REBUILT
    if gap > most:
        raise PipelineError(
            f"the graph that is prepared for TF-TRT answers otherwise than the SavedModel: {gap:.2g} away on "
            f"{len(images)} images (allowed: {most}); leave the tftrt variants out of `variants`, and report it",
            code="tftrt-prepared-differs",
            difference=gap,
        )
    return {"prepared_difference": gap, "prepared_images": len(images)}


def _answers(tf: ModuleType, signature: "ConcreteFunction", images: Floats) -> Floats:
    (answers,) = signature(images=tf.constant(images)).values()
    found: Floats = answers.numpy()
    return found
