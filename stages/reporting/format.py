"""Numbers as the page shows them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

# Keeps a number and its unit on one line.
NBSP = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"


class Figure(NamedTuple):
    """A number of a table, with its interval on a line of its own."""

    text: str
    interval: str = ""


def number(value: float | None, digits: int, scale: float = 1) -> str:
    """A figure with thousands set apart and a real minus sign; empty for None."""
    return "" if value is None else f"{value * scale:,.{digits}f}".replace("-", MINUS)


def interval(ends: Sequence[float | None] | None, digits: int, scale: float = 1) -> str:
    """Both ends in brackets; a question mark for one that too few calls leave open."""
    return "" if not ends else "[" + f",{NBSP}".join(number(end, digits, scale) or "?" for end in ends) + "]"


def top1(row: dict[str, Any]) -> Figure:
    """Top-1 of a variant in percent."""
    return Figure(number(row["top1"], 1, 100), interval(row["top1_ci95"], 1, 100))


def p_value(p: float) -> str:
    """Two digits say enough, and below 0.001 none does."""
    return "< 0.001" if p < 0.001 else f"{p:.2g}"
