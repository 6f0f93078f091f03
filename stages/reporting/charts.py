"""The charts of results: each first as data, one object for what it draws, then as SVG."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from stages.contracts.row import Interval, Latency, Row
from stages.reporting import figures, svg
from stages.reporting.svg import Look

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BAR = 0.55
# Colour and hatch of each part of a variant on disk.
PARTS = {
    "variables": (svg.SERIES[5], ""),
    "graph": (svg.SERIES[1], "////"),
    "engines": (svg.SERIES[3], "xxx"),
    "model": (svg.SERIES[2], "|||"),
    "other": (svg.SERIES[4], "\\\\\\\\"),
}
# The fact of a proof that is the size of a part.
FACTS = {"variables": "variables_bytes", "graph": "graph_bytes", "engines": "engine_bytes"}


@dataclass(frozen=True)
class Point:
    """A variant with its p50 in milliseconds and its top-1 in percent, both with their intervals."""

    name: str
    look: Look
    p50: float
    p50_ci95: Interval
    top1: float
    top1_ci95: tuple[float, float]

    @property
    def words(self) -> str:
        """All its figures."""
        top1, p50 = _ends(self.top1_ci95, 1), _ends(self.p50_ci95, 2)
        return f"{self.name}: top-1 {self.top1:.1f} % {top1}, p50 {self.p50:.2f} ms {p50}"


@dataclass(frozen=True)
class Line:
    """A variant with its latencies by batch size."""

    name: str
    look: Look
    latencies: dict[int, Latency]


def looks(rows: Sequence[Row]) -> dict[str, Look]:
    """Colour and marker of each variant that ran, the same in every chart."""
    return {row.name: Look.of(place) for place, row in enumerate(row for row in rows if row.status.ok)}


def points(rows: Sequence[Row], batch_size: int) -> list[Point]:
    """The variants that have both figures."""
    look, shown = looks(rows), []
    for row in rows:
        timed = figures.latency(row, batch_size)
        if row.status.ok and timed and row.accuracy:
            top1, (low, high) = row.accuracy.top1.value, row.accuracy.top1.ci95
            ends = (100 * low, 100 * high)
            shown.append(Point(row.name, look[row.name], timed.p50_ms, timed.p50_ci95_ms, 100 * top1, ends))
    return shown


def accuracy(rows: Sequence[Row], batch_size: int, pareto: Sequence[str], words: Mapping[str, str]) -> str | None:
    """Top-1 against p50 at one batch size, both with their intervals; None where no variant has both.

    `words` are written beside the points of the variants they belong to.
    """
    shown = points(rows, batch_size)
    if not shown:
        return None

    def plot(figure: "Figure") -> None:
        axes = figure.subplots()
        for point in shown:
            axes.errorbar(
                point.p50,
                point.top1,
                xerr=svg.error_bar(point.p50, point.p50_ci95),
                yerr=svg.error_bar(point.top1, point.top1_ci95),
                linestyle="",
                label=point.name,
                zorder=4 if point.name in words else 3,
                color=point.look.colour,
                marker=point.look.marker,
            )
        front = pareto_line([(point.p50, point.top1) for point in shown if point.name in pareto])
        if len(front) > 1:
            axes.plot(*zip(*front, strict=True), color=svg.MUTED, linestyle="--", label=svg.PARETO)
        for point in shown:
            if point.name in words:
                place = (point.p50, point.top1)
                axes.annotate(words[point.name], place, (9, 9), textcoords="offset points", weight="bold")
        axes.set(xlabel=f"p50 latency, batch {batch_size} (ms, log scale)", ylabel="top-1 (%)")
        svg.log_axis(axes, "x")
        svg.legend(figure)

    title = f"Top-1 accuracy against p50 latency at batch {batch_size}, with 95 % intervals"
    height = 310 + svg.legend_height([point.name for point in shown])
    return svg.draw("accuracy", title, [point.words for point in shown], height, plot)


def pareto_line(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (latency, accuracy) those that no faster one equals, from the fastest on."""
    front: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    return front


def latency_by_batch(rows: Sequence[Row]) -> str | None:
    """p50 with its interval at each batch size; None where nothing was timed."""
    return _by_batch(rows, "p50_ms", "p50 latency by batch size", "p50 latency (ms, log scale)", "{:.2f} ms")


