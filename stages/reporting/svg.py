"""Charts as SVG that takes its font and its colours, light or dark, from the page around it."""

import html
import io
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# In pixels. At a phone's width the text shrinks by a fifth, beside a second chart on a desktop it grows by a fifth.
WIDTH = 384
# matplotlib knows no CSS, so it draws with colours that nothing else has, and each becomes a variable of the page.
INK, MUTED, RULE, PAPER = "#010000", "#010001", "#010002", "#010003"
SERIES = tuple(f"#0200{i:02x}" for i in range(8))
VARIABLES = dict(zip((INK, MUTED, RULE, PAPER), ("ink", "muted", "rule", "card"), strict=True))
VARIABLES |= {colour: f"series-{i}" for i, colour in enumerate(SERIES)}
# As many as have no divisor in common with the colours: both together repeat after 56 variants.
MARKERS = "osD^vPX"
STYLE: dict[str, object] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 12,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": RULE,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.handletextpad": 0.4,
    "legend.columnspacing": 1.0,
    "legend.borderpad": 0,
    "legend.handlelength": 1.6,
    "hatch.linewidth": 1.2,
    "lines.markersize": 9,
    "lines.markeredgewidth": 0.8,
    "lines.markeredgecolor": PAPER,
    "errorbar.capsize": 3,
}
TICKS = 3
# The entry that stands last in a legend.
PARETO = "Pareto line"
# Letters of a name in a legend that has three beside each other.
NAME_OF_THREE = 16


@dataclass(frozen=True)
class Look:
    """Colour and marker of one variant or training: told apart with every kind of colour vision."""

    colour: str
    marker: str

    @classmethod
    def of(cls, place: int) -> "Look":
        """The one at that place of a list."""
        return cls(SERIES[place % len(SERIES)], MARKERS[place % len(MARKERS)])


def draw(
    name: str,
    title: str,
    figures: Iterable[str],
    height: int,
    plot: Callable[["Figure"], None],
) -> str:
    """One chart, `height` pixels high; `figures` has its figures in words, for who cannot see it."""
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", STYLE | {"svg.hashsalt": name}]):
        figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
        plot(figure)
        drawn = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(drawn, format="svg", transparent=True, metadata=nothing)
    return inline(drawn.getvalue(), name, title, "; ".join(figures) + ".")


def inline(drawn: str, name: str, title: str, description: str) -> str:
    """An SVG file as an element of a page: ids of its own, the page's font and colours, a title and a description."""
    opening = drawn.index(">", drawn.index("<svg"))
    body = re.sub(r"<defs>\s*<style.*?</defs>", "", drawn[opening + 1 :], flags=re.DOTALL)
    used = frozenset(re.findall(r'(?:url\(#|href="#)([^)"]+)', body))
    body = re.sub(r"<[^>]+>", lambda tag: _tag(tag[0], name, used), body)
    view = re.search(r'viewBox="[^"]+"', drawn)
    return (
        f'<svg class="chart" role="img" {view[0] if view else ""} aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{html.escape(title)}</title>'
        f'<desc id="{name}-desc">{html.escape(description)}</desc>' + re.sub(r">\s*\n\s*<", "><", body).strip()
        # Between tags only line breaks and indents: no text of a chart has either.
    )


def _tag(tag: str, name: str, used: Collection[str]) -> str:
    tag = re.sub(r' id="([^"]*)"', lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "", tag)
    tag = re.sub(r'xlink:href="#', f'href="#{name}-', tag).replace("url(#", f"url(#{name}-")
    tag = re.sub(r" font-family: [^;\"]*;?", "", tag)
    tag = re.sub(r'(?<=[ "(-])(\d+\.\d\d)\d+', r"\1", tag)
    for colour, variable in VARIABLES.items():
        tag = tag.replace(colour, f"var(--{variable})")
    return re.sub(r"\s*\n\s*", " ", tag)


def error_bar(value: float, ends: Sequence[float | None] | None) -> list[list[float]]:
    """Its lengths below and above; an end that too few calls leave open has none."""
    low, high = ends or (None, None)
    # Rounding can leave an end of the interval on the wrong side of the value by 1e-16.
    return [[0.0 if low is None else max(0.0, value - low)], [0.0 if high is None else max(0.0, high - value)]]


def names_on_y(axes: "Axes", names: Sequence[str]) -> None:
    """Variants down the left, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def log_axis(axes: "Axes", which: str) -> None:
    """A log axis labelled 1, 2, 5, 10, or more closely where it spans too little for those."""
    from matplotlib.ticker import Locator, LogLocator, MaxNLocator, NullLocator

    if which == "x":
        axes.margins(x=0.08)
        axes.set(xscale="log")
    else:
        axes.margins(y=0.08)
        axes.set(yscale="log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axis.get_view_interval()
    locators: tuple[Locator, ...] = (
        LogLocator(subs=(1, 2, 5)),
        LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)),
        MaxNLocator(4),
    )
    for locator in locators:
        if sum(low <= tick <= high for tick in locator.tick_values(low, high)) >= TICKS:
            break
    axis.set_major_locator(locator)
    axis.set_major_formatter("{x:,g}")
    axis.set_minor_locator(NullLocator())


def legend(figure: "Figure", columns: int | None = None) -> None:
    """Above the plot, where it hides no point."""
    handles, names = figure.axes[0].get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda place: names[place] == PARETO)
    handles, names = [handles[place] for place in order], [names[place] for place in order]
    figure.legend(handles, names, loc="outside upper left", ncols=columns or _columns(names))


def _columns(names: Iterable[str]) -> int:
    """Of a legend: as many as have room for the longest name."""
    return 3 if max(map(len, names)) <= NAME_OF_THREE else 2


def legend_height(names: Collection[str]) -> int:
    """In pixels."""
    return 18 * (len(names) // _columns(names) + 1)
