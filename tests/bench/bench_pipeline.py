"""Measure the pipeline's own speed: `make bench-pipeline`, or a part: `python -m tests.bench.bench_pipeline NAME`.

Everything runs in a temporary clone of what is committed here, with the environment that runs this file. Machines are
noisy, so these are figures to read, with their ratios taken within one run, and never tests.
"""

import csv
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from stages.contracts import codec
from stages.contracts.conversion import MANIFEST, ConvertJob, Manifest
from stages.contracts.conversion import folder as model_folder
from stages.contracts.evaluation import Counts
from stages.contracts.images import CALIBRATION
from stages.contracts.messages import BatchOrder, Block, BlockOrder, Converted, Loaded, LoadOrder, PredictOrder
from stages.contracts.preprocessing import Preprocessing
from stages.contracts.reference import Reference
from stages.contracts.status import OK
from stages.contracts.timing import TERMS, Memory, WarmUp
from stages.contracts.variant import Variant
from stages.core import isolate
from stages.data import batches, decode
from stages.measurement import quiet
from stages.measurement.quiet import Watch
from stages.runtimes import host, loading
from stages.runtimes.client import Client
from stages.runtimes.contract import infer
from stages.runtimes.timer import images_of
from tests.fixtures import tiny

ROOT = Path(__file__).parents[2]
PREPROCESSING = Preprocessing(224, 224, "crop", 0.875, (1 / 128,) * 3, (-127 / 128,) * 3, "rgb")
CORES = len(os.sched_getaffinity(0))
# Of the harness: others on the machine disturb a single thread less.
THREADS = int(os.environ.get("BENCH_THREADS", "1"))
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def copy_of_checkout(folder: Path) -> None:
    """Clone what git tracks, as a fresh clone would have it."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)


def timed(folder: Path, *command: str) -> tuple[float, dict[str, float]]:
    """Seconds of wall time, and of each stage that ran, DVC's own work on it included."""
    start, stages = time.perf_counter(), {}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, **pipes) as process:
        output = []
        for line in process.stdout:
            output.append(line)
            if line.startswith("Running stage"):
                stages[line.split("'")[1]] = time.perf_counter()
    if process.returncode != 0:
        raise SystemExit("".join(output))
    end = time.perf_counter()
    ends = [*list(stages.values())[1:], end]
    return end - start, {name: end - begin for (name, begin), end in zip(stages.items(), ends, strict=True)}


def pipeline(folder: Path) -> None:
    """A clean run, a run with nothing to do, and a run with one more variant."""
    copy_of_checkout(folder / "clone")
    clone = folder / "clone"
    repro = ("python", "-m", "stages", "run", "dvc", "repro", "--ignore-errors")
    seconds, stages = timed(clone, *repro)
    print(f"clean run: {seconds:.0f} s (bar: 150 s): {profile(stages)}")
    print(f"nothing to do: {statistics.median(timed(clone, 'dvc', 'repro')[0] for _ in range(3)):.1f} s (bar: 5 s)")
    params = clone / "params.yaml"
    params.write_text(params.read_text().replace("  - tflite-fp16\n", "  - tflite-fp16\n  - tflite-dynamic\n"))
    seconds, stages = timed(clone, *repro)
    print(f"one more variant: {seconds:.0f} s (bar: 60 s): {profile(stages)}")
    with (clone / "reports/samples.csv").open() as samples:
        # Without a GPU both terms are taken from the same calls.
        calls = [float(row["ms"]) for row in csv.DictReader(samples) if row["term"] == "latency_host"]
    print(f"  of which {sum(calls) / 1000:.0f} s in {len(calls)} timed calls")


def profile(stages: dict[str, float]) -> str:
    """Seconds by stage, the slowest first."""
    return ", ".join(f"{name} {s:.1f}" for name, s in sorted(stages.items(), key=lambda item: -item[1]))


def model_of_this_checkout() -> Path:
    """The folder of the float TFLite model that `make repro` left here."""
    path = ROOT / model_folder("tflite-fp32")
    if not (path / MANIFEST).exists():
        raise SystemExit(f"run `make repro` first: this part measures {path}")
    return path


def photographs(folder: Path, count: int) -> list[Path]:
    """Copies of the calibration crops as JPEG of a typical size (short side 256)."""
    folder.mkdir()
    crops = [decode.decode(path) for path in batches.files(ROOT / CALIBRATION)]
    made = [folder / f"{index:05d}.jpg" for index in range(count)]
    for index, path in enumerate(made):
        if index < len(crops):
            crops[index].resize((341, 256), Image.Resampling.BICUBIC).save(path, quality=90)
        else:
            shutil.copyfile(made[index % len(crops)], path)
    return made


