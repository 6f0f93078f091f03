"""Compares the answers of two forms of a model, which must be able to differ."""

from collections.abc import Callable

from stages.contracts import closeness
from stages.contracts.closeness import Gap
from stages.contracts.preprocessing import Floats
from stages.core.errors import PipelineError
from stages.data.examples import Examples

Answers = Callable[[Floats], Floats]


def compare(reference: Answers, other: Answers, shown: Examples, most: float) -> Gap:
    """How far the other is from the reference on these images."""
    return closeness.between(reference(shown.images), other(shown.images), shown.words, most)


def refuse_alike(name: str, answers: Floats, shown: Examples) -> None:
    """PipelineError if no image is told from another: whatever is compared would be equal."""
    if closeness.alike(answers):
        raise PipelineError(
            f"{name} answers {shown.words} alike, so that no comparison of its forms would tell anything: check "
            "custom.scale, mean and std, and give calibration.source images of several classes",
            code="answers-alike",
            key="custom.scale",
            model=name,
        )
