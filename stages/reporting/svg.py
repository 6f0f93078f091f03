"""The charts of report.html: SVG that takes its font and its colours, light or dark, from the page around it."""

import html
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.reporting import table
from stages.reporting.charts import MARKERS
from stages.statistics.per_class import ClassReport

Record = dict[str, Any]
Floats = npt.NDArray[np.float64]

# In pixels. At a phone's width the text shrinks by a fifth, beside a second chart on a desktop it grows by a fifth.
WIDTH = 384
ROW = 46
# matplotlib knows no CSS, so it draws with colours that nothing else has, and each becomes a variable of the page.
INK, MUTED, RULE, PAPER = "#010000", "#010001", "#010002", "#010003"
SERIES = tuple(f"#0200{i:02x}" for i in range(8))
VARIABLES = dict(zip((INK, MUTED, RULE, PAPER), ("ink", "muted", "rule", "card"), strict=True))
VARIABLES |= {colour: f"series-{i}" for i, colour in enumerate(SERIES)}
STYLE = {
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
}
# Colour and hatch of each part of a variant on disk.
PARTS = {
    "variables": (SERIES[5], ""),
    "graph": (SERIES[1], "////"),
    "engines": (SERIES[3], "xxx"),
    "model": (SERIES[2], "|||"),
    "other": (SERIES[4], "\\\\\\\\"),
}
BAR = 0.55
TICKS = 3
PARETO = "Pareto line"
# Letters of a name in a legend that has three beside each other.
NAME_OF_THREE = 16
# Panels of small multiples side by side, and the area of a dot that stands for all images, in square points.
PANELS = 3
PANEL = 130
LARGEST_DOT = 220


def accuracy(rows: Sequence[Record], batch_size: int, pareto: Sequence[str], words: Mapping[str, str]) -> str | None:
    """Top-1 against p50 at one batch size, both with their intervals; None where no variant has both.

    `words` are written beside the points of the variants they belong to.
    """
    points = {
        name: (batch["p50_ms"], batch["p50_ci95_ms"], 100 * row["top1"], [100 * end for end in row["top1_ci95"]])
        for name, row, batch in _measured(rows, batch_size)
        if row["top1"] is not None
    }
    if not points:
        return None

    def plot(axes: Any) -> None:
        for name, (p50, p50_ends, top1, top1_ends) in points.items():
            style = {
                "capsize": 3,
                "linestyle": "",
                "label": name,
                "zorder": 4 if name in words else 3,
                **_look(rows, name),
            }
            axes.errorbar(p50, top1, xerr=_reach(p50, p50_ends), yerr=_reach(top1, top1_ends), **style)
        front = _front([(points[name][0], points[name][2]) for name in pareto if name in points])
        if len(front) > 1:
            axes.plot(*zip(*front, strict=True), color=MUTED, linestyle="--", label=PARETO)
        for name in points.keys() & words.keys():
            place = {"xytext": (9, 9), "textcoords": "offset points", "weight": "bold"}
            axes.annotate(words[name], (points[name][0], points[name][2]), **place)
        axes.set(xlabel=f"p50 latency, batch {batch_size} (ms, log scale)", ylabel="top-1 (%)")
        _log(axes, "x")
        _legend(axes)

    told = [
        f"{name}: top-1 {top1:.1f} % {_ends(top1_ends, 1)}, p50 {p50:.2f} ms {_ends(p50_ends, 2)}"
        for name, (p50, p50_ends, top1, top1_ends) in points.items()
    ]
    title = f"Top-1 accuracy against p50 latency at batch {batch_size}, with 95 % intervals"
    return _draw("accuracy", title, told, 310 + _legend_height(points), plot)


def distributions(rows: Sequence[Record], calls: Mapping[str, Floats], batch_size: int) -> str | None:
    """How the timed calls spread, one variant a line; None where none was timed."""
    names = [row["variant"] for row in rows if row["status"] == "ok" and row["variant"] in calls]
    if not names:
        return None
    spread = {name: np.percentile(calls[name], (1, 25, 50, 75, 99)) for name in names}

    def plot(axes: Any) -> None:
        for place, name in enumerate(names):
            _violin(axes, place, calls[name], _look(rows, name)["color"])
            _box(axes, place, spread[name])
        _names(axes, names)
        axes.set_yticks(range(len(names)), names, va="bottom")
        for place, name in enumerate(names):
            # A second line of the label itself would be laid out for matplotlib's font, not the page's.
            below = {"xycoords": ("axes fraction", "data"), "xytext": (-4, -12), "textcoords": "offset points"}
            axes.annotate(f"{spread[name][2]:.2f} ms", (0, place), ha="right", **below)
        axes.set(xlabel=f"latency, batch {batch_size} (ms, log scale)")
        _log(axes, "x")

    told = [
        f"{name}: {len(calls[name]):,} calls, median {middle:.2f} ms, half of them from {low:.2f} to {high:.2f} ms, "
        f"98 % from {first:.2f} to {last:.2f} ms"
        for name, (first, low, middle, high, last) in spread.items()
    ]
    title = f"Distribution of the latency of single calls at batch {batch_size}"
    return _draw("distributions", title, told, 60 + ROW * len(names), plot)


