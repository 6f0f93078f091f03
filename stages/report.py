"""Write report.html: the decision, what it rests on and what changed, in one file that needs nothing else."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from stages.commands.revision import git
from stages.contracts import labels, paths
from stages.contracts.labels import Labels
from stages.contracts.variant import BASELINE
from stages.core import errors, files
from stages.reporting import gallery, heatmap, svg, table, training
from stages.reporting.format import NBSP, Figure, interval, number, p_value, top1
from stages.statistics import per_class
from stages.statistics.latency import STEADY_CV, calls_needed
from stages.statistics.per_class import ClassReport, ClassScore

Record = dict[str, Any]

TEMPLATE = Path(svg.__file__).with_name("page.html.j2")

HEADLINES = {
    "cannot tell": "These measurements cannot tell which variant to ship",
    "nothing within budget": "No variant is within the budget",
}
OBJECTIVES = {
    "latency": "the lowest p50 latency at batch {batch_size}",
    "throughput": "the most images per second",
    "size": "the smallest size on disk",
    "top1": "the highest top-1 accuracy",
}
VERDICTS = {"within": ("good", "✓"), "exceeds": ("bad", "✕"), "cannot tell": ("unsure", "?")}
DOUBTS = {
    "throttled": "throttled: heat or power held the GPU's clocks down for a part of the run.",
    "shared GPU": "shared GPU: other processes computed on it during the run.",
    "unsteady": f"unsteady: p50 varies by more than {STEADY_CV:.1%} between repeats.",
}
AVERAGES = {
    "macro_precision": "Macro precision", "macro_recall": "Macro recall", "macro_f1": "Macro F1",
    "weighted_precision": "Weighted precision", "weighted_recall": "Weighted recall", "weighted_f1": "Weighted F1",
    "ece": "ECE",
}  # fmt: skip
MARKS = {"lost": ("bad", "✕", "lost"), "gained": ("good", "✓", "gained"), "other": ("unsure", "≠", "wrong still")}


def cells(row: Record, baseline: Record | None, size: str) -> list[Figure]:
    """The numbers of a variant, in the order of `columns`."""
    batch, change = table.batch(row, size), row["change"] or {}
    speed_up = table.speed_up(row, baseline, size)
    return [
        top1(row),
        Figure(number(change.get("drop"), 2, 100), interval(change.get("drop_ci95"), 2, 100)),
        Figure(number(batch.get("p50_ms"), 2), interval(batch.get("p50_ci95_ms"), 2) if batch else ""),
        Figure(number(batch.get("p90_ms"), 2)),
        Figure(number(batch.get("p99_ms"), 2)),
        Figure(f"{speed_up:.2f}\N{MULTIPLICATION SIGN}" if speed_up else ""),
        Figure(number(row["size_bytes"], 1, 1e-6)),
        Figure(number(row["peak_memory_bytes"], 0, 1e-6)),
        Figure(number(row["convert_s"], 1)),
    ]


def columns() -> list[tuple[str, str]]:
    """Name and unit of each number of the table."""
    return [
        ("Top-1", "% [95 % CI]"),
        ("Drop", "points [95 % CI]"),
        ("p50", "ms [95 % CI]"),
        ("p90", "ms"),
        ("p99", "ms"),
        ("Speed\N{NON-BREAKING HYPHEN}up", "times"),
        ("Size", "MB"),
        ("Peak memory", "MB"),
        ("Build", "s"),
    ]


def lines(summary: Record, selection: Record, size: str) -> list[Record]:
    """The table's body: one line a variant."""
    baseline = _find(summary, BASELINE.name)
    found = []
    for row in summary["rows"]:
        fate = selection["variants"].get(row["variant"], {})
        tone, sign = VERDICTS.get(fate.get("verdict"), ("", ""))
        verdict = {"tone": tone, "sign": sign, "word": fate.get("verdict"), "needed": fate.get("images_needed")}
        name = {"variant": row["variant"], "status": table.status(row), "chosen": row["variant"] == selection["winner"]}
        found.append(name | {"verdict": verdict, "cells": cells(row, baseline, size)})
    return found