def evaluation(folder: Path) -> None:
    """Images per second of decoding alone, inference alone, and both as `evaluate` does them; memory at two sizes."""
    found = photographs(folder / "photos", 600)
    session = loading.load(model_of_this_checkout(), CORES)
    batch = next(batches.batches(found[:8], PREPROCESSING, 8))
    infer(session, batch)

    def decoding() -> None:
        with ThreadPoolExecutor(CORES) as pool:
            for _ in pool.map(lambda path: batches.load(path, PREPROCESSING), found):
                pass

    def inference() -> None:
        for _ in range(0, len(found), 8):
            infer(session, batch)

    def both() -> None:
        for decoded in batches.batches(found, PREPROCESSING, 8):
            infer(session, decoded)

    rates = {name.__name__: [] for name in (decoding, inference, both)}
    for _ in range(3):
        for part in (decoding, inference, both):
            rates[part.__name__].append(len(found) / seconds_of(part))
    median = {name: statistics.median(values) for name, values in rates.items()}
    slower = min(median["decoding"], median["inference"])
    print(", ".join(f"{name} {value:.0f} images/s" for name, value in median.items()))
    print(f"evaluation reaches {median['both'] / slower:.0%} of the slower part (bar: 85 %)")
    small, large = (resident_mb(folder, count) for count in (500, 5000))
    print(
        f"resident memory: {small:.0f} MB at 500 images, {large:.0f} MB at 5,000: {large / small - 1:+.1%} (bar: 10 %)"
    )


def seconds_of(work: Callable[[], None]) -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def resident_mb(folder: Path, count: int) -> float:
    """Peak memory of the worker that classifies so many images, as `evaluate` asks it."""
    place = folder / f"evaluation{count}"
    found = photographs(place, count)
    (place / "labels.csv").write_text("file,label\n" + "".join(f"{path.name},0\n" for path in found))
    with Client("tflite") as client:
        client.ask("load", LoadOrder(str(model_of_this_checkout()), None, PREPROCESSING), Loaded)
        order = PredictOrder(str(place), str(folder / "predictions.csv"), 8)
        assert client.ask("predict", order, Counts).images == count
        return client.ask("memory", None, Memory).peak_memory_bytes / 1e6


def harness(folder: Path) -> None:
    """p50 of a worker, asked as `benchmark` asks it with its meter, against a bare interpreter loop here, in alternate
    blocks.
    """
    model = tiny_model(folder)
    bare = bare_loop(model)
    image = images_of(1, PREPROCESSING)
    ours: list[float] = []
    theirs: list[float] = []
    watch = Watch(quiet.meter(), 0.05)
    with Client("tflite") as client:
        client.ask("load", LoadOrder(str(model), THREADS, PREPROCESSING), Loaded)
        client.ask("warm_up", BatchOrder(1), WarmUp)
        bare(image, 20)
        watch.settle()
        order = BlockOrder(1, dict.fromkeys(TERMS, 19))
        for _ in range(60):
            theirs += bare(image, 20)[1:]
            block, _use = watch.around(partial(client.ask, "block", order, Block))
            ours += block.ms["latency"]
    ratio = np.median(ours) / np.median(theirs)
    medians = f"{np.median(ours):.3f} ms by the worker, {np.median(theirs):.3f} ms in a bare loop"
    print(f"TFLite p50 with {THREADS} thread(s): {medians}: {ratio - 1:+.1%} (bar: 3 %)")


def bare_loop(model: Path) -> Callable[[np.ndarray, int], list[float]]:
    """Milliseconds of so many calls of LiteRT's own interpreter, without anything of this pipeline."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(model / "model.tflite"), num_threads=THREADS)
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run(image: np.ndarray, calls: int) -> list[float]:
        times = []
        for _ in range(calls):
            interpreter.set_tensor(source, image)
            start = time.perf_counter()
            interpreter.invoke()
            interpreter.get_tensor(result)
            times.append((time.perf_counter() - start) * 1000)
        return times

    return run


def tiny_model(folder: Path) -> Path:
    """A convolution and a softmax as a TFLite file: of so short a call a harness takes the largest share."""
    isolate.call(save_tiny, folder)
    target = folder / "tflite-fp32"
    target.mkdir()
    options = loading.defaults("tflite", {})
    job = ConvertJob(
        str(folder / "saved_model"),
        "",
        str(target),
        "fp32",
        (1,),
        str(folder / "none"),
        PREPROCESSING,
        options,
        Reference(str(folder / "answers.npy"), 0, 1e-4),
    )
    with Client("tflite") as client:
        client.ask("convert", job, Converted)
    codec.write(Manifest(Variant("tflite", "fp32"), OK, options), target / MANIFEST)
    return target


def save_tiny(folder: Path) -> None:
    """In a process of its own, so that TensorFlow's threads are not in this one."""
    answer = tiny.save_tiny(folder / "saved_model", PREPROCESSING.shape, 1000)
    tiny.write_answers(folder / "answers.npy", answer, PREPROCESSING, folder / "none")


def main() -> None:
    """Run the parts that are named, or all."""
    parts = {"pipeline": pipeline, "evaluation": evaluation, "harness": harness}
    machine = host.describe_machine(None)
    print(f"{machine.cpu}, {machine.cores} cores, Python {platform.python_version()}")
    for name in sys.argv[1:] or parts:
        with tempfile.TemporaryDirectory() as folder:
            parts[name](Path(folder))


if __name__ == "__main__":
    main()
