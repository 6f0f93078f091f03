"""Measure the engine ray against the local one: `python -m tests.bench.bench_cluster measure FILE.json`.

It takes what `make repro` left here, and works in folders of its own. All nodes are on this machine, each with cores of
its own (and a GPU of its own with --gpu) where there are enough, and the driver with others. `render NAME FILE.json...`
makes tables of such files. These are figures to read, and never tests.
"""

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import yaml
from PIL import Image
from tqdm import tqdm

from stages.cluster import adopt, ray
from stages.cluster.batches import TABLE
from stages.cluster.kept import KEY, Kept
from stages.cluster.keys import Keys
from stages.cluster.sweeping import INPUTS, Setting, Sweeping
from stages.contracts import codec
from stages.contracts.conversion import folder as model_folder
from stages.contracts.environment import ENVIRONMENT as MACHINE
from stages.contracts.environment import Environment, Fingerprints
from stages.contracts.evaluation import Counts, predictions_path
from stages.contracts.images import CALIBRATION, EVALUATION, IMAGES
from stages.contracts.messages import Loaded, LoadOrder, PredictOrder
from stages.contracts.model import MODEL, ModelRecord
from stages.contracts.timing import Memory
from stages.contracts.variant import Variant
from stages.core import files
from stages.data import batches, decode
from stages.params import load
from stages.params.data import EvaluationParams
from stages.params.execution import ExecutionParams
from stages.params.load import PARAMS
from stages.params.measurement import BenchmarkParams
from stages.reporting import grid as markdown
from stages.reporting.format import number
from stages.runtimes import host, predict
from stages.runtimes.client import Client
from stages.runtimes.timer import peak_resident_bytes
from tests.bench import figures
from tests.bench.bench_pipeline import ENVIRONMENT, ROOT
from tests.bench.gpu_page import digest

ON_CPU = ["tflite-fp32", "tflite-fp16", "tflite-dynamic", "tflite-int8", "onnxruntime-fp32", "onnxruntime-int8"]
ON_GPU = ["tensorrt-fp16", "tensorrt-fp32", "savedmodel-fp32"]
# Of ImageNet's images on average.
SIZE = (500, 375)
# Images of each variant in a sweep, for one image of the evaluation that is timed by itself.
SHARE = 20
# Ray gives a node of several GiB a third of its memory; its own test cluster would have 150 MiB.
STORE_BYTES = 2 << 30
RESULTS = ROOT / "docs/results"
ROLES = ("classifying", "decoding", "driver", "servers")
UNITS = ("convert", "evaluate")
SERVERS = ("raylet/raylet", "gcs/gcs_server", "dashboard/", "runtime_env/agent", "log_monitor.py", "monitor.py")


class Layout(NamedTuple):
    """What runs where."""

    cores: int
    workers: list[int]
    images: int
    repeats: int
    sweeps: bool
    gpu: bool

    @property
    def variants(self) -> list[str]:
        return ON_GPU if self.gpu else ON_CPU

    def place(self, worker: int) -> list[int]:
        """The cores of a worker."""
        every = sorted(os.sched_getaffinity(0))
        return every[worker * self.cores : (worker + 1) * self.cores] if self.apart else every[: self.cores]

    @property
    def apart(self) -> bool:
        return len(os.sched_getaffinity(0)) > self.cores * max(self.workers)

    @property
    def driver(self) -> list[int]:
        """Of the head too."""
        every = sorted(os.sched_getaffinity(0))
        return every[self.cores * max(self.workers) :] if self.apart else every


def checkout(folder: Path, layout: Layout, count: int) -> Path:
    """What the stages before `sweep` left here, with so many other images to evaluate."""
    for path in [path for path in (*INPUTS, IMAGES) if (ROOT / path).exists()]:
        (folder / path.parent).mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / path).is_dir() else shutil.copy)(ROOT / path, folder / path)
    codec.write(host.describe(None), folder / MACHINE)
    found = photographs(folder / EVALUATION, count)
    rows = [(path.name, 0, files.sha256(path)) for path in found]
    files.write_csv(folder / TABLE, ("file", "label", "sha256"), rows)
    write_params(folder, "local", layout)
    return folder