def notes(summary: Record, size: str) -> list[str]:
    """What a reader must know of the table's numbers."""
    found = []
    if any(row["change"] for row in summary["rows"]):
        found.append(f"Drop: top-1 of {BASELINE.name} minus the variant's on the same images; above 0 is worse.")
    if not _find(summary, BASELINE.name):
        found.append(f"{BASELINE.name} was not measured, so there is no drop and no speed-up.")
    batches = [batch for row in summary["rows"] if (batch := table.batch(row, size))]
    for quantile in (0.9, 0.99):
        unquoted = [batch["samples"] for batch in batches if batch[f"p{100 * quantile:.0f}_ms"] is None]
        if unquoted:
            fewest, most = min(unquoted), max(unquoted)
            calls = f"{fewest}" if fewest == most else f"{fewest} to {most}"
            found.append(f"p{100 * quantile:.0f} is quoted from {calls_needed(quantile)} calls on; there are {calls}.")
    if any(None in batch["p50_ci95_ms"] for batch in batches):
        found.append("A question mark is an end of an interval that so few calls leave open.")
    found.append(
        "Intervals: Wilson's score for top-1, Tango's score for the drop, Woodruff's with blocks as clusters for p50, "
        "widened by Student's t where there are repeats."
    )
    statuses = " ".join(table.status(row) for row in summary["rows"])
    return found + [text for doubt, text in DOUBTS.items() if doubt in statuses]


def shares(summary: Record) -> list[Record]:
    """Where the time from host to host goes, by variant and batch size, where the GPU's own clock tells it."""
    found = []
    for row in summary["rows"]:
        options = row["details"].get("options", {})
        told = [name for key, name in (("cuda_graph", "CUDA graph"), ("pinned", "pinned memory")) if options.get(key)]
        for size, parts in (row["parts_ms"] or {}).items():
            host = row["latency_host"][size]["p50_ms"]
            cells = [number(ms, 3) for ms in (*parts.values(), max(0, host - sum(parts.values())), host)]
            found.append({"variant": row["variant"], "options": ", ".join(told), "size": size, "cells": cells})
    return found


def headline(selection: Record) -> str:
    """The decision in a few words."""
    return HEADLINES.get(selection["outcome"], f"Ship {selection['winner']}")


def best(summary: Record, selection: Record, size: str) -> Record | None:
    """The variant whose figures stand on top, with the reason: it won, it alone is known to do, or it nearly did."""
    winner, miss = selection["winner"], selection["nearest_miss"]
    row = _find(summary, winner or (miss and miss["variant"]))
    if row is None:
        return None
    heading = f"{winner} in figures" if selection["outcome"] == "selected" else f"Known to be within budget: {winner}"
    if not winner:
        heading = f"Nearest to the budget: {row['variant']}, {miss['reason']}"
    return {"heading": heading, "cards": cards(row, _find(summary, BASELINE.name), size)}


def budget(selection: Record) -> list[str]:
    """The objective and each limit in words."""
    limits, size = selection["budget"], selection["budget"]["p99_batch_size"]
    found = [f"Objective: {OBJECTIVES[selection['objective']].format(**selection)}"]
    if limits["max_top1_drop"] is not None:
        points = 100 * limits["max_top1_drop"]
        found.append(f"top-1 drop at most {points:g} point{'s' * (points != 1)}")
    if limits["max_p99_ms"] is not None:
        found.append(f"p99 at batch {size} at most {limits['max_p99_ms']:g} ms")
    for key, name in (("max_size_bytes", "size"), ("max_peak_memory_bytes", "peak memory")):
        if limits[key] is not None:
            found.append(f"{name} at most {limits[key] / 1e6:g} MB")
    return found


