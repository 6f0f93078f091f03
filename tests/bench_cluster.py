"""Measure the engine ray against the local one: `python -m tests.bench_cluster FILE.json [IMAGES]`.

It takes what `make repro` left here, in a folder of its own. All nodes are on this machine: each has cores of its own
where there are enough, and the driver others. These are figures to read, and never tests.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from stages import sweep
from stages.common import cluster, files, images, labels, paths
from stages.common.images import Preprocessing
from stages.common.params import ExecutionParams
from stages.common.sweeps import KEY, Kept, pack
from stages.environment import describe_machine
from stages.runtimes import away, evaluation
from tests.bench_pipeline import ENVIRONMENT, ROOT, seconds_of

VARIANTS = ["tflite-fp32", "tflite-fp16", "tflite-dynamic", "tflite-int8", "onnxruntime-fp32", "onnxruntime-int8"]
EVALUATED = VARIANTS[0]
NODES = (1, 2, 4)
REPEATS = 2
BATCH = 8
# Of ImageNet's images on average.
SIZE = (500, 375)
INPUTS = (*sweep.INPUTS, paths.IMAGES, paths.ENVIRONMENT)

CORES = sorted(os.sched_getaffinity(0))
# As many for each node, and the rest for the driver; on a small machine all share all.
EACH = len(CORES) // (max(NODES) + 1) or len(CORES)
APART = len(CORES) > max(NODES)
ONE = CORES[:EACH]
DRIVER = CORES[max(NODES) * EACH :] if APART else CORES


def checkout(folder: Path, count: int) -> Path:
    """What the stages before `sweep` left here, with so many other images to evaluate."""
    for path in [path for path in (*INPUTS, paths.model(EVALUATED)) if (ROOT / path).exists()]:
        (folder / path.parent).mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / path).is_dir() else shutil.copy)(ROOT / path, folder / path)
    files.write_json(folder / paths.GPU_MODELS, {"home": cluster.UNLABELLED, "others": {}})
    found = photographs(folder / paths.EVALUATION, count)
    files.write_csv(folder / paths.EVALUATION / "labels.csv", ("file", "label"), [(path.name, 0) for path in found])
    return folder


def photographs(folder: Path, count: int) -> list[Path]:
    """Copies of the evaluation set at the size of ImageNet's images."""
    folder.mkdir()
    photos = [images.decode(path) for path in images.files(ROOT / paths.EVALUATION)]
    made = [folder / f"{index:06d}.jpg" for index in range(count)]
    for index, path in enumerate(made):
        if index < len(photos):
            photos[index].resize(SIZE, Image.Resampling.BICUBIC).save(path, quality=90)
        else:
            shutil.copyfile(made[index % len(photos)], path)
    return made


def write_params(folder: Path, engine: str) -> None:
    values = yaml.safe_load((ROOT / paths.PARAMS).read_text())
    values["variants"], values["evaluation"]["batch_size"] = VARIANTS, BATCH
    values["benchmark"] |= {"batch_sizes": [1], "min_samples": 100, "min_seconds": 0.2}
    values["execution"] |= {"engine": engine}
    (folder / paths.PARAMS).write_text(yaml.safe_dump(values))


@contextmanager
def pinned(cores: Sequence[int]) -> Iterator[None]:
    """Whatever is started meanwhile runs on these cores."""
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, CORES)


def stage(folder: Path, *command: str) -> None:
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT), cluster.ADDRESS: os.environ.get(cluster.ADDRESS, "")}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, env=environment, check=False, **pipes)
    if done.returncode != 0:
        raise SystemExit(done.stdout)