def photographs(folder: Path, count: int) -> list[Path]:
    """Copies of the evaluation set at the size of ImageNet's images."""
    folder.mkdir()
    photos = [decode.decode(path) for path in batches.files(ROOT / EVALUATION)]
    made = [folder / f"{index:06d}.jpg" for index in range(count)]
    for index, path in enumerate(made):
        if index < len(photos):
            photos[index].resize(SIZE, Image.Resampling.BICUBIC).save(path, quality=90)
        else:
            shutil.copyfile(made[index % len(photos)], path)
    return made


def write_params(folder: Path, engine: str, layout: Layout) -> None:
    values = yaml.safe_load((ROOT / PARAMS).read_text())
    values["variants"], values["evaluation"]["batch_size"] = layout.variants, 32 if layout.gpu else 8
    # Engines are built for each of these sizes, so that one is enough here.
    size = [values["evaluation"]["batch_size"]] if layout.gpu else [1]
    values["benchmark"] |= {"batch_sizes": size, "min_samples": 100, "min_seconds": 0.2}
    # What one sweep learned would make the next one faster.
    values["tensorrt"] = values.get("tensorrt", {}) | {"engines": "each", "timing_cache": False}
    values["execution"] |= {"engine": engine}
    (folder / PARAMS).write_text(yaml.safe_dump(values))


@contextmanager
def pinned(cores: Sequence[int]) -> Iterator[None]:
    """Whatever is started meanwhile runs on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def run(folder: Path, *command: str) -> str:
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT), ray.ADDRESS: os.environ.get(ray.ADDRESS, "")}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, env=environment, check=False, **pipes)
    if done.returncode != 0:
        raise SystemExit(f"{command} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return str(done.stdout)


@contextmanager
def nodes(layout: Layout, count: int) -> Iterator[None]:
    """A cluster of a head without work and so many workers, each with a folder of its own."""
    from ray.cluster_utils import Cluster

    # Ray notes a cluster's address here, also of one in another folder, and does not make it.
    Path(tempfile.gettempdir(), "ray").mkdir(exist_ok=True)
    places = [tempfile.mkdtemp(prefix="ray") for _ in range(count + 1)]
    with pinned(layout.driver):
        settings = {
            "num_cpus": 0,
            "include_dashboard": False,
            "temp_dir": places[0],
            "object_store_memory": STORE_BYTES,
        }
        made = Cluster(initialize_head=True, head_node_args=settings)
    for worker, place in enumerate(places[1:]):
        with pinned(layout.place(worker)):
            gpu = {"num_gpus": 1, "env_vars": {"CUDA_VISIBLE_DEVICES": str(worker)}} if layout.gpu else {}
            made.add_node(num_cpus=layout.cores, temp_dir=place, object_store_memory=STORE_BYTES, **gpu)
    os.environ[ray.ADDRESS] = made.address
    try:
        yield
    finally:
        del os.environ[ray.ADDRESS]
        made.shutdown()
        for place in places:
            shutil.rmtree(place, ignore_errors=True)


def role(process: psutil.Process) -> str | None:
    """What a process does for an evaluation."""
    title = " ".join(process.cmdline())
    if title.startswith("ray::MapWorker"):
        return "classifying"
    if title.startswith("ray::") and "Actor" not in title:
        return "decoding"
    if title.startswith("ray::") or any(name in title for name in SERVERS):
        return "servers"
    return "driver" if process.pid == os.getpid() else None


@contextmanager
def watched(found: dict[str, float]) -> Iterator[None]:
    """Add the CPU seconds of all of Ray's processes on this machine, by what they do."""
    done = threading.Event()
    begun: dict[int, float] = {}
    last: dict[int, tuple[str, float]] = {}

    def look(first: bool) -> None:
        for process in psutil.process_iter():
            try:
                name, times = role(process), process.cpu_times()
            except psutil.Error:
                continue
            if name:
                begun.setdefault(process.pid, times.user + times.system if first else 0.0)
                last[process.pid] = name, times.user + times.system

    def watch() -> None:
        while not done.wait(1):
            look(False)

    look(True)
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        look(False)
        for pid, (name, seconds) in last.items():
            found[f"{name}_cpu_s"] = found.get(f"{name}_cpu_s", 0) + seconds - begun[pid]


