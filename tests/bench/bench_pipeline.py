"""Measure the pipeline's own speed: `make bench-pipeline`, or a part: `python -m tests.bench.bench_pipeline NAME`.

Everything runs in a temporary clone of what is committed here, with the environment that runs this file. Machines are
noisy, so these are figures to read, with their ratios taken within one run, and never tests.
"""

import csv
import os
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

from stages.contracts.preprocessing import Preprocessing
from stages.data import batches, decode
from stages.environment import describe_machine
from stages.runtimes.contract import infer
from stages.runtimes.tflite import TFLiteSession

ROOT = Path(__file__).parents[2]
PREPROCESSING = Preprocessing(224, 224, "crop", 0.875, (1 / 128,) * 3, (-127 / 128,) * 3, "rgb")
CORES = len(os.sched_getaffinity(0))
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
    """The float TFLite file that `make repro` left here."""
    path = ROOT / "models/tflite-fp32/model.tflite"
    if not path.exists():
        raise SystemExit("run `make repro` first: this part measures models/tflite-fp32/model.tflite")
    return path


def photographs(folder: Path, count: int) -> list[Path]:
    """Copies of the calibration crops as JPEG of a typical size (short side 256)."""
    folder.mkdir()
    crops = [decode.decode(path) for path in batches.files(ROOT / "data/calibration")]
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
    session = TFLiteSession(model_of_this_checkout(), xnnpack=True, threads=CORES)
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
    """Peak memory of `evaluate`'s own loop over `count` images, in a fresh process and a folder laid out as here."""
    place = folder / f"evaluation{count}"
    (place / "data").mkdir(parents=True)
    found = photographs(place / "data/evaluation", count)
    (place / "data/evaluation/labels.csv").write_text("file,label\n" + "".join(f"{p.name},0\n" for p in found))
    shutil.copytree(ROOT / "models/tflite-fp32", place / "models/tflite-fp32")
    (place / "reports").mkdir()
    shutil.copy(ROOT / "reports/model.json", place / "reports")
    code = (
        "from stages.runtimes import evaluation; from stages.runtimes.timer import peak_resident_bytes\n"
        f"assert evaluation.evaluate('tflite-fp32', 8)['images'] == {count}\n"
        "print(peak_resident_bytes())"
    )
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place, env=environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout) / 1e6


def harness(folder: Path) -> None:
    """p50 of `benchmark` against a bare interpreter loop, in alternate blocks of one process."""
    from ai_edge_litert.interpreter import Interpreter

    from stages.runtimes import Manifest
    from stages.runtimes.timer import TERMS, Stopwatch, images_of

    path = model_of_this_checkout()
    os.chdir(ROOT)
    bare = Interpreter(str(path), num_threads=CORES)
    bare.allocate_tensors()
    source, result = bare.get_input_details()[0]["index"], bare.get_output_details()[0]["index"]
    watch = Stopwatch(partial(Manifest.read("tflite-fp32").load, CORES), PREPROCESSING)
    image = images_of(1, PREPROCESSING)

    def bare_block(calls: int) -> list[float]:
        times = []
        for _ in range(calls):
            bare.set_tensor(source, image)
            start = time.perf_counter()
            bare.invoke()
            bare.get_tensor(result)
            times.append((time.perf_counter() - start) * 1000)
        return times

    ours: list[float] = []
    theirs: list[float] = []
    watch.warm_up(1)
    bare_block(20)
    for _ in range(40):
        theirs += bare_block(20)[1:]
        ours += watch.block(1, dict.fromkeys(TERMS, 19))["latency"]
    ratio = np.median(ours) / np.median(theirs)
    medians = f"{np.median(ours):.3f} ms in the harness, {np.median(theirs):.3f} ms bare"
    print(f"TFLite p50: {medians}: {ratio - 1:+.1%} (bar: 3 %)")


def main() -> None:
    """Run the parts that are named, or all."""
    parts = {"pipeline": pipeline, "evaluation": evaluation, "harness": harness}
    machine = describe_machine(None)
    print(f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}")
    for name in sys.argv[1:] or parts:
        with tempfile.TemporaryDirectory() as folder:
            parts[name](Path(folder))


if __name__ == "__main__":
    main()