@contextmanager
def nodes(workers: Sequence[Sequence[int]], head: Sequence[int]) -> Iterator[None]:
    """A cluster of a head without work and workers, each on cores of its own and with a folder of its own."""
    from ray.cluster_utils import Cluster

    # Ray notes a cluster's address here, also of one in another folder, and does not make it.
    Path(tempfile.gettempdir(), "ray").mkdir(exist_ok=True)
    places = [tempfile.mkdtemp(prefix="ray") for _ in range(len(workers) + 1)]
    with pinned(head):
        settings = {"num_cpus": 0, "num_gpus": 0, "include_dashboard": False, "temp_dir": places[0]}
        made = Cluster(initialize_head=True, head_node_args=settings)
    for cores, place in zip(workers, places[1:], strict=True):
        with pinned(cores):
            made.add_node(num_cpus=len(cores), temp_dir=place)
    os.environ[cluster.ADDRESS] = made.address
    try:
        yield
    finally:
        del os.environ[cluster.ADDRESS]
        made.shutdown()
        for place in places:
            shutil.rmtree(place, ignore_errors=True)


def evaluated_here(folder: Path) -> float:
    """Seconds of an evaluation in a process of its own, as DVC starts it."""
    code = f"from stages.runtimes import evaluation; evaluation.evaluate({EVALUATED!r}, {BATCH})"
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT)}
    return seconds_of(partial(subprocess.run, [sys.executable, "-c", code], cwd=folder, env=environment, check=True))


def evaluated_there(folder: Path, actors: int) -> dict[str, float]:
    """Seconds of joining, and of two evaluations: with the first one, Ray Data starts."""
    os.chdir(folder)
    start = time.perf_counter()
    with cluster.joined(ExecutionParams("ray", None, 2, None), *sweep.INPUTS) as parts:
        joining = time.perf_counter() - start
        (joined,) = parts.values()
        first, first_answer = evaluate(joined, actors)
        again, again_answer = evaluate(joined, actors)
    os.chdir(ROOT)
    found = {"joining_s": joining, "first_evaluation_s": first, "first_evaluation_to_first_answer_s": first_answer}
    return found | {"evaluation_s": again, "to_first_answer_s": again_answer}


