"""The section of the page on training: its curves, and what quantisation-aware training won back of INT8's loss."""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.contracts import paths
from stages.contracts.variant import BASELINE, Variant
from stages.reporting import svg, table
from stages.reporting.format import Figure, interval, number, p_value, top1
from stages.statistics.paired import points_won
from stages.training import fit

Record = dict[str, Any]
Curve = Sequence[Mapping[str, float]]

QAT = "QAT"
COLUMNS = (
    ("FP32", "top-1 % [95 % CI]"),
    ("INT8, post-training", "top-1 % [95 % CI]"),
    ("INT8, QAT", "top-1 % [95 % CI]"),
    ("Won back", "points [95 % CI]"),
    ("McNemar's p", ""),
    ("p50 of both INT8", "ms, post-training / QAT"),
    ("Size of both INT8", "MB, post-training / QAT"),
)
# A variant that is not in the report.
ABSENT: Record = {"top1": None, "top1_ci95": None, "latency": None, "size_bytes": None}


def curves(summary: Record) -> dict[str, Curve]:
    """Every epoch of each training that the model went through."""
    trained, qat = summary["model"]["training"], summary["qat"]
    seeds = [run["seed"] for run in trained["runs"]] if trained else []
    found: dict[str, Curve] = {f"seed {seed}": fit.read_curve(paths.CURVES, seed) for seed in seeds}
    if qat and qat["status"] == "ok":
        found[QAT] = fit.read_curve(paths.QAT_CURVE, qat["seed"])
    return found


def content(summary: Record, found: Mapping[str, Curve], size: str) -> Record | None:
    """What the template shows of training; None where nothing was trained or asked to be."""
    qat = summary["qat"]
    if not found and not qat:
        return None
    return {
        "chart": svg.training(found),
        "columns": COLUMNS,
        "lines": lines(summary["rows"], size),
        "notes": notes(qat, found) if qat else [],
    }


def lines(rows: Sequence[Record], size: str) -> list[Record]:
    """FP32 and both INT8 side by side: a line for each runtime that has a variant with quantisation-aware training."""
    by_name = {row["variant"]: row for row in rows}
    found = []
    for row in (row for row in rows if row["qat"]):
        candidates = (by_name.get(name, ABSENT) for name in (f"{row['runtime']}-fp32", BASELINE.name))
        fp32 = next((one for one in candidates if one["top1"] is not None), ABSENT)
        before = by_name.get(Variant.parse(row["variant"]).post_training.name, ABSENT)
        found.append({"runtime": row["runtime"], "fp32": fp32.get("variant"), "cells": _cells(fp32, before, row, size)})
    return found


def _cells(fp32: Record, before: Record, after: Record, size: str) -> list[Figure]:
    """The numbers of a runtime, in the order of `COLUMNS`."""
    both = (before, after)
    return [
        *(top1(one) for one in (fp32, *both)),
        *_won(after["change_from_int8"]),
        _pair([number(table.batch(one, size).get("p50_ms"), 3) for one in both]),
        _pair([number(one["size_bytes"], 2, 1e-6) for one in both]),
    ]


def _pair(texts: Sequence[str]) -> Figure:
    return Figure(" / ".join(text or "\N{EN DASH}" for text in texts) if any(texts) else "")


def _won(change: Record | None) -> list[Figure]:
    """Points won back, and how likely chance alone is to win or lose as many."""
    if not change:
        return [Figure(""), Figure("")]
    points, ends = points_won(change)
    return [Figure("+" * (points > 0) + number(points, 2), interval(ends, 2)), Figure(p_value(change["mcnemar_p"]))]


def notes(qat: Record, found: Mapping[str, Curve]) -> list[str]:
    """What a reader must know of the table: its terms, and how the training went."""
    terms = (
        "Won back: top-1 with quantisation-aware training (QAT) minus that of the post-training INT8 on the same "
        "images; above 0 is better. Tango's score interval, exact McNemar's test. The weights learn on, so that QAT "
        "may end above FP32."
    )
    if qat["status"] != "ok":
        return [terms, f"QAT {qat['status']}: {qat['reason'].removeprefix('qat: ')}."]
    return [terms, *_told(qat, found[QAT])]


def _told(qat: Record, curve: Curve) -> list[str]:
    """How the training went, and what it could not simulate."""
    before, after = (number(qat[f"{which}_val_accuracy"], 1, 100) for which in ("first", "best"))
    last, left = curve[-1]["epoch"], qat["layers_not_simulated"]
    found = [
        f"QAT was best after epoch {qat['best_epoch']} of {last:.0f}: with INT8 simulated, {after} % of the "
        f"{qat['validation_images']:,} validation images were right, and {before} % before it learned (epoch 0). It "
        f"took {qat['train_s']:,.0f} s on {qat['train_images']:,} images."
    ]
    if not qat["best_epoch"]:
        found.append("No epoch was better than none: lower qat.learning_rate, or train on more images.")
    if left:
        kinds = ", ".join(f"{count} {kind}" for kind, count in left.items())
        found.append(f"Layers that QAT did not simulate, whose ranges the calibration set gives: {kinds}.")
    return found
