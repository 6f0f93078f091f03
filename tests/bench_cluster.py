"""Measure the engine ray against the local one: `python -m tests.bench_cluster FILE.json [IMAGES]`.

It takes what `make repro` left here, in a folder of its own. All nodes are on this machine and share its cores, so more
of them show what the cluster costs, not what more machines gain. These are figures to read, and never tests.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from stages import sweep
from stages.common import cluster, files, images, labels, paths
from stages.common.images import Preprocessing
from stages.common.params import ExecutionParams
from stages.environment import describe_machine
from stages.runtimes import away, evaluation
from tests.bench_pipeline import ENVIRONMENT, ROOT, photographs, seconds_of

VARIANTS = ["tflite-fp32", "onnxruntime-fp32"]
EVALUATED = VARIANTS[0]
NODES = (1, 2, 4)
BATCH = 8
INPUTS = (*sweep.INPUTS, paths.IMAGES, paths.ENVIRONMENT)


def checkout(folder: Path, count: int) -> Path:
    """What the stages before `sweep` left here, with so many other images to evaluate."""
    for path in [path for path in (*INPUTS, paths.model(EVALUATED)) if (ROOT / path).exists()]:
        (folder / path.parent).mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / path).is_dir() else shutil.copy)(ROOT / path, folder / path)
    files.write_json(folder / paths.GPU_MODELS, {"home": cluster.UNLABELLED, "others": {}})
    found = photographs(folder / paths.EVALUATION, count)
    files.write_csv(folder / paths.EVALUATION / "labels.csv", ("file", "label"), [(path.name, 0) for path in found])
    return folder


def write_params(folder: Path, engine: str) -> None:
    values = yaml.safe_load((ROOT / paths.PARAMS).read_text())
    values["variants"], values["evaluation"]["batch_size"] = VARIANTS, BATCH
    values["benchmark"] |= {"batch_sizes": [1], "min_samples": 20, "min_seconds": 0}
    values["execution"] |= {"engine": engine}
    (folder / paths.PARAMS).write_text(yaml.safe_dump(values))


def stage(folder: Path, *command: str) -> None:
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT), cluster.ADDRESS: os.environ.get(cluster.ADDRESS, "")}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, env=environment, check=False, **pipes)
    if done.returncode != 0:
        raise SystemExit(done.stdout)


@contextmanager
def nodes(count: int) -> Iterator[None]:
    """A cluster of so many nodes of one core each, beside a head that does no work."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(count):
        made.add_node(num_cpus=1)
    os.environ[cluster.ADDRESS] = made.address
    yield
    del os.environ[cluster.ADDRESS]
    made.shutdown()


def local(folder: Path, few: Path) -> dict[str, float]:
    """Seconds of an evaluation and of all variants, each in processes of its own, as DVC starts them."""
    code = f"from stages.runtimes import evaluation; evaluation.evaluate({EVALUATED!r}, {BATCH})"
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT)}
    evaluate = partial(subprocess.run, [sys.executable, "-c", code], cwd=folder, env=environment, check=True)
    write_params(few, "local")

    def variants() -> None:
        stage(few, "stages.sweep")
        for name in VARIANTS:
            stage(few, "stages.convert", name)
            stage(few, "stages.evaluate", name)
        stage(few, "stages.benchmark")

    return {"evaluation_s": seconds_of(evaluate), "variants_s": seconds_of(variants)}


def on_nodes(count: int, folder: Path, few: Path) -> dict[str, float]:
    """The same with Ray, and the seconds of them that joining the cluster takes."""
    write_params(few, "ray")
    shutil.rmtree(few / paths.SWEEP, ignore_errors=True)
    with nodes(count):
        variants = seconds_of(partial(stage, few, "stages.sweep"))
        os.chdir(folder)
        start = time.perf_counter()
        with cluster.joined(ExecutionParams("ray", None, 2, None), *sweep.INPUTS) as parts:
            (joined,) = parts.values()
            joined_s = time.perf_counter() - start
            evaluate(joined, count)
            evaluation_s = time.perf_counter() - start
    return {"evaluation_s": evaluation_s, "joining_s": joined_s, "variants_s": variants}


def evaluate(joined: cluster.Cluster, actors: int) -> None:
    """As the stage `sweep` does it."""
    table = labels.read_table(paths.EVALUATION / "labels.csv")
    prepared = Preprocessing.from_json(files.read_json(paths.MODEL)["preprocessing"])
    names = [name for name, _ in table]
    rows = [{"index": at // BATCH, "files": names[at : at + BATCH]} for at in range(0, len(names), BATCH)]
    model = joined.put(sweep.sweeps.pack(Path(), str(paths.model(EVALUATED))))
    decode = partial(away.decode, str(paths.EVALUATION.absolute()), prepared)
    arguments = (EVALUATED, model, prepared, files.read_json(paths.ENVIRONMENT))
    answers = joined.stream(rows, decode, away.Classifier, *arguments, actors=actors)
    assert evaluation.count(sweep.in_order(answers, table, BATCH))["images"] == len(table)


def rated(engine: str, timed: dict[str, float], count: int) -> dict[str, float]:
    """The seconds with the rates that they make."""
    rates = {
        "images_per_s": count / timed["evaluation_s"],
        "variants_per_hour": 3600 * len(VARIANTS) / timed["variants_s"],
    }
    print(engine, json.dumps({name: round(value, 1) for name, value in (timed | rates).items()}), flush=True)
    return timed | rates


def main() -> None:
    target, count = Path(sys.argv[1]).absolute(), int(sys.argv[2]) if len(sys.argv) > 2 else 5000
    few_images = max(len(images.files(ROOT / paths.CALIBRATION)), count // 20)
    found: dict[str, Any] = {
        "machine": describe_machine(None), "images": count, "images_of_each_variant": few_images,
        "variants": VARIANTS, "evaluated": EVALUATED, "batch_size": BATCH, "nodes_share_this_machine": True,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        folder, few = checkout(Path(place) / "many", count), checkout(Path(place) / "few", few_images)
        found["local"] = rated("local", local(folder, few), count)
        for workers in NODES:
            found[f"ray_{workers}"] = rated(f"ray_{workers}", on_nodes(workers, folder, few), count)
            os.chdir(ROOT)
    found["overhead_on_one_worker"] = found["ray_1"]["evaluation_s"] / found["local"]["evaluation_s"] - 1
    print(f"overhead on one worker: {found['overhead_on_one_worker']:+.1%} (bar: 10 %)")
    files.write_json(target, found)


if __name__ == "__main__":
    main()
