"""Measure both zoo models on this machine's GPU: `make bench-gpu NAME=h100 SETTINGS='evaluation.source=~/photos'`.

Each model runs through the whole pipeline in a copy of this checkout, then its benchmark twice more with fresh
processes, then the FP32 rows with TF32 off. `measure MODEL PART.json [key=value...]` does one model, with other
parameters if wanted, so that two GPUs can share the work; `render NAME PART.json...` joins the parts.
"""

import argparse
import json
import math
import os
import random
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from stages import environment
from stages.reporting import table
from stages.runtimes import tensorrt, tftrt
from stages.tracking import store

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs/results"
MODELS = ("mobilenet_v2", "efficientnet_lite0")
REPEATS = 3
SETTINGS = {"evaluation.batch_size": 8, "calibration.images": 192, "benchmark.batch_sizes": [1, 8, 32]}
FP32 = {
    "variants": ["savedmodel-fp32", "tftrt-fp32", "tensorrt-fp32"],
    "savedmodel.tf32": False,
    "tftrt.tf32": False,
    "tensorrt.tf32": False,
}
# What makes a part; the model, the part and the settings follow.
COMMAND = ("python", "-m", "tests.bench.bench_gpu", "measure")
CONDITIONS = {
    "sm_clock_mhz": "SM clock MHz",
    "memory_clock_mhz": "memory clock MHz",
    "temperature_c": "temperature °C",
    "power_w": "power W",
}
CONDITIONS_TOLD = (
    "The first call of a fresh process, and the GPU after each block of calls, from the least to the most:"
)

Summary = dict[str, Any]


def copy(checkout: Path, folder: Path) -> None:
    """The checkout without its environments, MLflow's runs and caches."""
    shutil.copytree(checkout, folder, ignore=shutil.ignore_patterns(".gpu", ".venv*", "mlflow.db", "cache", "tmp"))


def edit(folder: Path, settings: dict[str, Any]) -> None:
    """Set keys of the copy's params.yaml."""
    values = yaml.safe_load((folder / "params.yaml").read_text())
    for key, value in settings.items():
        *owners, last = key.split(".")
        block = values
        for owner in owners:
            block = block[owner]
        block[last] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def run(folder: Path, *command: str) -> Summary:
    """Run a pipeline command in the copy, as `make repro` does, and read what it found."""
    summary = folder / "reports/summary.json"
    summary.unlink(missing_ok=True)  # an old one is no result of this command
    start = time.perf_counter()
    search = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "stages", "run", *command], cwd=folder, env=os.environ | {"PATH": search}
    )
    print(f"{' '.join(command)}: {time.perf_counter() - start:.0f} s, exit status {done.returncode}", flush=True)
    if not summary.exists():
        raise SystemExit(f"`{' '.join(command)}` left no summary in {folder}: its errors stand above")
    return dict(json.loads(summary.read_text()))


def measure(model: str, settings: dict[str, Any], folder: Path, out: Path) -> None:
    """All runs of one model; the file grows after each, so that an interrupted measurement keeps what it has."""
    machine = environment.describe_machine(None)
    if missing := tftrt.unavailable("int8", machine) or tensorrt.unavailable("int8", machine):
        raise SystemExit(f"error: TensorRT cannot be measured here: {missing}")
    out.parent.mkdir(parents=True, exist_ok=True)
    copy(ROOT, folder)
    edit(folder, SETTINGS | {"model.name": model} | settings)
    # Without spaces, so that SETTINGS holds them as they are.
    chosen = [
        f"{key}={json.dumps(value, separators=(',', ':')) if isinstance(value, list) else value}"
        for key, value in settings.items()
    ]
    command = shlex.join([*COMMAND, model, "PART.json", *chosen])
    found: list[Summary] = []

    def keep(summary: Summary) -> None:
        found.append(summary | {"command": command})
        out.write_text(json.dumps(found, indent=1) + "\n")

    for repeat in range(REPEATS):
        again = ("dvc", "repro", "--force", "--single-item", "benchmark", "summarize", "select", "report", "track")
        summary = run(folder, *(again if repeat else ("dvc", "repro", "--ignore-errors")))
        keep(summary | ({} if repeat else {"harness": overhead(folder, settings)}))
    if model == MODELS[0]:
        edit(folder, FP32)
        keep(run(folder, "dvc", "repro", "--ignore-errors"))


