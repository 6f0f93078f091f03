"""The page of a GPU's results, made of what `figures.flat` keeps of each run; docs/results holds such files."""

import hashlib
import json
import shlex
import statistics
from pathlib import Path
from typing import Any

from stages.reporting import grid as markdown
from stages.reporting.format import number
from stages.statistics.latency import STEADY_CV

RESULTS = Path(__file__).parents[2] / "docs/results"
# What makes a part; the model, the part and the settings follow.
COMMAND = ("python", "-m", "tests.bench.bench_gpu", "measure")
CONDITIONS = {
    "sm_clock_mhz": "SM clock MHz",
    "memory_clock_mhz": "memory clock MHz",
    "temperature_c": "temperature °C",
    "power_w": "power W",
}
CONDITIONS_HEADING = (
    "The first call of a fresh process, and the GPU after each block of calls, from the least to the most:"
)

BARE_LOOPS = {
    "bare": "a bare loop",
    "bare_same_tensor": "a bare loop on the harness's own tensor",
    "bare_graph": "a bare loop of graph launches",
}

Summary = dict[str, Any]


def page(name: str, summaries: list[Summary]) -> str:
    """The results as Markdown: for each model the medians of its repeats, with their spread."""
    machine = summaries[0]["environment"]
    gpu = machine["gpus"][0]
    settings = " ".join(shlex.split(summaries[0]["command"])[len(COMMAND) + 2 :])
    models = dict.fromkeys(summary["model"]["name"] for summary in summaries)
    called = f"make bench-gpu NAME={name}" + (f" SETTINGS={shlex.quote(settings)}" if settings else "")
    lines = [
        f"# {gpu['name']}",
        "",
        f"Driver {machine['driver']}, compute capability {gpu['compute_capability']}, TensorFlow "
        f"{machine['tensorflow']['version']}, TensorRT {machine['tensorrt']['loaded']}, {machine['cpu']}, "
        f"{machine['cores']} cores; environment digest `{digest(machine)}`.",
        f"Raw: [{name}.json]({name}.json), the `summary.json` of every run. Both made by `{called}`, or by its "
        "commands, one model for each GPU:",
        "",
        "```console",
        *dict.fromkeys(summary["command"] for summary in summaries),
        shlex.join([*COMMAND[:-1], "render", name, *["PART.json"] * len(models)]),
        "```",
    ]
    for model in models:
        lines += ["", *section([summary for summary in summaries if summary["model"]["name"] == model])]
    return "\n".join(lines) + "\n"


def section(runs: list[Summary]) -> list[str]:
    """One model: the repeats with all variants, then the rows with TF32 off."""
    first = runs[0]
    full = [summary for summary in runs if measured(summary) == measured(first)]
    harness = next((summary["harness"] for summary in runs if "harness" in summary), {})
    repeats = (
        f"median of the p50 of {len(full)} repeats of the whole benchmark, each with fresh processes, and in brackets "
        "their spread, (largest - smallest) / median."
    )
    lines = [
        f"## {first['model']['name']}",
        "",
        f"{first['evaluation']['images']} photographs (digest `{first['evaluation']['digest'][:16]}`), "
        f"{first['calibration']['images']} calibration images. Latency: input on the device, output on the host; "
        + (repeats if len(full) > 1 else "p50 of one run of the benchmark, so its spread is not known."),
        "",
        *tables(full),
    ]
    for summary in [summary for summary in runs if measured(summary) != measured(first)]:
        lines += ["", "TF32 off (one run):", "", *tables([summary])]
    for variant, found in harness.items():
        lines += ["", harness_line(variant, found)]
    return lines


def measured(summary: Summary) -> list[tuple[str, Any]]:
    """What a run and its repeats have in common: the variants, and whether those in FP32 used TF32."""
    return [
        (row["variant"], row["details"].get("tf32") if row["precision"] == "fp32" else None) for row in summary["rows"]
    ]


def harness_line(variant: str, found: dict[str, Any]) -> str:
    """The harness against each bare loop in a sentence."""
    if "error" in found:
        return f"The harness could not be compared with a bare loop of {variant}: {found['error']}"
    told = []
    for name in ("bare", "bare_same_tensor", "bare_graph"):
        if f"{name}_p50_ms" in found:
            theirs = found[f"{name}_p50_ms"]
            more = f"{found.get(f'ratio_to_{name}', found['harness_p50_ms'] / theirs) - 1:+.1%}"
            low, high = found.get(f"ratio_to_{name}_ci95", (None, None))
            interval = f", 95 % interval {low - 1:+.1%} to {high - 1:+.1%}" if low and high else ""
            told.append(f"{BARE_LOOPS[name]} {theirs:.3f} ms ({more}{interval})")
    return f"Harness of {variant}, batch 1: {found['harness_p50_ms']:.3f} ms; {'; '.join(told)}."