def cards(row: Record, baseline: Record | None, size: str) -> list[Record]:
    """The figures that matter of one variant, each beside the baseline's."""
    accuracy, drop, p50, _, _, speed_up, *_ = cells(row, baseline, size)
    found = [
        {"name": "Top-1 accuracy", "unit": "%", **accuracy._asdict(), "beside": ""},
        {"name": f"p50 latency, batch {size}", "unit": "ms", **p50._asdict(), "beside": ""},
    ]
    if drop.text:
        found[0]["beside"] = f"drop {drop.text} points {drop.interval}"
    if baseline and baseline is not row and speed_up.text:
        p50_ms = table.batch(baseline, size)["p50_ms"]
        found[1]["beside"] = f"{speed_up.text} as fast as {BASELINE.name}, {p50_ms:.2f}{NBSP}ms"
    for key, name, digits in (("size_bytes", "Size on disk", 1), ("peak_memory_bytes", "Peak memory", 0)):
        card = {"name": name, "unit": "MB", "text": number(row[key], digits, 1e-6), "interval": "", "beside": ""}
        if baseline and baseline is not row and row[key] and baseline[key]:
            share, whole = 100 * row[key] / baseline[key], number(baseline[key], digits, 1e-6)
            card["beside"] = f"{share:,.0f}{NBSP}% of {BASELINE.name}, {whole}{NBSP}MB"
        found.append(card)
    return [card for card in found if card["text"]]


def losers(summary: Record, selection: Record) -> list[tuple[str, list[str]]]:
    """Why each variant was not chosen; those with one reason share it."""
    reasons: dict[str, list[str]] = {}
    for row in summary["rows"]:
        if row["variant"] != selection["winner"]:
            fate = selection["variants"].get(row["variant"], {})
            reason = fate.get("reason") or row["reason"] or "No reason is on record."
            reasons.setdefault(reason, []).append(row["variant"])
    return list(reasons.items())


def classes(summary: Record, known: Labels) -> list[Record]:
    """The most changed classes of each variant, by name."""
    changed = [row for row in summary["rows"] if row["change"] and row["change"]["classes"]]
    return [
        {
            "variant": row["variant"],
            "told": _told(row["change"]),
            "rows": [change | {"name": known.name(change["label"])} for change in row["change"]["classes"]],
        }
        for row in changed
    ]


def _told(change: Record) -> str:
    """Flips in numbers, and how likely chance alone is to part them so unevenly."""
    raw, adjusted = p_value(change["mcnemar_p"]), p_value(change["mcnemar_p_holm"])
    flips = f"{change['lost']} lost, {change['gained']} gained of {change['images']:,} images"
    return f"{flips}; McNemar's p {raw}, after Holm {adjusted}"


def guess(summary: Record) -> str | None:
    """That the baseline is at chance, where it is; else None."""
    baseline = _find(summary, BASELINE.name)
    if not baseline or not baseline["at_chance"]:
        return None
    return f"{BASELINE.name} {table.guessing(baseline['at_chance'])}. Until that is mended, no comparison means much."


def compared(value: float | None, before: float | None, less_is_better: bool = False) -> Record:
    """A share in percent, and its difference in points from the baseline's where there is one."""
    # Adding 0 makes a plain one of a negative one.
    points = None if value is None or before is None else round(100 * (value - before), 2) + 0
    tone = "" if not points else "bad" if (points > 0) == less_is_better else "good"
    return {
        "text": number(value, 1, 100),
        "difference": "" if points is None else f"{'+' * (points > 0)}{number(points, 2)}",
        "tone": tone,
        "word": {"bad": "worse", "good": "better"}.get(tone, "the same"),
    }


def averages(summary: Record) -> list[Record]:
    """The averages over classes of every evaluated variant, beside the baseline's."""
    baseline = _find(summary, BASELINE.name) or {}
    return [
        {
            "variant": row["variant"],
            "cells": [
                compared(row[key], None if row is baseline else baseline.get(key), key == "ece") for key in AVERAGES
            ],
        }
        for row in summary["rows"]
        if row["macro_f1"] is not None
    ]