def overhead(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The harness against bare loops at batch 1, by variant, each in a process of its own."""
    code = "import sys; from tests.bench import bench_gpu; bench_gpu.print_overhead(sys.argv[1])"
    search = os.environ | {"PYTHONPATH": str(folder)}
    found = {}
    for variant in [name for name in BARE if name in settings.get("variants", BARE)]:
        command = [sys.executable, "-c", code, variant]
        done = subprocess.run(command, cwd=folder, env=search, capture_output=True, text=True)
        failed = done.returncode != 0
        found[variant] = {"error": done.stderr[-400:]} if failed else json.loads(done.stdout.splitlines()[-1])
    return found


def print_overhead(variant: str, rounds: int = 400, calls: int = 5) -> None:
    """In the copy's folder: medians as JSON, and those of the rounds' ratios with 95 % intervals by order statistics.

    Calls drift by a tenth within seconds, so loops are compared round by round, in short blocks.
    """
    from stages.contracts import paths
    from stages.contracts.preprocessing import Preprocessing
    from stages.core import files
    from stages.runtimes import Manifest
    from stages.runtimes.timer import TERMS, Stopwatch, images_of

    preprocessing = Preprocessing.from_json(files.read_json(paths.MODEL)["preprocessing"])
    watch = Stopwatch(Manifest.read(variant).load, preprocessing)
    watch.warm_up(1)

    def timed(call: Callable[[], Any]) -> list[float]:
        found = []
        for _ in range(calls):
            start = time.perf_counter()
            call()
            found.append((time.perf_counter() - start) * 1000)
        return found

    loops: dict[str, Callable[[], list[float]]] = {
        "harness": lambda: watch.block(1, dict.fromkeys(TERMS, calls))["latency"]
    }
    bare = BARE[variant](watch.session, images_of(1, preprocessing))
    loops |= {name: partial(timed, call) for name, call in bare.items()}
    p50s: dict[str, list[float]] = {name: [] for name in loops}
    shuffled = random.Random(0)
    for _ in range(rounds):  # no loop always follows the same one, whose caches and clocks it would inherit
        for name in shuffled.sample(list(loops), len(loops)):
            p50s[name].append(statistics.median(loops[name]()))
    found: dict[str, Any] = {f"{name}_p50_ms": statistics.median(values) for name, values in p50s.items()}
    for name in bare:
        ratios = sorted(ours / theirs for ours, theirs in zip(p50s["harness"], p50s[name], strict=True))
        reach = 0.98 * math.sqrt(rounds)
        found[f"ratio_to_{name}"] = statistics.median(ratios)
        found[f"ratio_to_{name}_ci95"] = [ratios[int(rounds / 2 - reach)], ratios[math.ceil(rounds / 2 + reach)]]
    print(json.dumps(found))


def bare_signature(session: Any, images: Any) -> dict[str, Callable[[], Any]]:
    """TF-TRT's signature, on a tensor of its own, and on the harness's: is it the tensor that differs, or the loop?"""
    signature, output, image = session._signature, session._output, session._tf.constant(images)
    return {
        "bare": lambda: signature(images=image)[output].numpy(),
        "bare_same_tensor": lambda: signature(images=session._images)[output].numpy(),
    }


def bare_engine(session: Any, images: Any) -> dict[str, Callable[[], Any]]:
    """`execute_async_v3`, or the launch of a CUDA graph of it, and a copy to the host, by the bindings themselves."""
    from stages.runtimes import cuda

    rt, stream, engine = cuda.cudart(), session._stream.stream, session._engine
    context, address, answers = engine._context, int(stream), session._answers
    size, kind = 4 * engine.classes, rt.cudaMemcpyKind.cudaMemcpyDeviceToHost
    graph = session._stream.recorded(lambda: context.execute_async_v3(address))

    def finish() -> None:
        rt.cudaMemcpyAsync(answers.ctypes.data, session._buffers.output, size, kind, stream)
        rt.cudaStreamSynchronize(stream)

    return {
        "bare": lambda: (context.execute_async_v3(address), finish()),
        "bare_graph": lambda: (graph(), finish()),
    }


BARE_LOOPS = {
    "bare": "a bare loop",
    "bare_same_tensor": "a bare loop on the harness's own tensor",
    "bare_graph": "a bare loop of graph launches",
}
# What the harness is compared with, by variant.
BARE: dict[str, Callable[[Any, Any], dict[str, Callable[[], Any]]]] = {
    "tftrt-fp16": bare_signature,
    "tensorrt-fp16": bare_engine,
}


def render(name: str, parts: list[Path]) -> None:
    """Join the parts into docs/results/NAME.json, a list of summary.json objects, and write its page beside it."""
    summaries = [summary for part in parts for summary in json.loads(part.read_text())]
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(summaries, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text(page(name, summaries))
    print(f"wrote {RESULTS / name}.json and .md")


def page(name: str, summaries: list[Summary]) -> str:
    """The results as Markdown: for each model the medians of its repeats, with their spread."""
    machine = summaries[0]["environment"]
    digest = store.digest(machine)
    gpu = machine["gpus"][0]
    settings = " ".join(shlex.split(summaries[0]["command"])[len(COMMAND) + 2 :])
    models = dict.fromkeys(summary["model"]["name"] for summary in summaries)
    called = f"make bench-gpu NAME={name}" + (f" SETTINGS={shlex.quote(settings)}" if settings else "")
    lines = [
        f"# {gpu['name']}",
        "",
        f"Driver {machine['driver']}, compute capability {gpu['compute_capability']}, TensorFlow "
        f"{machine['tensorflow']['version']}, TensorRT {machine['tensorrt']['loaded']}, {machine['cpu']}, "
        f"{machine['cores']} cores; environment digest `{digest}`.",
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
        lines += ["", CONDITIONS_TOLD, "", *grid([conditions(name, runs) for name in ran], texts=1)]
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
    doubts = dict.fromkeys(doubt for row in rows for doubt in table.doubts(row))
    cells = {"variant": name, "status": ", ".join(["ok", *doubts])}
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
        cells["layers INT8 / FP16 / FP32"] = table.layers(details)
    cells["convert s"] = table.number(row["convert_s"], digits=0)
    cells["build s"] = f"{sum(built):.0f}" if built else ""
    for part in ("variables", "graph", "engine"):
        cells[f"{part} MB"] = f"{details[f'{part}_bytes'] / 1e6:.1f}" if f"{part}_bytes" in details else ""
    cells["on disk MB"] = f"{row['size_bytes'] / 1e6:.1f}"
    cells["GPU memory MB"] = table.number((details["gpu"] or {}).get("process_memory_bytes"), 1e-6, 0)
    return cells


def baseline(summary: Summary) -> dict[str, Any]:
    """Latencies of savedmodel-fp32 in the same run."""
    return dict(next(row["latency"] for row in summary["rows"] if row["variant"] == "savedmodel-fp32"))


def grid(rows: list[dict[str, str]], texts: int) -> list[str]:
    """Markdown with the columns of the fullest row, the first of which are words."""
    columns = list(max(rows, key=len))
    return table.grid([columns, *([row.get(column, "") for column in columns] for row in rows)], texts)


def main() -> None:
    """Read the command line: measure, or render."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    measuring = verbs.add_parser("measure")
    measuring.add_argument("model", choices=MODELS)
    measuring.add_argument("part", type=Path)
    measuring.add_argument("settings", nargs="*", help="key=value of params.yaml")
    rendering = verbs.add_parser("render")
    rendering.add_argument("name")
    rendering.add_argument("parts", nargs="+", type=Path)
    arguments = parser.parse_args()
    if arguments.verb == "render":
        render(arguments.name, arguments.parts)
        return
    pairs = (setting.partition("=") for setting in arguments.settings)
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments.model, {k: yaml.safe_load(v) for k, _, v in pairs}, Path(folder) / "checkout", arguments.part)


if __name__ == "__main__":
    main()