def latency_by_batch(rows: Sequence[Record]) -> str | None:
    """p50 with its interval at each batch size; None where nothing was timed."""
    return _by_batch(rows, "p50_ms", "p50 latency by batch size", "p50 latency (ms, log scale)", "{:.2f} ms")


def throughput_by_batch(rows: Sequence[Record]) -> str | None:
    """Images per second at each batch size; None where nothing was timed."""
    return _by_batch(rows, "throughput_ips", "Throughput by batch size", "images/s (log scale)", "{:,.1f} images/s")


def _by_batch(rows: Sequence[Record], key: str, title: str, label: str, unit: str) -> str | None:
    lines: dict[str, dict[int, Record]] = {}
    for row in rows:
        if row["status"] == "ok" and row["latency"]:
            lines[row["variant"]] = {int(size): batch for size, batch in row["latency"].items()}
    if not lines:
        return None

    def plot(axes: Any) -> None:
        for name, batches in lines.items():
            values = [batch[key] for batch in batches.values()]
            ends = [batch["p50_ci95_ms"] if key == "p50_ms" else None for batch in batches.values()]
            reach = [_reach(value, pair) for value, pair in zip(values, ends, strict=True)]
            style = {"capsize": 3, "label": name, **_look(rows, name)}
            axes.errorbar(list(batches), values, yerr=np.concatenate(reach, axis=1), **style)
        axes.set(xlabel="batch size (images, log scale)", ylabel=label, xscale="log")
        sizes = sorted({size for batches in lines.values() for size in batches})
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        _log(axes, "y")
        _legend(axes)

    told = [
        f"{name}: " + ", ".join(f"{unit.format(batch[key])} at batch {size}" for size, batch in batches.items())
        for name, batches in lines.items()
    ]
    return _draw(f"batch-{key.split('_')[0]}", title, told, 270 + _legend_height(lines), plot)


def size_by_part(rows: Sequence[Record]) -> str | None:
    """Megabytes on disk by part, one bar a variant; None where nothing was converted."""
    bars = {row["variant"]: parts(row) for row in rows if row["size_bytes"]}
    if not bars:
        return None

    def plot(axes: Any) -> None:
        widest = max(sum(sizes.values()) for sizes in bars.values())
        ends = np.zeros(len(bars))
        for part, (colour, hatch) in PARTS.items():
            widths = np.array([sizes.get(part, 0) / 1e6 for sizes in bars.values()])
            # A part too thin to be seen has no place in the legend either.
            style = {"label": part if widths.max() > widest / 1e6 / WIDTH else None, "hatch": hatch}
            axes.barh(range(len(bars)), widths, BAR, ends, color=colour, edgecolor=PAPER, linewidth=0, **style)
            ends += widths
        for place, end in enumerate(ends):
            axes.annotate(f"{end:.1f} MB", (end, place), (5, 0), textcoords="offset points", va="center")
        axes.set_xlim(0, 1.22 * ends.max())
        _names(axes, list(bars))
        axes.set(xlabel="size (MB)")
        _legend(axes, columns=5)

    told = [
        f"{name}: {sum(sizes.values()) / 1e6:.1f} MB, of which "
        + ", ".join(f"{part} {size / 1e6:.1f} MB" for part, size in sizes.items())
        for name, sizes in bars.items()
    ]
    return _draw("size", "Size on disk by part", told, 90 + 34 * len(bars), plot)