def class_notes(summary: Record) -> list[str]:
    """What a reader must know of the averages."""
    images, classes = summary["evaluation"]["images"], summary["evaluation"]["classes"]
    found = [
        f"Macro: the mean over the {classes:,} class{'es' * (classes != 1)} that have images. Weighted: each class "
        "counts as often as it has images, which makes the recall top-1.",
        "A class that is never predicted has no precision; it counts as 0 in the averages, as scikit-learn has it.",
        f"ECE, the expected calibration error: how far confidence and accuracy lie apart, over {per_class.BINS} bins "
        "of equal width (Guo et al. 2017); less is better, and few images make it larger than it is.",
    ]
    if images < classes * table.FEWEST_IMAGES_PER_CLASS:
        found.append(f"With {images / classes:.1f} images of each class, figures of single classes say little.")
    return found


def class_section(summary: Record, reports: dict[str, ClassReport], known: Labels) -> Record:
    """The averages, and class by class the baseline and what every variant that predicts otherwise changes."""
    rows = {row["variant"]: row for row in summary["rows"] if row["variant"] in reports}
    unchanged = [name for name, row in rows.items() if row["change"] and row["change"]["changed"] == 0]
    details = {}
    for name, row in rows.items():
        before = reports[BASELINE.name] if row["change"] else None
        if name not in unchanged:
            details[name] = _details(row, before, reports[name], known)
    return {
        "averages": averages(summary),
        "average_names": AVERAGES.values(),
        "class_notes": class_notes(summary),
        "unchanged": unchanged,
        "details": details,
    }


def _details(row: Record, before: ClassReport | None, after: ClassReport, known: Labels) -> Record:
    """One variant's classes and matrices; beside the baseline's where both answered the same images."""
    pairs = per_class.most_lost(before, after) if before else [(None, score) for score in per_class.lowest(after)]
    return {
        "macro_f1": number(row["macro_f1"], 1, 100),
        "compared": before is not None,
        "scores": [_score(old, new, known) for old, new in pairs],
        "matrices": _matrices(row["variant"], before, after, known),
        "confused": [
            pair._asdict() | {"label": known.name(pair.label), "predicted": known.name(pair.predicted)}
            for pair in per_class.most_confused(before or after, after)
        ],
    }


def _matrices(name: str, before: ClassReport | None, after: ClassReport, known: Labels) -> dict[str, str]:
    """The confusion matrices that can be read, by what they are of."""
    sides = {f"before, {BASELINE.name}": before, f"after, {name}": after} if before else {name: after}
    return {
        of: heatmap.confusion(report, known, f"confusion-{name}-{place}", f"Confusion matrix {of}")
        for place, (of, report) in enumerate(sides.items())
        if report.drawable
    }


def _score(old: ClassScore | None, new: ClassScore, known: Labels) -> Record:
    keys = ("precision", "recall", "f1")
    shares = [compared(getattr(new, key), getattr(old, key) if old else None) for key in keys]
    return {"name": known.name(new.label), "support": new.support, "cells": shares}


def facts(value: Any, key: str = "") -> list[tuple[str, str]]:
    """All figures of a nested record under their names in words, bytes in megabytes."""
    if isinstance(value, list) and any(isinstance(one, dict) for one in value):
        value = {str(place): one for place, one in enumerate(value, start=1)}
    if isinstance(value, dict):
        return [fact for name, inner in value.items() for fact in facts(inner, f"{key} {name}".strip())]
    name = key.removesuffix("_bytes").replace("_", " ")
    if value is None or value == []:
        return [(name, "none")]
    if isinstance(value, bool):
        return [(name, "yes" if value else "no")]
    if key.endswith("_bytes"):
        return [(name, f"{value / 1e6:,.1f} MB")]
    if isinstance(value, list):
        return [(name, ", ".join(map(str, value)))]
    return [(name, f"{value:,}" if isinstance(value, int) else str(value))]