def throughput_by_batch(rows: Sequence[Row]) -> str | None:
    """Images per second at each batch size; None where nothing was timed."""
    return _by_batch(rows, "throughput_ips", "Throughput by batch size", "images/s (log scale)", "{:,.1f} images/s")


def lines(rows: Sequence[Row]) -> list[Line]:
    """The variants that ran."""
    look = looks(rows)
    timed = {row.name: {speed.batch_size: speed.latency for speed in row.speeds} for row in rows if row.status.ok}
    return [Line(name, look[name], latencies) for name, latencies in timed.items() if latencies]


def _by_batch(
    rows: Sequence[Row], key: Literal["p50_ms", "throughput_ips"], title: str, label: str, unit: str
) -> str | None:
    shown = lines(rows)
    if not shown:
        return None

    def plot(figure: "Figure") -> None:
        axes = figure.subplots()
        for line in shown:
            values = [getattr(timed, key) for timed in line.latencies.values()]
            ends = [timed.p50_ci95_ms if key == "p50_ms" else None for timed in line.latencies.values()]
            bars = [svg.error_bar(value, pair) for value, pair in zip(values, ends, strict=True)]
            look, reach = line.look, np.concatenate(bars, axis=1)
            sizes = list(line.latencies)
            axes.errorbar(sizes, values, yerr=reach, label=line.name, color=look.colour, marker=look.marker)
        axes.set(xlabel="batch size (images, log scale)", ylabel=label, xscale="log")
        ticks = sorted({size for line in shown for size in line.latencies})
        axes.set_xticks(ticks, [str(size) for size in ticks])
        axes.minorticks_off()
        svg.log_axis(axes, "y")
        svg.legend(figure)

    words = [
        f"{line.name}: "
        + ", ".join(f"{unit.format(getattr(timed, key))} at batch {size}" for size, timed in line.latencies.items())
        for line in shown
    ]
    height = 270 + svg.legend_height([line.name for line in shown])
    return svg.draw(f"batch-{key.split('_')[0]}", title, words, height, plot)


def parts(row: Row) -> dict[str, int]:
    """Bytes of a variant by part: where its proof tells none, the model is one."""
    size, proof = row.size_bytes or 0, row.conversion.proof if row.conversion else None
    facts = {name: proof.facts.get(fact) for name, fact in FACTS.items()} if proof else {}
    known = {name: value for name, value in facts.items() if isinstance(value, int)}
    if not known:
        return {"model": size}
    return {name: value for name, value in (known | {"other": size - sum(known.values())}).items() if value > 0}


def size_by_part(rows: Sequence[Row]) -> str | None:
    """Megabytes on disk by part, one bar a variant; None where nothing was converted."""
    bars = {row.name: parts(row) for row in rows if row.size_bytes}
    if not bars:
        return None

    def plot(figure: "Figure") -> None:
        axes = figure.subplots()
        widest = max(sum(sizes.values()) for sizes in bars.values())
        ends = np.zeros(len(bars))
        for part, (colour, hatch) in PARTS.items():
            widths = np.array([sizes.get(part, 0) / 1e6 for sizes in bars.values()])
            # A part too thin to be seen has no place in the legend either.
            label = part if widths.max() > widest / 1e6 / svg.WIDTH else None
            places, edge = range(len(bars)), svg.PAPER
            axes.barh(places, widths, BAR, ends, color=colour, edgecolor=edge, linewidth=0, label=label, hatch=hatch)
            ends += widths
        for place, end in enumerate(ends):
            axes.annotate(f"{end:.1f} MB", (end, place), (5, 0), textcoords="offset points", va="center")
        axes.set_xlim(0, 1.22 * ends.max())
        svg.names_on_y(axes, list(bars))
        axes.set(xlabel="size (MB)")
        svg.legend(figure, columns=5)

    words = [
        f"{name}: {sum(sizes.values()) / 1e6:.1f} MB, of which "
        + ", ".join(f"{part} {size / 1e6:.1f} MB" for part, size in sizes.items())
        for name, sizes in bars.items()
    ]
    return svg.draw("size", "Size on disk by part", words, 90 + 34 * len(bars), plot)


def _ends(ends: Sequence[float | None], digits: int) -> str:
    low, high = ("open" if end is None else f"{end:.{digits}f}" for end in ends)
    return f"({low} to {high})"
