"""Gather every variant's results into summary.json, the table and the plots."""

from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any

from stages.contracts import labels, paths, predictions
from stages.contracts.labels import Labels
from stages.contracts.predictions import Predictions
from stages.contracts.variant import BASELINE, Variant
from stages.core import errors, files, gpu
from stages.params import document
from stages.reporting import charts, table
from stages.statistics import accuracy
from stages.statistics.chance import at_chance
from stages.statistics.paired import Change, holm
from stages.statistics.per_class import DRAWING, FIGURES, ClassReport

Record = dict[str, Any]

HERE = Path()
MISSING: Record = {"status": "failed", "reason": "the stage left no result: it was ended, or what it needs is missing"}


def row(name: str, timing: Record | None, root: Path) -> Record:
    """One variant: its own records and its part of the benchmark. A missing record means its stage was ended."""
    runtime, precision, qat = astuple(Variant.parse(name))
    converted = _record(root, name, "convert.json")
    evaluated = _record(root, name, "evaluate.json") if converted["status"] == "ok" else {}
    timed = (timing or MISSING) if converted["status"] == "ok" else {}
    status, reason = _verdict({"convert": converted, "evaluate": evaluated, "benchmark": timed})
    batches = timed.get("batches", {})
    first: Record = next(iter(batches.values()), {})
    return {
        "variant": name,
        "runtime": runtime,
        "precision": precision,
        "qat": qat,
        "status": status,
        "reason": reason,
        **_share(evaluated, "top1"),
        **_share(evaluated, "top5"),
        "agreement": None,
        "change": None,
        "change_from_int8": None,
        **dict.fromkeys(FIGURES),
        "at_chance": None,
        "latency": {size: batch["latency"] for size, batch in batches.items()} or None,
        "latency_host": {size: batch["latency_host"] for size, batch in batches.items()} or None,
        "parts_ms": {size: batch["parts_ms"] for size, batch in batches.items() if batch["parts_ms"]} or None,
        "on_gpu": timed.get("on_gpu"),
        "first_inference_ms": first.get("first_inference_ms"),
        "load_ms": timed.get("load_ms"),
        "convert_s": converted.get("convert_s"),
        "size_bytes": converted.get("size_bytes"),
        "peak_memory_bytes": timed.get("peak_memory_bytes"),
        "details": converted.get("details", {})
        | {"files": converted.get("files", {}), "gpu_peak_memory_bytes": timed.get("gpu_peak_memory_bytes")}
        | {"gpu": _gpu(timed.get("gpu"))},
    }


def _gpu(measured: Record | None) -> Record | None:
    """What the benchmark saw of the GPU, with the states after each block as ranges and counts; null on the CPU."""
    return measured and measured | gpu.conditions(measured["states"])


def _share(evaluated: Record, key: str) -> Record:
    """The correct images as a share of all, with its interval; nulls where nothing was evaluated."""
    if "images" not in evaluated:
        return {key: None, f"{key}_ci95": None}
    correct, total = evaluated[f"{key}_correct"], evaluated["images"]
    return {key: correct / total, f"{key}_ci95": accuracy.wilson_ci95(correct, total)}


def _record(root: Path, name: str, kind: str) -> Record:
    path = root / paths.record(name, kind)
    return dict(files.read_json(path)) if path.exists() else dict(MISSING)


def _verdict(steps: dict[str, Record]) -> tuple[str, str | None]:
    """Status and reason of the first step that did not succeed."""
    for stage, record in steps.items():
        if record and record["status"] == "skipped":
            return "skipped", record["reason"]
        if record and record["status"] == "failed":
            return "failed", f"{stage}: {record['reason']}"
    return "ok", None


def answers(rows: list[Record], root: Path = HERE) -> dict[str, Predictions]:
    """The predictions of every variant that was evaluated; what an earlier run left of another is not read."""
    evaluated = [r["variant"] for r in rows if r["top1"] is not None]
    return {name: predictions.read(root / paths.record(name, "predictions.csv")) for name in evaluated}


def add_changes(rows: list[Record], found: dict[str, Predictions]) -> None:
    """What each variant answers otherwise than the baseline, on the same images; nulls without the baseline."""
    baseline = found.get(BASELINE.name)
    for r in rows:
        own = found.get(r["variant"])
        if baseline and r["variant"] == BASELINE.name:
            r["agreement"] = 1.0
        elif change := _compared(baseline, own):
            r["agreement"], r["change"] = (change.images - change.changed) / change.images, asdict(change)
    changed = [r["change"] for r in rows if r["change"]]
    for change, p_value in zip(changed, holm([change["mcnemar_p"] for change in changed]), strict=True):
        change["mcnemar_p_holm"] = p_value


