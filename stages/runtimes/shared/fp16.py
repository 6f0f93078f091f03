"""Weights that FP16 cannot hold: a loss of range that the format decides, and that one look at them tells."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...contracts.conversion import Scalar
from ...core.errors import PipelineError

LARGEST = float(np.finfo(np.float16).max)
# Of the weights of a layer: fewer that become 0 change nothing that could be measured.
FEW = 1e-3


class Weights(NamedTuple):
    """Those of one tensor [any shape]."""

    tensor: str
    values: npt.NDArray[Any]

    @property
    def layer(self) -> str:
        """Its name is that of the layer, and in the layer."""
        name = self.tensor.partition(":")[0]
        return name.rpartition("/")[0] or name


class Loss(NamedTuple):
    """What FP16 takes from weights that it can hold."""

    facts: dict[str, Scalar]
    notes: tuple[str, ...] = ()


def of(precision: str, read: Callable[[], Iterable[Weights]]) -> Loss:
    """Of a variant's weights, which are read only where the precision is FP16."""
    return check(read()) if precision == "fp16" else Loss({})


def check(weights: Iterable[Weights]) -> Loss:
    """PipelineError for weights that FP16 cannot hold.

    IEEE 754 binary16 ends at 65,504, and below 2**-25 rounds to 0.
    """
    found = [*weights]
    if lost := [told for one in found if (told := _beyond(one))]:
        raise PipelineError(
            f"{'; '.join(lost)}: leave FP16 out of `variants`, or scale these weights down",
            code="fp16-range",
            layers=lost,
        )
    zeros = [(one, _zeros(one.values)) for one in found]
    notes = (
        f"rounds {count:,} of {one.values.size:,} weights of {one.layer} to 0"
        for one, count in zeros
        if count > FEW * one.values.size
    )
    return Loss({"fp16_weights_to_0": sum(count for _, count in zeros)}, tuple(notes))


def _beyond(weights: Weights) -> str | None:
    """What a person is told of weights that are no numbers, or larger than the largest."""
    values = weights.values
    for count, what in (
        (int((~np.isfinite(values)).sum()), "NaN or infinite"),
        (int((np.abs(values) > LARGEST).sum()), f"beyond {LARGEST:,.0f}"),
    ):
        if count:
            return f"{count:,} of {values.size:,} weights of {weights.layer} {'is' if count == 1 else 'are'} {what}"
    return None


def _zeros(values: npt.NDArray[Any]) -> int:
    return int(((values.astype(np.float16) == 0) & (values != 0)).sum())