def evaluate(joined: cluster.Cluster, actors: int) -> tuple[float, float]:
    """Seconds of an evaluation as the stage `sweep` does it, and of them those until the first batch is answered."""
    start = time.perf_counter()
    table = labels.read_table(paths.EVALUATION / "labels.csv")
    prepared = Preprocessing.from_json(files.read_json(paths.MODEL)["preprocessing"])
    names = [name for name, _ in table]
    rows = [{"index": at // BATCH, "files": names[at : at + BATCH]} for at in range(0, len(names), BATCH)]
    model = joined.put(pack(Path(), str(paths.model(EVALUATED))))
    decode = partial(away.decode, str(paths.EVALUATION.absolute()), prepared)
    arguments = (EVALUATED, model, prepared, files.read_json(paths.ENVIRONMENT))
    blocks = min(len(rows), joined.blocks(len(table)))
    answers = joined.stream(rows, decode, away.Classifier, *arguments, actors=actors, blocks=blocks)
    first = next(answers)
    to_first = time.perf_counter() - start
    found = [first, *answers]
    assert len([*sweep.in_order(found, table, BATCH)]) == len(table)
    return time.perf_counter() - start, to_first


def swept_here(folder: Path) -> float:
    """Seconds of all variants one after the other, each stage in a process of its own, as DVC starts it."""
    write_params(folder, "local")

    def variants() -> None:
        stage(folder, "stages.sweep")
        for name in VARIANTS:
            stage(folder, "stages.convert", name)
            stage(folder, "stages.evaluate", name)
        stage(folder, "stages.benchmark")

    return seconds_of(variants)


def swept_there(folder: Path) -> dict[str, float]:
    """Seconds until all are converted, evaluated and timed, joining included."""
    write_params(folder, "ray")
    shutil.rmtree(folder / paths.SWEEP, ignore_errors=True)
    start = time.time()
    stage(folder, "stages.sweep")
    end = time.time()
    place = folder / Kept(cluster.UNLABELLED).place
    ends = {
        f"{unit}_until_s": max((place / name / unit / KEY).stat().st_mtime for name in VARIANTS) - start
        for unit in ("convert", "evaluate")
    }
    return ends | {"variants_s": end - start}


def evaluations(folder: Path, found: dict[str, list[dict[str, float]]]) -> Iterator[str]:
    """With both engines and several numbers of workers, in turn. Yields the name of what it has added."""
    for _ in range(REPEATS):
        with pinned(ONE):
            found.setdefault("local", []).append({"evaluation_s": evaluated_here(folder)})
        yield "local"
        if APART:
            # As one machine's own cluster has it: the driver, the head and the only node share the cores.
            with nodes([ONE], ONE), pinned(ONE):
                found.setdefault("shared", []).append(evaluated_there(folder, 1))
            yield "shared"
        for count in NODES:
            with nodes(workers(count), DRIVER), pinned(DRIVER):
                found.setdefault(f"ray_{count}", []).append(evaluated_there(folder, count))
            yield f"ray_{count}"


def sweeps_of(folder: Path, found: dict[str, dict[str, float]]) -> Iterator[str]:
    """Sweeps of all variants, likewise; once, since they take minutes."""
    for count in NODES[::-1]:
        with nodes(workers(count), DRIVER), pinned(DRIVER):
            found[f"ray_{count}"] = swept_there(folder)
        yield f"ray_{count}"
    with pinned(ONE):
        found["local"] = {"variants_s": swept_here(folder)}
    yield "local"


def workers(count: int) -> list[list[int]]:
    """The cores of each."""
    return [CORES[at * EACH : (at + 1) * EACH] if APART else CORES for at in range(count)]


def rates(found: dict[str, Any]) -> dict[str, dict[str, float]]:
    """What these seconds make: rates, the time that Ray adds, and the share of so many times one worker's rate."""
    made: dict[str, dict[str, float]] = {}
    for engine, runs in found["evaluations"].items():
        median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        made[engine] = {"images_per_s": found["images"] / median["evaluation_s"]}
        if engine != "local":
            local = statistics.median(run["evaluation_s"] for run in found["evaluations"]["local"])
            answering = median["evaluation_s"] - median["to_first_answer_s"]
            made[engine] |= {
                "images_per_s_after_the_first_answer": found["images"] / answering,
                "time_added": median["evaluation_s"] / local - 1,
                "time_added_to_the_first_evaluation": median["first_evaluation_s"] / local - 1,
            }
    for engine, swept in found["sweeps"].items():
        made[engine]["variants_per_hour"] = 3600 * len(VARIANTS) / swept["variants_s"]
    for engine, count in ((f"ray_{count}", count) for count in NODES):
        for rate in [key for key in made.get(engine, {}) if "_per_" in key and key in made["ray_1"]]:
            made[engine][f"efficiency_of_{rate}"] = made[engine][rate] / made["ray_1"][rate] / count
    return made


def main() -> None:
    target, count = Path(sys.argv[1]).absolute(), int(sys.argv[2]) if len(sys.argv) > 2 else 5000
    few_images = max(len(images.files(ROOT / paths.CALIBRATION)), count // 20)
    found: dict[str, Any] = {
        "machine": describe_machine(None), "model": files.read_json(ROOT / paths.MODEL)["name"], "images": count,
        "images_of_each_variant": few_images, "variants": VARIANTS, "evaluated": EVALUATED, "batch_size": BATCH,
        "cores_of_a_node": EACH, "nodes_have_cores_of_their_own": APART, "evaluations": {}, "sweeps": {},
    }  # fmt: skip
    found["digest"] = files.combine([json.dumps(found["machine"], sort_keys=True)])
    with tempfile.TemporaryDirectory() as place:
        folder, few = checkout(Path(place) / "many", count), checkout(Path(place) / "few", few_images)
        for part, steps in (("evaluations", evaluations(folder, found["evaluations"])),
                            ("sweeps", sweeps_of(few, found["sweeps"]))):  # fmt: skip
            for name in steps:
                files.write_json(target, found | {"rates": rates(found)})
                last = found[part][name][-1] if part == "evaluations" else found[part][name]
                print(part, name, json.dumps({key: round(value, 2) for key, value in last.items()}), flush=True)
    print(json.dumps(rates(found), indent=1))


if __name__ == "__main__":
    main()
