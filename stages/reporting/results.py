"""The page's tables of results: every variant's figures, and where a GPU's time goes."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

from stages.contracts.images import remarks
from stages.contracts.row import Latency, Row, Summary
from stages.contracts.selection import Judged, Selection
from stages.contracts.variant import BASELINE, title
from stages.reporting import figures
from stages.reporting.format import Figure, figure, number, times
from stages.reporting.notes import prepared, status, unsure
from stages.reporting.resizes import depends
from stages.reporting.training import top1
from stages.statistics.latency import STEADY_CV, calls_needed

SIGNS = {"within": ("good", "✓"), "exceeds": ("bad", "✕"), "cannot tell": ("unsure", "?")}
DOUBTS = {
    "throttled": "throttled: heat or power held the GPU's clocks down for a part of the run.",
    "shared GPU": "shared GPU: other processes computed on it during the run.",
    "busy CPU": "busy CPU: other programs or virtual machines used the CPUs while calls were timed. `dvc repro -f -s "
    "benchmark` times them again on a quiet machine.",
    "CPU quota": "CPU quota: a quota held the CPUs back while calls were timed.",
    "unsteady": f"unsteady: p50 varies by more than {STEADY_CV:.1%} between repeats.",
}
# Options of a runtime that its time depends on, by their names in a proof's facts.
OPTIONS = {"cuda_graph": "CUDA graph", "pinned": "pinned memory"}


@dataclass(frozen=True)
class Column:
    """A figure of a Line, by the name of its field, with its heading and its unit."""

    field: str
    name: str
    unit: str


COLUMNS = (
    Column("top1", "Top-1", "% [95 % CI]"),
    Column("drop", "Drop", "points [95 % CI]"),
    Column("verdict", "Verdict", "on the drop"),
    Column("p50", "p50", "ms [95 % CI]"),
    Column("p90", "p90", "ms"),
    Column("p99", "p99", "ms"),
    Column("speed_up", "Speed\N{NON-BREAKING HYPHEN}up", "times"),
    Column("size", "Size", "MB"),
    Column("peak_memory", "Peak memory", "MB"),
    Column("build", "Build", "s"),
)


@dataclass(frozen=True)
class Verdict:
    """What the images tell of a variant's drop, as a word with its tone and sign, and how many would tell."""

    tone: str
    sign: str
    word: str | None
    needed: int | None


@dataclass(frozen=True)
class Line:
    """One variant."""

    variant: str
    # Such as onnxruntime 1.23; empty for the usual lock of a runtime.
    edition: str
    status: str
    chosen: bool
    verdict: Verdict
    top1: Figure
    drop: Figure
    p50: Figure
    p90: Figure
    p99: Figure
    speed_up: Figure
    size: Figure
    peak_memory: Figure
    build: Figure


def lines(summary: Summary, selection: Selection) -> list[Line]:
    """The table's body."""
    return [line(row, summary.baseline(), selection) for row in summary.here]


def line(row: Row, baseline: Row | None, selection: Selection) -> Line:
    """One variant's figures, latencies at the batch size of the selection."""
    size = selection.batch_size
    timed = figures.latency(row, size)
    return Line(
        variant=row.name,
        edition=title(row.variant.edition) if row.variant.version else "",
        status=status(row),
        chosen=row.name == selection.winner,
        verdict=verdict(selection.variants.get(row.name)),
        top1=top1(row),
        drop=drop(row),
        p50=p50(row, size),
        p90=figure(timed.p90_ms if timed else None, digits=2),
        p99=figure(timed.p99_ms if timed else None, digits=2),
        speed_up=Figure(times(figures.speed_up(row, baseline, size))),
        size=figure(row.size_bytes, digits=1, scale=1e-6),
        peak_memory=figure(figures.peak_memory_bytes(row), digits=0, scale=1e-6),
        build=figure(figures.seconds(row), digits=1),
    )


def verdict(judged: Judged | None) -> Verdict:
    """Without a word where there was nothing to judge."""
    word = judged.verdict if judged else None
    return Verdict(*SIGNS.get(word or "", ("", "")), word, judged.images_needed if judged else None)


def drop(row: Row) -> Figure:
    """Top-1 lost against the baseline, in points."""
    change = row.accuracy.change if row.accuracy else None
    return figure(change.drop, change.drop_ci95, digits=2, scale=100) if change else Figure()


def p50(row: Row, batch_size: int) -> Figure:
    """Median latency in milliseconds."""
    timed = figures.latency(row, batch_size)
    return figure(timed.p50_ms, timed.p50_ci95_ms, digits=2) if timed else Figure()


def notes(summary: Summary, batch_size: int) -> list[str]:
    """What a reader must know of the table's numbers."""
    rows, words = summary.here, []
    if any(row.accuracy and row.accuracy.change for row in rows):
        words.append(f"Drop: top-1 of {BASELINE.name} minus the variant's on the same images; above 0 is worse.")
    if not summary.baseline():
        words.append(f"{BASELINE.name} was not measured, so there is no drop and no speed-up.")
    words += [
        f"{row.name} {sentence}."
        for row in rows
        if row.accuracy
        for sentence in (
            *unsure(row.accuracy, row.variant.precision, summary.model.classes),
            *filter(None, [depends(row.accuracy.resized)]),
        )
    ]
    words += [f"{remark}." for remark in (*prepared(summary), *remarks(summary.evaluation, summary.calibration))]
    timed = [latency for row in rows if (latency := figures.latency(row, batch_size))]
    words += _unquoted(0.9, [latency.samples for latency in timed if latency.p90_ms is None])
    words += _unquoted(0.99, [latency.samples for latency in timed if latency.p99_ms is None])
    if any(None in latency.p50_ci95_ms for latency in timed):
        words.append("A question mark is an end of an interval that so few calls leave open.")
    words.append(
        "Intervals: Wilson's score for top-1, Tango's score for the drop, Woodruff's with blocks as clusters for p50, "
        "widened by Student's t where there are repeats."
    )
    kinds = {doubt.kind for row in rows for doubt in row.doubts}
    return words + [sentence for kind, sentence in DOUBTS.items() if kind in kinds]


def _unquoted(quantile: float, samples: Sequence[int]) -> list[str]:
    """Why a percentile is missing, where it is."""
    if not samples:
        return []
    fewest, most = min(samples), max(samples)
    calls = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    return [f"p{100 * quantile:.0f} is quoted from {calls_needed(quantile)} calls on; there are {calls}."]


@dataclass(frozen=True)
class TimeLine:
    """Where the time of one inference goes, with the options it depends on."""

    variant: str
    options: str
    batch_size: int
    cells: list[str]


def times_by_part(rows: Sequence[Row]) -> list[TimeLine]:
    """From host to host, by variant and batch size, where the GPU's own clock tells the parts."""
    shown = []
    for row in rows:
        for speed in row.speeds:
            if speed.parts_ms:
                cells = _milliseconds(astuple(speed.parts_ms), speed.latency_host)
                shown.append(TimeLine(row.name, _options(row), speed.batch_size, cells))
    return shown


def _milliseconds(parts: Sequence[float], host: Latency) -> list[str]:
    """Each part, what is left of the whole, and the whole."""
    rest = max(0, host.p50_ms - sum(parts))
    return [number(ms, digits=3) for ms in (*parts, rest, host.p50_ms)]


def _options(row: Row) -> str:
    proof = row.conversion.proof if row.conversion else None
    options = proof.under("options") if proof else {}
    return ", ".join(name for key, name in OPTIONS.items() if options.get(key))