def evaluated_here(variant: str) -> dict[str, float]:
    """An evaluation by a worker of the local engine, from its start."""
    start = time.time()
    preprocessing = codec.read(ModelRecord, MODEL).preprocessing
    order = PredictOrder(str(EVALUATION), str(predictions_path(variant)), load.read(EvaluationParams).batch_size)
    with Client(Variant.parse(variant).runtime) as client:
        client.ask("load", LoadOrder(str(model_folder(variant)), None, preprocessing), Loaded)
        client.ask("predict", order, Counts)
        seconds = time.time() - start
        return {"evaluation_s": seconds, "driver_bytes": client.ask("memory", None, Memory).peak_memory_bytes}


def evaluated_there(variant: str, actors: int) -> dict[str, float]:
    """Two evaluations as the stage `sweep` does them: with the first one, those processes start that decode."""
    start = time.perf_counter()
    found = dict[str, float]()
    execution, size = load.read(ExecutionParams), load.read(EvaluationParams).batch_size
    setting = Setting((variant,), (1,), 1, size, load.read(BenchmarkParams), execution, {})
    with ray.joined(execution) as parts, tqdm(disable=True) as bar:
        found["joining_s"] = time.perf_counter() - start
        ((gpu_model, joined),) = parts.items()
        kept = Kept(gpu_model)
        model = model_folder(variant)
        shutil.copytree(model, adopt.folder(f"convert@{variant}") / model, dirs_exist_ok=True)
        keys = Keys(Fingerprints({}, {}, ""))  # nothing is looked up
        sweeping = Sweeping(setting, kept, joined, codec.read(Environment, MACHINE), keys, bar)
        # While variants are converted, in a sweep.
        joined.prepare()
        found["preparing_s"] = time.perf_counter() - start - found["joining_s"]
        found["first_evaluation_s"], _ = evaluate(sweeping, variant, actors)
        with watched(found):
            found["evaluation_s"], found["to_first_answer_s"] = evaluate(sweeping, variant, actors)
    same = Path("predictions.csv").read_bytes() == predictions_path(variant).read_bytes()
    return found | {"driver_bytes": peak_resident_bytes(), "same_predictions": same}


def evaluate(sweeping: Sweeping, variant: str, actors: int) -> tuple[float, float]:
    """Seconds of an evaluation, and of them those until the first batch is answered."""
    start = time.perf_counter()
    answers = sweeping.predict(variant, actors)
    first = next(answers)
    to_first = time.perf_counter() - start
    counts = predict.write(chain([first], answers), Path("predictions.csv"))
    end = time.perf_counter()
    assert counts.images == len(batches.files(EVALUATION))
    return end - start, to_first


def swept_here(folder: Path, layout: Layout) -> dict[str, float]:
    """Seconds of all variants one after the other, each stage in a process of its own, as DVC starts it."""
    write_params(folder, "local", layout)
    run(folder, "stages.environment")
    start = time.time()
    run(folder, "stages.sweep")
    spent = dict.fromkeys(UNITS, 0.0)
    for name in layout.variants:
        for unit in UNITS:
            begun = time.time()
            run(folder, f"stages.{unit}", name)
            spent[unit] += time.time() - begun
    run(folder, "stages.benchmark")
    return {f"{unit}_s": seconds for unit, seconds in spent.items()} | {"variants_s": time.time() - start}


def swept_there(folder: Path, layout: Layout) -> dict[str, float]:
    """Seconds until all are converted, evaluated and timed, joining included."""
    write_params(folder, "ray", layout)
    shutil.rmtree(folder / adopt.SWEEP, ignore_errors=True)
    run(folder, "stages.environment")
    start = time.time()
    run(folder, "stages.sweep")
    end = time.time()
    place = folder / Kept(str(codec.read(adopt.Sweep, folder / adopt.SWEEP_RECORD).gpu_model)).place
    ends = {
        f"{unit}_until_s": max((place / name / unit / KEY).stat().st_mtime for name in layout.variants) - start
        for unit in UNITS
    }
    return ends | {"variants_s": end - start}


