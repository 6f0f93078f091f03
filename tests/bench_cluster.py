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
from collections.abc import Callable, Iterator, Sequence
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
REPEATS = 3
BATCH = 8
# Of ImageNet's images on average.
SIZE = (500, 375)
INPUTS = (*sweep.INPUTS, paths.IMAGES, paths.ENVIRONMENT)

CORES = sorted(os.sched_getaffinity(0))
# As many for each node, and the rest for the driver; on a small machine all share all.
EACH = len(CORES) // (max(NODES) + 1) or len(CORES)
APART = len(CORES) > max(NODES)
ONE = CORES[:EACH]


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
    answers = joined.stream(rows, decode, away.Classifier, *arguments, actors=actors)
    first = next(answers)
    to_first = time.perf_counter() - start
    found = [first, *answers]
    assert evaluation.count(sweep.in_order(found, table, BATCH))["images"] == len(table)
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


def overhead(folder: Path) -> dict[str, Any]:
    """An evaluation on the same cores with both engines, in turn: driver, head and the one node share them."""
    found: dict[str, Any] = {"cores": len(ONE), "local_s": [], "ray": []}
    for _ in range(REPEATS):
        with pinned(ONE):
            found["local_s"].append(evaluated_here(folder))
            with nodes([ONE], ONE):
                os.sched_setaffinity(0, ONE)
                found["ray"].append(evaluated_there(folder, 1))
        print(json.dumps({name: values[-1] for name, values in found.items() if isinstance(values, list)}), flush=True)
    local = statistics.median(found["local_s"])
    for key in ("evaluation_s", "first_evaluation_s"):
        found[f"overhead_of_{key}"] = statistics.median(run[key] for run in found["ray"]) / local - 1
    return found


def scaling(folder: Path, few: Path) -> dict[str, Any]:
    """Evaluation and sweep at several numbers of workers, each with cores of its own, and with the local engine."""
    with pinned(ONE):
        found: dict[str, Any] = {
            "local": {"evaluation_s": evaluated_here(folder), "variants_s": swept_here(few)}
        }  # fmt: skip
    for count in NODES:
        workers = [CORES[at * EACH : (at + 1) * EACH] if APART else CORES for at in range(count)]
        driver = CORES[max(NODES) * EACH :] if APART else CORES
        with nodes(workers, driver), pinned(driver):
            found[f"ray_{count}"] = evaluated_there(folder, count) | swept_there(few)
    return found


def rated(found: dict[str, Any], count: int) -> dict[str, Any]:
    """With the rates that these seconds make, and how much of so many times one worker's rate they are."""
    for engine, timed in found.items():
        timed["images_per_s"] = count / timed["evaluation_s"]
        timed["variants_per_hour"] = 3600 * len(VARIANTS) / timed["variants_s"]
        if workers := int(engine.partition("_")[2] or 0):
            for rate in ("images_per_s", "variants_per_hour"):
                timed[f"efficiency_of_{rate}"] = timed[rate] / found["ray_1"][rate] / workers
        print(engine, json.dumps({name: round(value, 2) for name, value in timed.items()}), flush=True)
    return found


def main() -> None:
    target, count = Path(sys.argv[1]).absolute(), int(sys.argv[2]) if len(sys.argv) > 2 else 5000
    few_images = max(len(images.files(ROOT / paths.CALIBRATION)), count // 20)
    found: dict[str, Any] = {
        "machine": describe_machine(None), "model": files.read_json(ROOT / paths.MODEL)["name"], "images": count,
        "images_of_each_variant": few_images, "variants": VARIANTS, "evaluated": EVALUATED, "batch_size": BATCH,
        "cores_of_a_node": EACH, "nodes_have_cores_of_their_own": APART,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        folder, few = checkout(Path(place) / "many", count), checkout(Path(place) / "few", few_images)
        steps: dict[str, Callable[[], Any]] = {
            "overhead": partial(overhead, folder), "scaling": lambda: rated(scaling(folder, few), count)
        }  # fmt: skip
        for name, step in steps.items():
            found[name] = step()
            files.write_json(target, found)
    for key in ("evaluation_s", "first_evaluation_s"):
        print(f"overhead on one worker, {key}: {found['overhead'][f'overhead_of_{key}']:+.1%} (bar: 10 %)")


if __name__ == "__main__":
    main()