def reliability(reports: Mapping[str, ClassReport]) -> str | None:
    """Accuracy against confidence by bins, a panel for each variant; None where none was evaluated.

    The reliability diagram of Guo et al. 2017, On Calibration of Modern Neural Networks, with areas for images.
    """
    if not reports:
        return None
    lines = -(-len(reports) // PANELS)

    def plot(grid: Any) -> None:
        panels = list(np.ravel(grid))
        for axes, (name, report) in zip(panels, reports.items(), strict=False):
            _calibration(axes, report)
            axes.set_title(f"{name}\nECE {100 * report.ece:.1f} %", fontsize=10)
        for place in range(len(reports), len(panels)):
            panels[place].set_axis_off()
            if place >= PANELS:
                panels[place - PANELS].tick_params(labelbottom=True)
        panels[0].figure.supxlabel("confidence (%)", color=MUTED, fontsize=12)
        panels[0].figure.supylabel("accuracy (%)", color=MUTED, fontsize=12)

    told = [f"{name}: ECE {100 * report.ece:.1f} %; " + _bins_told(report) for name, report in reports.items()]
    title = "Accuracy against confidence of the best class, by variant"
    return _draw("reliability", title, told, 50 + PANEL * lines, plot, (lines, min(PANELS, len(reports))))


def _calibration(axes: Any, report: ClassReport) -> None:
    """The diagonal of a calibrated model, and each bin's distance from it."""
    axes.plot((0, 100), (0, 100), color=MUTED, linestyle="--", linewidth=1)
    confidence, accuracy, images = (
        np.array([getattr(bin_, name) for bin_ in report.bins], float) for name in ("confidence", "accuracy", "images")
    )
    axes.vlines(100 * confidence, 100 * confidence, 100 * accuracy, color=SERIES[6], linewidth=1.5)
    areas = 8 + LARGEST_DOT * images / images.sum()
    axes.scatter(100 * confidence, 100 * accuracy, areas, SERIES[5], edgecolors=PAPER, clip_on=False, zorder=3)
    axes.set(xlim=(0, 100), ylim=(0, 100), xticks=(0, 50, 100), yticks=(0, 50, 100))


def _bins_told(report: ClassReport) -> str:
    return "; ".join(
        f"{bin_.images:,} image{'s' * (bin_.images != 1)} with confidence {100 * bin_.confidence:.1f} %, "
        f"{100 * bin_.accuracy:.1f} % right"
        for bin_ in report.bins
    )


def training(curves: Mapping[str, Sequence[Mapping[str, float]]]) -> str | None:
    """Loss by epoch, a colour for each training; None where none was.

    Solid on the validation images, with the best epoch marked; dashed on the training images, which epoch 0 has no
    loss on.
    """
    if not curves:
        return None
    best = {name: min(epochs, key=lambda row: row["val_loss"]) for name, epochs in curves.items()}

    def plot(axes: Any) -> None:
        for place, (name, epochs) in enumerate(curves.items()):
            numbers, style = [row["epoch"] for row in epochs], _nth_look(place)
            losses = [row.get("loss", np.nan) for row in epochs]
            axes.plot(numbers, losses, color=style["color"], linestyle="--", linewidth=1)
            axes.plot(
                numbers, [row["val_loss"] for row in epochs], label=name, markevery=[epochs.index(best[name])], **style
            )
        axes.set(xlabel="epoch", ylabel="loss (log scale)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        _log(axes, "y")
        _legend(axes)

    told = [
        f"{name}: loss on the validation images {epochs[0]['val_loss']:.3g} after epoch {epochs[0]['epoch']:.0f}, "
        f"lowest {best[name]['val_loss']:.3g} after epoch {best[name]['epoch']:.0f} of {epochs[-1]['epoch']:.0f}"
        for name, epochs in curves.items()
    ]
    return _draw("training", "Loss by epoch of each training", told, 270 + _legend_height(curves), plot)


def parts(row: Record) -> dict[str, int]:
    """Bytes of a variant by part: a SavedModel's and engines are known, another model is one."""
    details, size = row["details"], int(row["size_bytes"])
    keys = {"variables": "variables_bytes", "graph": "graph_bytes", "engines": "engine_bytes"}
    known = {name: int(details[key]) for name, key in keys.items() if key in details}
    if not known:
        return {"model": size}
    return {name: bytes_ for name, bytes_ in (known | {"other": size - sum(known.values())}).items() if bytes_ > 0}


def _measured(rows: Sequence[Record], batch_size: int) -> Iterable[tuple[str, Record, Record]]:
    """Name, row and figures at a batch size of the variants that ran at it."""
    for row in rows:
        batch = table.batch(row, batch_size)
        if row["status"] == "ok" and batch:
            yield row["variant"], row, batch


def _look(rows: Sequence[Record], name: str) -> Record:
    """Colour and marker of a variant, the same in every chart."""
    return _nth_look([row["variant"] for row in rows if row["status"] == "ok"].index(name))


def _nth_look(place: int) -> Record:
    """Told apart with every kind of colour vision."""
    style = {"markeredgecolor": PAPER, "markersize": 9, "markeredgewidth": 0.8}
    return {"color": SERIES[place % len(SERIES)], "marker": MARKERS[place % len(MARKERS)], **style}


def _reach(value: float, ends: Sequence[float | None] | None) -> list[list[float]]:
    """Lengths of an error bar; an end that too few calls leave open has none."""
    low, high = ends or (None, None)
    # Rounding can leave an end of the interval on the wrong side of the value by 1e-16.
    return [[0.0 if low is None else max(0.0, value - low)], [0.0 if high is None else max(0.0, high - value)]]


def _ends(ends: Sequence[float | None], digits: int) -> str:
    low, high = ("open" if end is None else f"{end:.{digits}f}" for end in ends)
    return f"({low} to {high})"


def _front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (latency, accuracy) those that no faster one equals, from the fastest on."""
    front: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    return front


def _violin(axes: Any, place: int, calls: Floats, colour: str) -> None:
    """The density of the logarithms, without the slowest and fastest thousandth, which would stretch the axis."""
    logs = np.log(calls)
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
    style = {"facecolor": colour, "alpha": 0.45, "edgecolor": colour}
    axes.fill_between(np.exp(middles), place - height, place + height, **style)


def _box(axes: Any, place: int, spread: Floats) -> None:
    """A thin line over 98 % of the calls, a thick one over half of them, a dot at the median."""
    first, low, middle, high, last = spread
    axes.hlines(place, first, last, color=INK, linewidth=1)
    axes.hlines(place, low, high, color=INK, linewidth=5)
    axes.plot(middle, place, marker="o", color=PAPER, markeredgecolor=INK, markersize=6)


def _names(axes: Any, names: Sequence[str]) -> None:
    """Variants down the left, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def _log(axes: Any, which: str) -> None:
    """A log axis labelled 1, 2, 5, 10, or more closely where it spans too little for those."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    axes.margins(**{which: 0.08})
    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")
    low, high = axis.get_view_interval()
    for locator in (LogLocator(subs=(1, 2, 5)), LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)), MaxNLocator(4)):
        if sum(low <= tick <= high for tick in locator.tick_values(low, high)) >= TICKS:
            break
    axis.set_major_locator(locator)
    axis.set_major_formatter("{x:,g}")
    axis.set_minor_locator(NullLocator())


def _legend(axes: Any, columns: int | None = None) -> None:
    """Above the plot, where it hides no point."""
    handles, names = axes.get_legend_handles_labels()
    ours = [place for place, name in enumerate(names) if name != PARETO]
    order = [*ours, *(place for place in range(len(names)) if place not in ours)]
    handles, names = ([found[place] for place in order] for found in (handles, names))
    axes.figure.legend(handles, names, loc="outside upper left", ncols=columns or _columns(names))


def _columns(names: Iterable[str]) -> int:
    """Of a legend: as many as have room for the longest name."""
    return 3 if max(map(len, names)) <= NAME_OF_THREE else 2


def _legend_height(entries: Mapping[str, Any]) -> int:
    return 18 * (len(entries) // _columns(entries) + 1)


def _draw(
    name: str,
    title: str,
    told: Sequence[str],
    height: int,
    plot: Callable[[Any], None],
    panels: tuple[int, int] = (1, 1),
) -> str:
    """One chart of one panel or more, down and across; `told` has its figures in words, for who cannot see it."""
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", STYLE | {"svg.hashsalt": name}]):
        figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
        plot(figure.subplots(*panels, sharex=True, sharey=True))
        drawn = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(drawn, format="svg", transparent=True, metadata=nothing)
    return inline(drawn.getvalue(), name, title, "; ".join(told) + ".")


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


def _tag(tag: str, name: str, used: frozenset[str]) -> str:
    tag = re.sub(r' id="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", tag)
    tag = re.sub(r'xlink:href="#', f'href="#{name}-', tag).replace("url(#", f"url(#{name}-")
    tag = re.sub(r" font-family: [^;\"]*;?", "", tag)
    tag = re.sub(r'(?<=[ "(-])(\d+\.\d\d)\d+', r"\1", tag)
    for colour, variable in VARIABLES.items():
        tag = tag.replace(colour, f"var(--{variable})")
    return re.sub(r"\s*\n\s*", " ", tag)