def evaluations(folder: Path, layout: Layout, found: dict[str, list[dict[str, float]]]) -> Iterator[str]:
    """With both engines and several numbers of workers, in turn. Yields the name of what it has added."""
    variant, myself = layout.variants[0], "tests.bench.bench_cluster"
    with pinned(layout.place(0)):
        run(folder, "stages.environment")
        run(folder, "stages.sweep")
        run(folder, "stages.convert", variant)
    for _ in range(layout.repeats):
        with pinned(layout.place(0)):
            timed = run(folder, myself, "here", variant)
            found.setdefault("local", []).append(json.loads(timed.splitlines()[-1]))
        yield "local"
        for count in layout.workers:
            with nodes(layout, count), pinned(layout.driver):
                timed = run(folder, myself, "there", variant, str(count))
                found.setdefault(f"ray_{count}", []).append(json.loads(timed.splitlines()[-1]))
            yield f"ray_{count}"


def sweeps_of(folder: Path, layout: Layout, found: dict[str, list[dict[str, float]]]) -> Iterator[str]:
    """Sweeps of all variants, likewise; once, since they take minutes."""
    most, *fewer = layout.workers[::-1]
    for count in (most, 0, *fewer):
        name = f"ray_{count}" if count else "local"
        if count:
            with nodes(layout, count), pinned(layout.driver):
                found[name] = [swept_there(folder, layout)]
        else:
            with pinned(layout.place(0)):
                found[name] = [swept_here(folder, layout)]
        yield name