def read_calls(path: Path, batch_size: str) -> dict[str, svg.Floats]:
    """Milliseconds of every timed call at a batch size, by variant."""
    found: dict[str, list[str]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        # No DictReader: there may be hundreds of thousands of lines, and it takes three times as long.
        reader = csv.reader(file)
        places = {key: place for place, key in enumerate(next(reader, []))}
        name, size, term, ms = (places.get(key, 0) for key in ("variant", "batch_size", "term", "ms"))
        for line in reader:
            if line[size] == batch_size and line[term] == "latency":
                found.setdefault(line[name], []).append(line[ms])
    return {variant: np.array(calls, dtype=np.float64) for variant, calls in found.items()}


def content(
    summary: Record,
    selection: Record,
    calls: dict[str, svg.Floats],
    known: Labels,
    reports: dict[str, ClassReport],
    curves: dict[str, training.Curve],
) -> Record:
    """All that the template shows but the parameters."""
    size = str(selection["batch_size"])
    rows, chosen = summary["rows"], "chosen" if selection["outcome"] == "selected" else "within budget"
    shown = gallery.galleries(rows, known, lambda file: gallery.thumbnail(paths.EVALUATION / file))
    opened = next((one.variant for one in sorted(shown, key=lambda one: one.variant != selection["winner"])), None)
    settings = {name: facts(summary[name]) for name in ("environment", "model", "evaluation", "calibration")}
    return {
        "title": headline(selection),
        "selection": selection,
        "summary": summary,
        "budget": budget(selection),
        "machine": table.machine(summary["environment"]),
        "guess": guess(summary),
        "best": best(summary, selection, size),
        "chosen": chosen,
        "columns": columns(),
        "lines": lines(summary, selection, size),
        "notes": notes(summary, size),
        "losers": losers(summary, selection),
        "shares": shares(summary),
        "proofs": table.proofs(rows),
        "others": table.others(summary),
        "other_notes": table.other_notes(summary),
        "charts": {
            "accuracy": svg.accuracy(rows, selection["batch_size"], selection["pareto"], {selection["winner"]: chosen}),
            "distributions": svg.distributions(rows, calls, int(size)),
            "latency": svg.latency_by_batch(rows),
            "throughput": svg.throughput_by_batch(rows),
            "size": svg.size_by_part(rows),
            "reliability": svg.reliability(reports),
        },
        "training": training.content(summary, curves, size),
        "size": size,
        "classes": classes(summary, known),
        **class_section(summary, reports, known),
        "galleries": shown,
        "opened": opened,
        "kinds": gallery.KINDS,
        "marks": MARKS,
        "settings": settings,
        "baseline": BASELINE.name,
    }


def render(shown: Record) -> str:
    """The page; every text is escaped but the charts, which escape their own."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(TEMPLATE.parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(TEMPLATE.name).render(shown)


def code_version() -> Record:
    """Commit of the code that ran, and whether it had changes that are in no commit; None outside a git checkout."""
    commit = git("rev-parse", "--short=12", "HEAD").strip()
    return {"commit": commit or None, "changed": bool(git("status", "--porcelain", "--", "stages", "dvc.yaml"))}


def _find(summary: Record, name: str | None) -> Record | None:
    return next((row for row in summary["rows"] if row["variant"] == name), None)


def main() -> None:
    """Read what the stages before found, and write the page."""
    summary, selection = files.read_json(paths.SUMMARY), files.read_json(paths.SELECTION)
    calls = read_calls(paths.SAMPLES, str(selection["batch_size"]))
    evaluated = [row["variant"] for row in summary["rows"] if row["macro_f1"] is not None]
    reports = {name: ClassReport.read(name) for name in evaluated}
    shown = content(summary, selection, calls, labels.read(), reports, training.curves(summary))
    shown["params"] = paths.PARAMS.read_text(encoding="utf-8")
    shown |= code_version()
    files.write_text(paths.PAGE, render(shown))


if __name__ == "__main__":
    errors.run(main)
