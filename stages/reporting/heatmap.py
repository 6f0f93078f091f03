"""Confusion matrices of report.html: SVG in the page's own colours, with a tooltip on each cell."""

import math
from html import escape
from itertools import product

import numpy as np
import numpy.typing as npt

from stages.contracts.labels import Labels
from stages.statistics.per_class import ClassReport

# In larger matrices and beside more classes, numbers and whole names do not fit.
MOST_NUMBERED = 15
NAME_LENGTH = 18
# In pixels, as in the other charts: the names beside the rows, all cells together, a single cell at most.
NAMES = 118
CELLS = 320
LARGEST = 56
FONT = 12
# Opacities of no and of all images of a row: the weakest is still seen, and numbers can be read on the strongest.
WEAKEST, STRONGEST = 0.12, 0.6
RIGHT, WRONG = "series-5", "series-6"


def confusion(report: ClassReport, labels: Labels, name: str, title: str) -> str:
    """One variant's matrix: a row for each label, a column for each predicted class, the last for those without images.

    `name` starts the ids, which a page may have once.
    """
    counts, names = report.matrix(), confusion_names(report, labels)
    whole = [labels.name(score.label) for score in report.known] + ["classes without images"]
    side = min(LARGEST, CELLS / counts.shape[1])
    height = side * len(counts)
    cells = [
        _cell(row, column, int(counts[row, column]), counts[row, column] / counts[row].sum(), side, whole)
        for row, column in product(*map(range, counts.shape))
        if counts[row, column]
    ]
    numbers = _numbers(counts, side) if len(counts) <= MOST_NUMBERED else ""
    return (
        f'<svg class="chart" role="img" viewBox="0 0 {NAMES + CELLS} {height + NAMES:.0f}" '
        f'aria-labelledby="{name}-title {name}-desc"><title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-desc">{escape(_words(counts, whole))}</desc>'
        f'<rect x="{NAMES}" width="{side * counts.shape[1]:.1f}" height="{height:.1f}" fill="none" '
        f'stroke="var(--rule)"/>{"".join(cells)}{numbers}{_axes(names, side, height)}</svg>'
    )


def confusion_names(report: ClassReport, labels: Labels) -> list[str]:
    """What stands beside the columns of a confusion matrix; without the last one, beside its rows."""
    names = [labels.name(score.label) for score in report.known]
    return [name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 1]}…" for name in names] + ["other"]


def _cell(row: int, column: int, images: int, share: float, side: float, whole: list[str]) -> str:
    colour = RIGHT if row == column else WRONG
    # The root sets the few images that are taken for another class apart from none and from each other.
    strength = WEAKEST + (STRONGEST - WEAKEST) * math.sqrt(share)
    words = f"{whole[row]}, predicted {whole[column]}: {images:,} ({100 * share:.0f} %)"
    return (
        f'<rect x="{NAMES + column * side + 0.5:.1f}" y="{row * side + 0.5:.1f}" width="{side - 1:.1f}" '
        f'height="{side - 1:.1f}" fill="var(--{colour})" fill-opacity="{strength:.2f}">'
        f"<title>{escape(words)}</title></rect>"
    )


def _numbers(counts: npt.NDArray[np.int64], side: float) -> str:
    """The images of each cell, as large as the longest number allows."""
    size = min(FONT, 1.6 * side / len(f"{counts.max():,}"))
    texts = [
        f'<text x="{NAMES + (column + 0.5) * side:.1f}" y="{(row + 0.5) * side:.1f}">{counts[row, column]:,}</text>'
        for row, column in zip(*np.nonzero(counts), strict=True)
    ]
    style = 'text-anchor="middle" dominant-baseline="central" fill="var(--ink)" pointer-events="none"'
    return f'<g font-size="{size:.1f}" {style}>{"".join(texts)}</g>'


def _axes(names: list[str], side: float, height: float) -> str:
    """Labels down the left, predicted classes below, each with its axis."""
    rows = [
        f'<text x="{NAMES - 5}" y="{(place + 0.5) * side:.1f}" dominant-baseline="central">{escape(name)}</text>'
        for place, name in enumerate(names[:-1])
    ]
    columns = [
        f'<text transform="translate({NAMES + (place + 0.5) * side:.1f} {height + 6:.1f}) rotate(-90)" '
        f'dominant-baseline="central">{escape(name)}</text>'
        for place, name in enumerate(names)
    ]
    size = min(FONT - 1, 0.95 * side)
    return (
        f'<g font-size="{size:.1f}" text-anchor="end" fill="var(--ink)">{"".join(rows + columns)}</g>'
        f'<g font-size="{FONT}" text-anchor="end" fill="var(--muted)"><text x="{NAMES - 5}" y="{height + 18:.1f}">'
        f'label ↑</text><text x="{NAMES - 5}" y="{height + 34:.1f}">predicted →</text></g>'
    )


def _words(counts: npt.NDArray[np.int64], whole: list[str]) -> str:
    """The matrix in words, row by row."""
    rows = []
    for row, images in enumerate(counts):
        wrong = [f"{images[column]:,} as {whole[column]}" for column in np.nonzero(images)[0] if column != row]
        rows.append(f"{whole[row]}: {images[row]:,} of {images.sum():,} right" + ", ".join(["", *wrong]))
    return "; ".join(rows) + "."
