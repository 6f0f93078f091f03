"""Numbers as the page and the tables write them: a figure is formatted here and nowhere else."""

from collections.abc import Sequence
from typing import NamedTuple

# Keeps a number and its unit on one line.
NBSP = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"


class Figure(NamedTuple):
    """A number of a table, with its interval on a line of its own."""

    text: str = ""
    interval: str = ""


def number(value: float | None, *, digits: int, scale: float = 1, plain: bool = False) -> str:
    """With thousands set apart and a real minus sign, or `plain` as terminals want it; empty for None."""
    if value is None:
        return ""
    return f"{value * scale:.{digits}f}" if plain else f"{value * scale:,.{digits}f}".replace("-", MINUS)


def interval(ends: Sequence[float | None] | None, *, digits: int, scale: float = 1, plain: bool = False) -> str:
    """Both ends in brackets; a question mark for one that too few calls leave open."""
    if ends is None:
        return ""
    texts = [number(end, digits=digits, scale=scale, plain=plain) or "?" for end in ends]
    return f"[{(', ' if plain else f',{NBSP}').join(texts)}]"


def figure(value: float | None, ends: Sequence[float | None] | None = None, *, digits: int, scale: float = 1) -> Figure:
    """A number with its interval, as the page shows them."""
    return Figure(number(value, digits=digits, scale=scale), interval(ends, digits=digits, scale=scale))


def signed(value: float, *, digits: int) -> str:
    """A difference, which has its sign also above 0."""
    return "+" * (value > 0) + number(value, digits=digits)


def times(ratio: float | None, sign: str = TIMES) -> str:
    """A speed-up; empty for None."""
    return f"{ratio:.2f}{sign}" if ratio else ""


def p_value(p: float) -> str:
    """Two digits say enough, and below 0.001 none does."""
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def plural(count: int, noun: str, ending: str = "s") -> str:
    """`1 image`, `2 images`."""
    return f"{count:,} {noun}{ending * (count != 1)}"
