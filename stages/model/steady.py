"""Asks a classifier twice, alone, in a batch and in another order: one answer to an image, or no figure means much."""

import re
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from stages.contracts.closeness import distance
from stages.contracts.preprocessing import Floats
from stages.core.errors import PipelineError
from stages.core.tensorflow import nodes
from stages.model.classifier import Classifier

# Of a probability. Asked the same, a model differs by rounding where threads add in another order. In batches of
# another size its matrices are taken apart otherwise, on a GPU in TF32, and FP16 models round to a thousandth.
SAME_CALL, SAME_IMAGE = 1e-3, 2e-2
REMEDY = "call the model with training=False and save it again"
# Operations that draw numbers, and what layers call the scopes in which they do.
RANDOM = re.compile(r"(Stateless|Stateful)?(Random|Truncated|Multinomial)\w*|StatefulUniform\w*|StatelessMultinomial")
INSIDE = re.compile(
    r"((stateful|stateless|random|truncated|multinomial)_?)+(uniform|normal|dropout)\w*|cond.*|while.*", re.I
)


def refuse(tf: ModuleType, name: str, model: Classifier, images: Floats) -> None:
    """PipelineError for a model whose answers are drawn by lot, or depend on the other images of a batch."""
    answer = tf.function(model.call).get_concrete_function(
        tf.TensorSpec([None, *model.preprocessing.shape], tf.float32)
    )
    first = _asked(tf, answer, images)
    if (gap := distance(first, _asked(tf, answer, images))) > SAME_CALL:
        raise _random(name, gap, layers(answer.graph))
    alone = np.concatenate([_asked(tf, answer, images[i : i + 1]) for i in range(len(images))])
    turned = _asked(tf, answer, images[::-1])[::-1]
    if (gap := max(distance(first, alone), distance(first, turned))) > SAME_IMAGE:
        raise PipelineError(
            f"{name}: answers depend on the other images of the batch (up to {gap:.2g} away): BatchNormalization in "
            f"training mode? {REMEDY}",
            code="model-batch-mates",
            model=name,
            difference=gap,
        )


def layers(graph: Any) -> list[str]:
    """The parts of a graph that draw numbers, as its scopes call them."""
    drawing = (node.name for node in nodes(graph) if RANDOM.fullmatch(node.op))
    return sorted({scope for scope in _scopes(drawing) if scope})


def _scopes(names: Iterable[str]) -> Iterator[str]:
    """The innermost scope of each node that is no part of drawing itself."""
    for name in names:
        *scopes, _ = name.split("/")
        yield next((scope for scope in reversed(scopes) if not INSIDE.fullmatch(scope)), "")


def _asked(tf: ModuleType, answer: Any, images: Floats) -> Floats:
    answers: Floats = answer(tf.constant(images)).numpy()
    return answers


def _random(name: str, gap: float, drawn: list[str]) -> PipelineError:
    which = f" ({', '.join(drawn)})" if drawn else ""
    return PipelineError(
        f"{name} answers at random: asked twice for the same images it is up to {gap:.2g} away from itself, as Dropout "
        f"and random layers{which} are in training mode: {REMEDY}",
        code="model-random",
        model=name,
        difference=gap,
        layers=drawn,
    )