def add_changes_from_int8(rows: list[Record], found: dict[str, Predictions]) -> None:
    """What each variant with quantisation-aware training answers otherwise than the same INT8 without it."""
    for r in rows:
        if r["qat"]:
            change = _compared(found.get(Variant.parse(r["variant"]).post_training.name), found.get(r["variant"]))
            r["change_from_int8"] = change and asdict(change)


def _compared(before: Predictions | None, after: Predictions | None) -> Change | None:
    """What changed; None where either was not evaluated, or they were on other images."""
    if not before or not after or [p.file for p in before] != [p.file for p in after]:
        return None
    return Change.between(before, after)


def add_class_figures(rows: list[Record], found: dict[str, Predictions]) -> None:
    """The averages over classes and the ECE of each variant, and whether the baseline only guesses."""
    for r in rows:
        own = found.get(r["variant"], Predictions([]))
        r.update(ClassReport.from_predictions(own).figures())
        if r["variant"] == BASELINE.name and (guess := at_chance(own)):
            r["at_chance"] = asdict(guess)


def compare(names: tuple[str, ...], root: Path = HERE) -> list[Record]:
    """Each variant on one machine, beside the others there; `root` stands for the checkout."""
    timings = files.read_json(root / paths.BENCHMARK)["variants"]
    rows = [row(name, timings.get(name), root) for name in names]
    found = answers(rows, root)
    add_changes(rows, found)
    add_changes_from_int8(rows, found)
    add_class_figures(rows, found)
    return rows


def other_gpus(names: tuple[str, ...]) -> list[Record]:
    """The same on every further GPU model of a cluster."""
    return [
        {"gpu_model": root.name, "environment": files.read_json(root / paths.ENVIRONMENT), "rows": compare(names, root)}
        for root in sorted(paths.OTHER_GPUS.glob("*"))
    ]


def summarise(names: tuple[str, ...]) -> Record:
    """All of summary.json."""
    rows = compare(names)
    images = files.read_json(paths.IMAGES)
    return {
        "model": files.read_json(paths.MODEL),
        "environment": files.read_json(paths.ENVIRONMENT),
        "evaluation": images["evaluation"],
        "calibration": images["calibration"],
        "qat": files.read_json(paths.QAT_RECORD) if any(r["qat"] for r in rows) else None,
        "rows": rows,
        "other_gpus": other_gpus(names),
    }


def flat_metrics(rows: list[Record]) -> Record:
    """The figures that `dvc metrics diff` compares, by variant; it does not look into lists."""
    return {
        r["variant"]: {key: r[key] for key in accuracy.NUMBERS if r[key] is not None}
        | {f"batch{size}": accuracy.plain(latency) for size, latency in (r["latency"] or {}).items()}
        for r in rows
        if r["status"] == "ok"
    }


def write_plot_data(rows: list[Record], folder: Path) -> None:
    """The values behind the plots as CSV, which `dvc plots` draws and compares between revisions."""
    done = [r for r in rows if r["status"] == "ok"]
    first = next((size for r in done for size in r["latency"]), None)
    overview = [(r["variant"], r["top1"], r["latency"][first]["p50_ms"], round(r["size_bytes"] / 1e6, 3)) for r in done]
    files.write_csv(folder / "variants.csv", ("variant", "top1", "p50_ms", "size_mb"), overview)
    latencies = [
        (r["variant"], size, latency["p50_ms"], latency["throughput_ips"])
        for r in done
        for size, latency in r["latency"].items()
    ]
    files.write_csv(folder / "latency.csv", ("variant", "batch_size", "p50_ms", "throughput_ips"), latencies)


def write_classes(rows: list[Record], known: Labels, folder: Path) -> None:
    """Class by class what each evaluated variant gets right, as CSV and, where it can be read, as a picture."""
    for name, own in answers(rows).items():
        report = ClassReport.from_predictions(own)
        report.write(folder, name, known)
        if report.drawable:
            charts.draw_confusion(report, known, name, folder / f"{name}{DRAWING}")


def main() -> None:
    """Read params and all records, and write the summary, its table, the metrics, the plots and the classes."""
    summary = summarise(document.load().variants)
    with files.new_directory(paths.PLOTS) as folder:
        write_plot_data(summary["rows"], folder)
        charts.draw(summary, folder)
    with files.new_directory(paths.CLASSES) as folder:
        write_classes(summary["rows"], labels.read(), folder)
    files.write_json(paths.METRICS, flat_metrics(summary["rows"]))
    files.write_text(paths.SUMMARY_TABLE, table.markdown(summary))
    files.write_json(paths.SUMMARY, summary)


if __name__ == "__main__":
    errors.run(main)