def measure(target: Path, layout: Layout) -> None:
    """All of it; the file grows after each part, so that an interrupted measurement keeps what it has."""
    if not layout.gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ENVIRONMENT["CUDA_VISIBLE_DEVICES"] = ""
    found: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "tests.bench.bench_cluster", "measure", "PART.json", *sys.argv[3:]]),
        "machine": figures.machine(host.describe(None)), "model": codec.read(ModelRecord, ROOT / MODEL).name,
        "layout": layout._asdict() | {"apart": layout.apart, "driver_cores": len(layout.driver)},
        "variants": layout.variants, "evaluations": {}, "sweeps": {},
    }  # fmt: skip
    few = max(len(batches.files(ROOT / CALIBRATION)), layout.images // SHARE)
    with tempfile.TemporaryDirectory() as place:
        many, some = Path(place) / "many", Path(place) / "few"
        steps = ((evaluations, many, layout.images), (sweeps_of, some, few))[: 1 + layout.sweeps]
        for step, folder, count in steps:
            part = found["sweeps" if step is sweeps_of else "evaluations"]
            for name in step(checkout(folder, layout, count), layout, part):
                files.write_json(target, found)
                print(name, json.dumps({key: round(value, 2) for key, value in part[name][-1].items()}), flush=True)


# What is made of it.


def render(name: str, parts: Sequence[Path]) -> None:
    """Join the parts into docs/results/NAME.json, and write its page beside it."""
    found = [files.read_json(part) for part in parts]
    files.write_json(RESULTS / f"{name}.json", found)
    joining = shlex.join(["python", "-m", "tests.bench.bench_cluster", "render", name, *["PART.json"] * len(parts)])
    lines = ["# The engine ray against the local one", "", f"Raw: [{name}.json]({name}.json). All made by", ""]
    lines += ["```console", *(part["command"] for part in found), joining, "```"]
    for part in found:
        lines += ["", *section(part)]
    files.write_text(RESULTS / f"{name}.md", "\n".join(lines) + "\n")


def section(found: dict[str, Any]) -> list[str]:
    """One measurement."""
    layout, machine = found["layout"], found["machine"]
    gpu = f", {machine['gpus'][0]['name']}" if layout["gpu"] else ""
    cores = f"{layout['cores']} cores{' and a GPU' * layout['gpu']}"
    own = f"; each worker has {cores} of its own, and driver and head have {layout['driver_cores']} others"
    place = own if layout["apart"] else "; workers, driver and head share all cores"
    many = f"Medians of {layout['repeats']} evaluations with each, in turn"
    timed = many if layout["repeats"] > 1 else "One evaluation with each"
    lines = [
        f"## {found['variants'][0]}, workers of {cores}",
        "",
        f"{found['model']}, {layout['images']:,} images of 500 x 375. {machine['cpu']}, {machine['cores']} cores{gpu}"
        f"{place}; environment digest `{digest(machine)}`. {timed}, the local engine from the start of its "
        "process, Ray from the call in a joined cluster; efficiency against the local engine on one worker's cores.",
        "",
        *markdown.grid(evaluation_cells(found), texts=1),
        "",
        *markdown.grid(cpu_cells(found), texts=1),
    ]
    if found["sweeps"]:
        lines += ["", f"Sweeps of {', '.join(found['variants'])}:", "", *markdown.grid(sweep_cells(found), texts=1)]
    return lines


def median(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def named(engine: str) -> tuple[str, int]:
    """In words, and of how many workers."""
    count = int(engine.partition("_")[2] or 1)
    return "local engine" if engine == "local" else f"Ray, {count} worker{'s' * (count > 1)}", count


def evaluation_cells(found: dict[str, Any]) -> list[list[str]]:
    """Rates, and what Ray adds to the time of a single worker."""
    header = ["engine", "images/s", "efficiency", "seconds", "first evaluation, s", "s to the first answer"]
    cells = [[*header, "joining and preparing, s", "driver's peak MB"]]
    local = median(found["evaluations"]["local"])["evaluation_s"]

    def seconds(timed: dict[str, float], key: str, count: int) -> str:
        added = f" ({timed[key] / local - 1:+.0%})" if count == 1 and timed[key] != local else ""
        return f"{timed[key]:.1f}{added}"

    for engine, runs in found["evaluations"].items():
        timed, (name, count) = median(runs), named(engine)
        cells.append([
            name,
            f"{found['layout']['images'] / timed['evaluation_s']:,.0f}",
            f"{local / timed['evaluation_s'] / count:.0%}",
            seconds(timed, "evaluation_s", count),
            seconds(timed, "first_evaluation_s", count) if engine != "local" else "",
            number(timed.get("to_first_answer_s"), digits=1, plain=True),
            "" if engine == "local" else f"{timed['joining_s'] + timed['preparing_s']:.1f}",
            f"{timed['driver_bytes'] / 1e6:.0f}",
        ])  # fmt: skip
    return cells


def cpu_cells(found: dict[str, Any]) -> list[list[str]]:
    """CPU seconds of 1,000 images by what takes them."""
    cells = [["CPU seconds per 1,000 images", *ROLES]]
    for engine, runs in found["evaluations"].items():
        if engine != "local":
            timed = median(runs)
            parts = [
                number(timed[f"{role}_cpu_s"], scale=1000 / found["layout"]["images"], digits=2, plain=True)
                for role in ROLES
            ]
            cells.append([named(engine)[0], *parts])
    return cells


def sweep_cells(found: dict[str, Any]) -> list[list[str]]:
    """Rates, and the seconds until all variants were converted, evaluated and timed."""
    cells = [["engine", "variants/hour", "efficiency", "converted after s", "evaluated after s", "timed after s"]]
    local = median(found["sweeps"]["local"])["variants_s"]
    for engine, runs in sorted(found["sweeps"].items()):
        timed, (name, count) = median(runs), named(engine)
        until = [timed.get(f"{unit}_until_s", timed.get(f"{unit}_s")) for unit in UNITS]
        if engine == "local":
            until[1] = timed["convert_s"] + timed["evaluate_s"]
        cells.append([
            name,
            f"{3600 * len(found['variants']) / timed['variants_s']:,.0f}",
            f"{local / timed['variants_s'] / count:.0%}",
            *(number(seconds, digits=1, plain=True) for seconds in (*until, timed["variants_s"])),
        ])  # fmt: skip
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("target", type=Path)
    measuring.add_argument("--cores", type=int, default=2)
    measuring.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    measuring.add_argument("--images", type=int, default=5000)
    measuring.add_argument("--repeats", type=int, default=2)
    measuring.add_argument("--no-sweeps", dest="sweeps", action="store_false")
    measuring.add_argument("--gpu", action="store_true")
    for name in ("here", "there"):
        evaluating = commands.add_parser(name)
        evaluating.add_argument("variant")
        if name == "there":
            evaluating.add_argument("actors", type=int)
    rendering = commands.add_parser("render")
    rendering.add_argument("name")
    rendering.add_argument("parts", type=Path, nargs="+")
    given = vars(parser.parse_args())
    match given.pop("command"):
        case "measure":
            measure(given.pop("target").absolute(), Layout(**given))
        case "render":
            render(**given)
        case "here":
            print(json.dumps(evaluated_here(**given)))
        case "there":
            print(json.dumps(evaluated_there(**given)))


if __name__ == "__main__":
    main()