def tables(runs: list[Summary]) -> list[str]:
    """The results of all variants, and under what conditions those that ran did."""
    names = [row["variant"] for row in runs[0]["rows"]]
    ran = [name for name in names if all(row["status"] == "ok" for row in rows_of(name, runs))]
    lines = grid([variant_cells(name, runs) for name in names], texts=2)
    if ran:
        lines += ["", CONDITIONS_HEADING, "", *grid([conditions(name, runs) for name in ran], texts=1)]
    return lines


def rows_of(name: str, runs: list[Summary]) -> list[dict[str, Any]]:
    """The variant in every run."""
    return [next(row for row in summary["rows"] if row["variant"] == name) for summary in runs]


def conditions(name: str, runs: list[Summary]) -> dict[str, str]:
    """One line of the second table: the ranges over all runs."""
    rows = rows_of(name, runs)
    gpus = [row["details"]["gpu"] for row in rows if row["details"]["gpu"]]
    cells = {"variant": name, "first inference ms": span([row["first_inference_ms"] for row in rows])}
    return cells | {
        label: span([value for gpu in gpus for value in gpu[key] or ()]) for key, label in CONDITIONS.items()
    }


def span(values: list[float]) -> str:
    """The least and the most; empty for none."""
    return " to ".join(dict.fromkeys(f"{end:.0f}" for end in (min(values), max(values)))) if values else ""


def variant_cells(name: str, runs: list[Summary]) -> dict[str, str]:
    """One line of the table."""
    rows = rows_of(name, runs)
    row = next((row for row in rows if row["status"] != "ok"), rows[0])
    if row["status"] != "ok":
        return {"variant": name, "status": f"{row['status']}: {row['reason']}"}
    words = dict.fromkeys(doubt for row in rows for doubt in doubts(row))
    cells = {"variant": name, "status": ", ".join(["ok", *words])}
    cells |= {"top-1 %": f"{100 * row['top1']:.2f}", "agreement %": f"{100 * row['agreement']:.1f}"}
    for size in row["latency"]:
        p50s = [r["latency"][size]["p50_ms"] for r in rows]
        ratios = [baseline(summary)[size]["p50_ms"] / p50 for summary, p50 in zip(runs, p50s, strict=True)]
        middle = statistics.median(p50s)
        spread = f" ({(max(p50s) - min(p50s)) / middle:.1%})" if len(p50s) > 1 else ""
        cells[f"p50 ms, batch {size}"] = f"{middle:.3f}{spread}"
        cells[f"speed-up, batch {size}"] = f"{statistics.median(ratios):.2f}x"
        images = statistics.median(r["latency"][size]["throughput_ips"] for r in rows)
        cells[f"images/s, batch {size}"] = f"{images:,.0f}"
    details = row["details"]  # of the conversion, which all repeats share
    built = details.get("engine_build_s", {}).values()
    cells["nodes in engines"] = f"{100 * details['share_in_engines']:.1f} %" if "share_in_engines" in details else ""
    if "form" in details:
        cells["layers INT8 / FP16 / FP32"] = layers(details)
    cells["convert s"] = number(row["convert_s"], digits=0, plain=True)
    cells["build s"] = f"{sum(built):.0f}" if built else ""
    for part in ("variables", "graph", "engine"):
        cells[f"{part} MB"] = f"{details[f'{part}_bytes'] / 1e6:.1f}" if f"{part}_bytes" in details else ""
    cells["on disk MB"] = f"{row['size_bytes'] / 1e6:.1f}"
    cells["GPU memory MB"] = number(
        (details["gpu"] or {}).get("process_memory_bytes"), scale=1e-6, digits=0, plain=True
    )
    return cells


def baseline(summary: Summary) -> dict[str, Any]:
    """Latencies of savedmodel-fp32 in the same run."""
    return dict(next(row["latency"] for row in summary["rows"] if row["variant"] == "savedmodel-fp32"))


def grid(rows: list[dict[str, str]], texts: int) -> list[str]:
    """Markdown with the columns of the fullest row, the first of which are words."""
    columns = list(max(rows, key=len))
    return markdown.grid([columns, *([row.get(column, "") for column in columns] for row in rows)], texts)


def digest(machine: dict[str, Any]) -> str:
    """That of MLflow's runs; older results have the whole record, and one of its JSON."""
    whole = hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()[:16]
    return str(machine.get("digest", whole))


def layers(details: dict[str, Any]) -> str:
    """Layers of native engines in INT8, FP16 and FP32."""
    return " / ".join(str(details[f"{name}_layers"]) for name in ("int8", "fp16", "fp32"))


def doubts(row: dict[str, Any]) -> list[str]:
    """What makes a measurement doubtful, in a word each; older results leave that to be told from their figures."""
    if "doubts" in row:
        return list(row["doubts"])
    gpu = row["details"]["gpu"] or {}
    spreads = [latency["repeat_cv"] or 0 for latency in row["latency"].values()]
    causes = {
        "throttled": gpu.get("throttled_states"),
        "shared GPU": gpu.get("other_processes"),
        "unsteady": max(spreads, default=0) > STEADY_CV,
    }
    return [name for name, cause in causes.items() if cause]
