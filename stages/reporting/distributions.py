"""The chart of how single calls spread around their median."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stages.contracts.row import Row
from stages.contracts.timing import Repeats, Series
from stages.reporting import charts, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
# Of one variant, in pixels.
HEIGHT = 46


@dataclass(frozen=True)
class Spread:
    """Milliseconds of all calls of a variant: how many, and their percentiles 1, 25, 50, 75 and 99."""

    name: str
    colour: str
    calls: Floats
    first: float
    low: float
    middle: float
    high: float
    last: float

    @property
    def words(self) -> str:
        """All its figures."""
        return (
            f"{self.name}: {len(self.calls):,} calls, median {self.middle:.2f} ms, half of them from {self.low:.2f} "
            f"to {self.high:.2f} ms, 98 % from {self.first:.2f} to {self.last:.2f} ms"
        )


def spreads(rows: Sequence[Row], timed: Mapping[Series, Repeats], batch_size: int) -> list[Spread]:
    """Those of the variants that ran, by the calls of `run` alone."""
    shown = []
    for name, look in charts.looks(rows).items():
        repeats = timed.get(Series(name, batch_size, "latency"))
        if repeats:
            calls = np.concatenate([block for repeat in repeats for block in repeat])
            shown.append(Spread(name, look.colour, calls, *np.percentile(calls, (1, 25, 50, 75, 99)).tolist()))
    return shown


def distributions(shown: Sequence[Spread], batch_size: int) -> str | None:
    """How the timed calls spread, one variant a line; None where none was timed."""
    if not shown:
        return None

    def plot(figure: "Figure") -> None:
        axes, names = figure.subplots(), [spread.name for spread in shown]
        for place, spread in enumerate(shown):
            _violin(axes, place, spread)
            _box(axes, place, spread)
        svg.names_on_y(axes, names)
        axes.set_yticks(range(len(names)), names, va="bottom")
        for place, spread in enumerate(shown):
            # A second line of the label itself would be laid out for matplotlib's font, not the page's.
            axes.annotate(
                f"{spread.middle:.2f} ms",
                (0, place),
                (-4, -12),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                ha="right",
            )
        axes.set(xlabel=f"latency, batch {batch_size} (ms, log scale)")
        svg.log_axis(axes, "x")

    title = f"Distribution of the latency of single calls at batch {batch_size}"
    return svg.draw("distributions", title, [spread.words for spread in shown], 60 + HEIGHT * len(shown), plot)


def _violin(axes: "Axes", place: int, spread: Spread) -> None:
    """The density of the logarithms, without the slowest and fastest thousandth, which would stretch the axis."""
    logs = np.log(spread.calls)
    first, last = np.percentile(logs, (0.1, 99.9))
    low, high = np.percentile(logs, (25, 75))
    # Silverman's rule of thumb.
    bandwidth = 0.9 * min(np.std(logs), (high - low) / 1.34) * len(logs) ** -0.2
    if bandwidth <= 0:
        return
    edges = np.linspace(first - 3 * bandwidth, last + 3 * bandwidth, 121)
    counts, _ = np.histogram(logs, edges)
    middles = (edges[1:] + edges[:-1]) / 2
    kernel = np.exp(-0.5 * ((middles[:, None] - middles) / bandwidth) ** 2)
    density = kernel @ counts
    height = 0.4 * density / density.max()
    colour = spread.colour
    axes.fill_between(np.exp(middles), place - height, place + height, facecolor=colour, alpha=0.45, edgecolor=colour)


def _box(axes: "Axes", place: int, spread: Spread) -> None:
    """A thin line over 98 % of the calls, a thick one over half of them, a dot at the median."""
    axes.hlines(place, spread.first, spread.last, color=svg.INK, linewidth=1)
    axes.hlines(place, spread.low, spread.high, color=svg.INK, linewidth=5)
    edge = svg.INK
    axes.plot(spread.middle, place, marker="o", color=svg.PAPER, markeredgecolor=edge, markersize=6, markeredgewidth=1)
