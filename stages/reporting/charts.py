"""The report's pictures, drawn by matplotlib without a screen."""

from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from stages.contracts.labels import Labels
from stages.statistics.per_class import ClassReport

# Okabe and Ito's palette: told apart with every kind of colour vision. Their numbers have no common divisor, so that
# colour and marker together repeat after 56 variants.
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#999999")
MARKERS = "osD^vPX"
# In larger confusion matrices and beside more classes, numbers and whole names do not fit.
MOST_NUMBERED = 15
NAME_LENGTH = 18


def draw(summary: dict[str, Any], folder: Path) -> None:
    """Write accuracy.png, size.png and latency.png of the variants that ran."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in summary["rows"] if row["status"] == "ok"]
    title = f"{summary['model']['name']}, {summary['evaluation']['images']} images"
    for name, plot in (("accuracy", _accuracy), ("size", _size), ("latency", _latency)):
        figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
        plot(axes, rows)
        axes.set_title(f"{title}: {axes.get_title()}")
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(folder / f"{name}.png", dpi=130)
        pyplot.close(figure)


def draw_confusion(report: ClassReport, known: Labels, variant: str, path: Path) -> None:
    """Write the confusion matrix of a variant as PNG, its rows as shares of each label's images."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    counts, names = report.matrix(), confusion_names(report, known)
    side = 3.5 + 0.3 * len(names)
    figure, axes = pyplot.subplots(figsize=(side, side), layout="constrained")
    shares = counts / counts.sum(axis=1, keepdims=True)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(names) <= MOST_NUMBERED:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=colour)
    # A name may have dollar signs and be no formula.
    axes.set_xticks(range(len(names)), names, rotation=90, parse_math=False)
    axes.set_yticks(range(len(counts)), names[:-1], parse_math=False)
    axes.set(title=f"{variant}, {counts.sum():,} images", xlabel="predicted", ylabel="label")
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def confusion_names(report: ClassReport, known: Labels) -> list[str]:
    """What stands beside the columns of a confusion matrix; without the last one, beside its rows."""
    names = [known.name(score.label) for score in report.known]
    return [name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 1]}…" for name in names] + ["other"]


def _accuracy(axes: Any, rows: list[dict[str, Any]]) -> None:
    size = next((size for row in rows for size in row["latency"]), "1")
    for row, colour, marker in zip(rows, cycle(COLOURS), cycle(MARKERS), strict=False):
        top1, (low, high) = 100 * row["top1"], (100 * end for end in row["top1_ci95"])
        # Rounding can leave an end of the interval on the wrong side of the value by 1e-16.
        interval = [[max(0, top1 - low)], [max(0, high - top1)]]
        style = {"color": colour, "marker": marker, "capsize": 3, "linestyle": "", "label": row["variant"]}
        axes.errorbar(row["latency"][size]["p50_ms"], top1, yerr=interval, **style)
    axes.set(title="accuracy against latency", ylabel="top-1 (%), 95 % interval")
    axes.set(xlabel=f"p50 latency, batch {size} (ms, log scale)", xscale="log")
    _plain_numbers(axes.xaxis)
    _legend(axes, rows)


def _size(axes: Any, rows: list[dict[str, Any]]) -> None:
    bars = axes.barh([row["variant"] for row in rows], [row["size_bytes"] / 1e6 for row in rows], color=COLOURS[5])
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.invert_yaxis()
    axes.set(title="size on disk", xlabel="size (MB)")


def _latency(axes: Any, rows: list[dict[str, Any]]) -> None:
    for row, colour, marker in zip(rows, cycle(COLOURS), cycle(MARKERS), strict=False):
        sizes = [int(size) for size in row["latency"]]
        medians = [batch["p50_ms"] for batch in row["latency"].values()]
        axes.plot(sizes, medians, color=colour, marker=marker, label=row["variant"])
    axes.set(title="latency by batch size", xlabel="batch size", ylabel="p50 latency (ms, log scale)", yscale="log")
    axes.set_xticks(sorted({int(size) for row in rows for size in row["latency"]}))
    _plain_numbers(axes.yaxis)
    _legend(axes, rows)


def _plain_numbers(axis: Any) -> None:
    """1, 2, 5, 10, 20 ... on a log axis, where matplotlib would write powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _legend(axes: Any, rows: list[dict[str, Any]]) -> None:
    """Beside the plot, where it hides no point."""
    if rows:
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
