"""The chart of accuracy against confidence, a panel for each variant."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from stages.reporting import svg
from stages.reporting.format import plural
from stages.statistics.per_class import ClassReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Panels side by side, the height of one in pixels, and the area of a dot that stands for all images in square points.
PANELS = 3
PANEL = 130
LARGEST_DOT = 220


def reliability(reports: Mapping[str, ClassReport]) -> str | None:
    """Accuracy against confidence by bins, a panel for each variant; None where none was evaluated.

    The reliability diagram of Guo et al. 2017, On Calibration of Modern Neural Networks, with areas for images.
    """
    if not reports:
        return None
    lines, columns = -(-len(reports) // PANELS), min(PANELS, len(reports))

    def plot(figure: "Figure") -> None:
        panels = list(figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flat)
        for axes, (name, report) in zip(panels, reports.items(), strict=False):
            _calibration(axes, report)
            axes.set_title(f"{name}\nECE {100 * report.ece:.1f} %", fontsize=10)
        for place in range(len(reports), len(panels)):
            panels[place].set_axis_off()
            if place >= PANELS:
                panels[place - PANELS].tick_params(labelbottom=True)
        figure.supxlabel("confidence (%)", color=svg.MUTED, fontsize=12)
        figure.supylabel("accuracy (%)", color=svg.MUTED, fontsize=12)

    title = "Accuracy against confidence of the best class, by variant"
    words = [f"{name}: ECE {100 * report.ece:.1f} %; {bins(report)}" for name, report in reports.items()]
    return svg.draw("reliability", title, words, 50 + PANEL * lines, plot)


def bins(report: ClassReport) -> str:
    """Each bin in words."""
    return "; ".join(
        f"{plural(one.images, 'image')} with confidence {100 * one.confidence:.1f} %, {100 * one.accuracy:.1f} % right"
        for one in report.bins
    )


def _calibration(axes: "Axes", report: ClassReport) -> None:
    """The diagonal of a calibrated model, and each bin's distance from it."""
    axes.plot((0, 100), (0, 100), color=svg.MUTED, linestyle="--", linewidth=1)
    confidence = np.array([100 * one.confidence for one in report.bins])
    accuracy = np.array([100 * one.accuracy for one in report.bins])
    images = np.array([one.images for one in report.bins], float)
    axes.vlines(confidence, confidence, accuracy, color=svg.SERIES[6], linewidth=1.5)
    areas = 8 + LARGEST_DOT * images / images.sum()
    axes.scatter(confidence, accuracy, areas, svg.SERIES[5], edgecolors=svg.PAPER, clip_on=False, zorder=3)
    axes.set(xlim=(0, 100), ylim=(0, 100), xticks=(0, 50, 100), yticks=(0, 50, 100))
