"""Tables as Markdown that also reads well in a terminal."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from stages.contracts.row import Row

# What a column has in a row's line.
Cell = Callable[[Row], str]


class Section(NamedTuple):
    """A further table: its header and its lines, of which the first `texts` columns are words."""

    name: str
    texts: int
    cells: list[list[str]]


def lines(rows: Sequence[Row], columns: Mapping[str, Cell]) -> list[list[str]]:
    """The header, and the cells of each row."""
    return [list(columns), *([cell(row) for cell in columns.values()] for row in rows)]


def grid(cells: Sequence[Sequence[str]], texts: int) -> list[str]:
    """Lines of a table with its header; the first `texts` columns are words, the others numbers."""
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    rule = ["-" * (width + 2) if i < texts else "-" * (width + 1) + ":" for i, width in enumerate(widths)]
    header, *body = [_line(line, widths, texts) for line in cells]
    return [header, f"|{'|'.join(rule)}|", *body]


def _line(cells: Sequence[str], widths: Sequence[int], texts: int) -> str:
    aligned = [
        cell.ljust(width) if i < texts else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "| " + " | ".join(aligned) + " |"
