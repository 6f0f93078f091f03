"""Measure both zoo models on this machine's GPU: `make bench-gpu NAME=h100 SETTINGS='evaluation.source=~/photos'`.

Each model runs through the whole pipeline in a copy of this checkout, then its benchmark twice more with fresh
processes, then the FP32 rows with TF32 off. `measure MODEL PART.json [key=value...]` does one model, with other
parameters if wanted, so that two GPUs can share the work; `render NAME PART.json...` joins the parts.
"""

import argparse
import gc
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

from stages.contracts import codec
from stages.contracts.row import SUMMARY
from stages.contracts.row import Summary as Made
from stages.runtimes import host
from tests.bench import figures
from tests.bench.gpu_page import COMMAND, RESULTS, page

ROOT = Path(__file__).parents[2]
MODELS = ("mobilenet_v2", "efficientnet_lite0")
REPEATS = 3
SETTINGS = {"evaluation.batch_size": 8, "calibration.images": 192, "benchmark.batch_sizes": [1, 8, 32]}
FP32 = {
    "variants": ["savedmodel-fp32", "tftrt-fp32", "tensorrt-fp32"],
    "savedmodel.tf32": False,
    "tftrt.tf32": False,
    "tensorrt.tf32": False,
}

Summary = dict[str, Any]
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
    summary = folder / SUMMARY
    summary.unlink(missing_ok=True)  # an old one is no result of this command
    start = time.perf_counter()
    search = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "stages", "run", *command], cwd=folder, env=os.environ | {"PATH": search}
    )
    print(f"{' '.join(command)}: {time.perf_counter() - start:.0f} s, exit status {done.returncode}", flush=True)
    if not summary.exists():
        raise SystemExit(f"`{' '.join(command)}` left no summary in {folder}: its errors stand above")
    return figures.flat(codec.read(Made, summary))


def measure(model: str, settings: dict[str, Any], folder: Path, out: Path) -> None:
    """All runs of one model; the file grows after each, so that an interrupted measurement keeps what it has."""
    here = host.describe(None)
    for runtime in ("tftrt", "tensorrt"):
        if missing := here.runtime(runtime).unavailable["int8"]:
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
    from stages.contracts.conversion import folder
    from stages.contracts.model import MODEL, ModelRecord
    from stages.contracts.timing import TERMS
    from stages.runtimes import loading
    from stages.runtimes.timer import Timer, images_of

    preprocessing = codec.read(ModelRecord, MODEL).preprocessing
    gc.disable()
    session = loading.load(folder(variant))
    timer = Timer(session, preprocessing)
    timer.warm_up(1)

    def timed(call: Callable[[], Any]) -> list[float]:
        found = []
        for _ in range(calls):
            start = time.perf_counter()
            call()
            found.append((time.perf_counter() - start) * 1000)
        return found

    loops: dict[str, Callable[[], list[float]]] = {
        "harness": lambda: timer.block(1, dict.fromkeys(TERMS, calls)).ms["latency"]
    }
    bare = BARE[variant](session, images_of(1, preprocessing))
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
    from stages.runtimes.tensorrt import cuda

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
