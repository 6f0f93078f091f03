"""The chart of losses by epoch, a colour for each training."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from stages.reporting import svg
from stages.reporting.svg import Look
from stages.training.curves import Epoch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curve = Sequence[Epoch]


def best(curve: Curve) -> int:
    """The place of the epoch with the lowest loss on the validation images."""
    return min(range(len(curve)), key=lambda place: curve[place]["val_loss"])


def chart(curves: Mapping[str, Curve]) -> str | None:
    """Loss by epoch; None where nothing was trained.

    Solid on the validation images, with the best epoch marked; dashed on the training images, which epoch 0 has no
    loss on.
    """
    if not curves:
        return None

    def plot(figure: "Figure") -> None:
        from matplotlib.ticker import MaxNLocator

        axes = figure.subplots()
        for place, (name, curve) in enumerate(curves.items()):
            epochs, look = [epoch["epoch"] for epoch in curve], Look.of(place)
            losses = [epoch.get("loss", np.nan) for epoch in curve]
            axes.plot(epochs, losses, color=look.colour, linestyle="--", linewidth=1)
            losses, mark = [epoch["val_loss"] for epoch in curve], [best(curve)]
            axes.plot(epochs, losses, label=name, markevery=mark, color=look.colour, marker=look.marker)
        axes.set(xlabel="epoch", ylabel="loss (log scale)")
        axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
        svg.log_axis(axes, "y")
        svg.legend(figure)

    height = 270 + svg.legend_height(curves)
    words = [f"{name}: {_words(curve)}" for name, curve in curves.items()]
    return svg.draw("training", "Loss by epoch of each training", words, height, plot)


def _words(curve: Curve) -> str:
    lowest = curve[best(curve)]
    return (
        f"loss on the validation images {curve[0]['val_loss']:.3g} after epoch {curve[0]['epoch']:.0f}, "
        f"lowest {lowest['val_loss']:.3g} after epoch {lowest['epoch']:.0f} of {curve[-1]['epoch']:.0f}"
    )
