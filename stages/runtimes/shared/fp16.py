"""Weights and values between layers that FP16 cannot hold: a loss of range that one look at them tells."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...contracts.conversion import ConvertJob, Scalar
from ...core.errors import PipelineError
from ...data import batches
from . import tensors
from .tensors import Flow, Weights

LARGEST = float(np.finfo(np.float16).max)
# Of the weights of a layer: fewer that become 0 change nothing that could be measured.
FEW = 1e-3
# Of the calibration set, whose values between layers are looked at.
IMAGES = 16


class Loss(NamedTuple):
    """What FP16 takes from weights that it can hold."""

    facts: dict[str, Scalar]
    notes: tuple[str, ...] = ()


def of(precision: str, read: Callable[[], Iterable[Weights]]) -> Loss:
    """Of a variant's weights, which are read only where the precision is FP16."""
    return check(read()) if precision == "fp16" else Loss({})


def between_layers(precision: str, job: ConvertJob, flow: Callable[[], Flow]) -> dict[str, Scalar]:
    """The largest value between layers on calibration images, where they compute in FP16; PipelineError if beyond it.

    One that FP32 has no number for either is no question of FP16.
    """
    if precision != "fp16":
        return {}
    images = batches.some(Path(job.calibration), job.preprocessing, IMAGES)
    found = tensors.largest(flow(), images)
    if beyond := [name for name, most in found.items() if most > LARGEST]:
        first = beyond[0]
        raise PipelineError(
            f"{tensors.layer(first)} gives values up to {found[first]:,.0f} on {len(images)} calibration images "
            f"(tensor {first}), beyond {LARGEST:,.0f}, the largest number of FP16: leave FP16 out of `variants`, or "
            "scale these values down",
            code="fp16-activations",
            layer=tensors.layer(first),
            tensors=beyond,
            largest=found[first],
        )
    return {"fp16_largest_value": max(found.values(), default=0.0), "fp16_images": len(images)}


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
    return Loss({"fp16_weights_to_0": sum(count for _, count in zeros)}, _note(zeros))


def _note(zeros: list[tuple[Weights, int]]) -> tuple[str, ...]:
    """A sentence about the layers of which more than a few weights become 0, which names the one that loses most."""
    many = [(one, count) for one, count in zeros if count > FEW * one.values.size]
    if not many:
        return ()
    worst, most = max(many, key=lambda pair: pair[1] / pair[0].values.size)
    others = f", the largest share in {len(many)} layers that lose some" if len(many) > 1 else ""
    return (f"rounds {most:,} of {worst.values.size:,} weights of {worst.layer} to 0{others}",)


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
