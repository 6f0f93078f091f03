"""Convert, evaluate and time all variants on a Ray cluster, for the stages of the variants to adopt.

Of the GPU models of a cluster one is the home model, whose results they adopt; the others add rows to the report.
What is finished is kept at once, under a key of all it was made from: a sweep that was interrupted goes on from there.
"""

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from tqdm import tqdm

from stages.cluster import ray, worker
from stages.cluster.kept import BENCHMARK, LOCAL, Kept, Sweep, pack, unpack, write
from stages.cluster.ray import Cluster
from stages.cluster.worker import Machine
from stages.contracts import labels, paths
from stages.contracts.predictions import Prediction
from stages.contracts.preprocessing import Preprocessing
from stages.contracts.variant import Variant
from stages.core import errors, files
from stages.core.errors import PipelineError
from stages.measurement import evaluation, system
from stages.params import document
from stages.params.document import Params

# What a worker needs of this checkout; the images are read where they lie.
INPUTS = (paths.SAVED_MODEL, paths.ONNX, paths.QAT, paths.CALIBRATION, paths.MODEL, paths.QAT_RECORD)
TABLE = paths.EVALUATION / "labels.csv"
CODE = Path(__file__).parent


def fingerprint(**parts: Any) -> str:
    """One digest of plain values."""
    return files.combine([json.dumps(parts, sort_keys=True)])


def shared_key(machine: Machine) -> str:
    """What every result depends on: the code, the model and the machine."""
    code = {f"{path.parent.name}/{path.name}": files.sha256(path) for path in CODE.glob("*/*.py")}
    return fingerprint(code=code, model=files.sha256(paths.MODEL), machine=machine)


def converted_key(setting: Params, shared: str) -> dict[str, str]:
    """Of each variant, what its conversion depends on."""
    trained = [paths.QAT, paths.QAT_RECORD] if setting.asks_qat else []
    given = {str(path): files.digest(path) for path in (paths.SAVED_MODEL, paths.ONNX, paths.CALIBRATION, *trained)}
    plain = {name: value for name, value in given.items() if not name.startswith((str(paths.QAT), "reports"))}
    return {
        name: fingerprint(
            shared=shared,
            given=given if Variant.parse(name).qat else plain,
            options=setting.options(Variant.parse(name).runtime),
            sizes=setting.engine_batch_sizes(),
            repeats=setting.convert.repeats,
        )
        for name in setting.variants
    }


def in_order(rows: Iterable[Mapping[str, Any]], table: Sequence[tuple[str, int]], size: int) -> Iterator[Prediction]:
    """Predictions of all images from batches that come in any order; PipelineError unless each is there once.

    Only what came too early waits in memory.
    """
    early: dict[int, str] = {}
    due = 0
    for row in rows:
        if row["error"]:
            raise PipelineError(row["error"])
        if row["index"] < due or row["index"] in early:
            raise PipelineError(f"batch {row['index']} was answered twice: run the same command again")
        early[row["index"]] = row["answers"]
        while due in early:
            answers = json.loads(early.pop(due))
            images = table[due * size : (due + 1) * size]
            if len(answers) != len(images):
                raise PipelineError(
                    f"batch {due} has {len(answers)} of {len(images)} answers: run the same command again"
                )
            yield from (Prediction(*image, *answer) for image, answer in zip(images, answers, strict=True))
            due += 1
    if early or due * size < len(table):
        raise PipelineError(f"batch {due} was never answered: run the same command again")


class Sweeping:
    """One sweep on the nodes of one GPU model."""

    def __init__(self, setting: Params, kept: Kept, nodes: Cluster, machine: Machine, bar: "tqdm[Any]") -> None:
        """Nothing is started yet."""
        self._setting = setting
        self._kept = kept
        self._nodes = nodes
        self._machine = machine
        self._bar = bar
        self._shared = shared_key(machine)
        self._size = setting.evaluation.batch_size
        self._prepared = Preprocessing.from_json(files.read_json(paths.MODEL)["preprocessing"])
        self._decode = partial(worker.decode_batch, _images(setting), self._prepared)
        self.failed: dict[str, str] = {}
        self.problems: list[str] = []

    def convert_and_evaluate(self) -> None:
        """Convert all, and evaluate each as soon as it is converted."""
        keys = converted_key(self._setting, self._shared)
        done = [name for name, key in keys.items() if self._kept.has(f"convert@{name}", key)]
        left = len(keys) - sum(self._is_evaluated(name) for name in done)
        at_once = max(1, min(self._nodes.slots, left))
        pool = ThreadPoolExecutor(at_once)
        evaluated: list[Future[None]] = []
        try:
            # Before the conversions, since these may take all cores.
            first = self._first() if left else None
            tasks = self._start([name for name in keys if name not in done])
            if left:
                self._expect(first)
                evaluated.append(pool.submit(self._nodes.prepare))
            for name in self._converted(keys, done, tasks):
                evaluated.append(pool.submit(self._evaluate, name, self._nodes.slots // at_once))
            for future in evaluated:
                future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # after Ctrl-C nobody waits for what is under way

    def _first(self) -> Any:
        """Have a node decode the first images."""
        batch = next(self._batches(labels.read_table(TABLE)))
        return self._nodes.beside(worker.decode_batch, _images(self._setting), self._prepared, batch)

    def _start(self, names: Sequence[str]) -> dict[Any, str]:
        """Begin these conversions."""
        if not names:
            return {}
        inputs = self._nodes.put(pack(Path(), *map(str, INPUTS)))
        arguments = (self._setting, self._machine, inputs)
        return {self._nodes.start(worker.convert, name, *arguments): name for name in names}

    def _expect(self, first: Any) -> None:
        """PipelineError if a node could not read the first images: before hours of conversions."""
        try:
            error = self._nodes.result(first)["error"]
        except PipelineError:
            return  # a lost worker says nothing of the images, and those that follow may not be lost
        if error:
            raise PipelineError(error)

    def _converted(self, keys: Mapping[str, str], done: Sequence[str], tasks: Mapping[Any, str]) -> Iterable[str]:
        """Names of the variants, as they are converted or found to be."""
        for name in done:
            self._bar.update()
            yield name
        for task in self._nodes.finished(list(tasks)):
            name = tasks[task]
            self._convert(name, keys[name], task)
            yield name

    def _convert(self, name: str, key: str, task: Any) -> None:
        try:
            failed, content = self._nodes.result(task)
        except PipelineError as error:
            failed, content = str(error), {}
        self._end(f"convert@{name}", key, failed, content)

    def _end(self, unit: str, key: str, failed: str | None, content: Mapping[str, bytes]) -> None:
        if failed:
            self._fail(unit, failed)
        else:
            self._bar.update()
            with self._kept.keeping(unit, key) as folder:
                unpack(content, folder)

    def _fail(self, unit: str, reason: str) -> None:
        self._bar.update()
        self.failed[unit] = reason
        self.problems.append(f"{unit} failed: {reason}")
        self._kept.drop(unit)

    def _evaluated_key(self, name: str) -> str:
        return fingerprint(
            shared=self._shared,
            model=self._digest(name),
            images=files.digest(paths.IMAGES),
            batch_size=self._size,
        )

    def _is_evaluated(self, name: str) -> bool:
        """Or needs no evaluation, being converted into no model."""
        unit = f"evaluate@{name}"
        return self._kept.status(name) != "ok" or self._kept.has(unit, self._evaluated_key(name))

    def _evaluate(self, name: str, actors: int) -> None:
        """Nothing without a model, for the stage `evaluate` to tell."""
        unit = f"evaluate@{name}"
        if self._kept.status(name) != "ok":
            self._kept.drop(unit)
        elif not self._is_evaluated(name):
            try:
                with self._kept.keeping(unit, self._evaluated_key(name)) as folder:
                    self._write(folder, name, self.predict(name, actors))
            except PipelineError as error:
                self._fail(unit, str(error))
                return
        self._bar.update()

    def predict(self, name: str, actors: int) -> Iterator[Prediction]:
        """Classify every evaluation image, by so many objects that hold the kept model."""
        table = labels.read_table(TABLE)
        rows = list(self._batches(table))
        model = self._nodes.put(self._model(name))
        arguments = (name, model, self._prepared, self._machine)
        blocks = min(len(rows), self._nodes.blocks(len(table)))
        answers = self._nodes.stream(rows, self._decode, worker.Classifier, *arguments, actors=actors, blocks=blocks)
        return in_order(answers, table, self._size)

    def _batches(self, table: Sequence[tuple[str, int]]) -> Iterator[dict[str, Any]]:
        """What `worker.decode_batch` takes."""
        digests = labels.read_digests(TABLE)
        for index, start in enumerate(range(0, len(table), self._size)):
            names = [file for file, _ in table[start : start + self._size]]
            yield {"index": index, "files": names, "digests": list(itertools.islice(digests, self._size))}

    def _model(self, name: str) -> dict[str, bytes]:
        """The kept one, and the record of what it is of."""
        return pack(self._kept.folder(f"convert@{name}"), "models") | pack(Path(), str(paths.MODEL))

    def _digest(self, name: str) -> str:
        """Of the kept model and of how it is to be run."""
        return files.tree_digest(self._kept.folder(f"convert@{name}") / "models")

    @staticmethod
    def _write(folder: Path, name: str, found: Iterable[Prediction]) -> None:
        """What the stage `evaluate` writes; of the machines, which are many, Ray's own dashboard tells."""
        counts = evaluation.write(found, folder / paths.record(name, "predictions.csv"))
        system.write([], folder / paths.record(name, "evaluate_system.csv"))
        files.write_json(folder / paths.record(name, "evaluate.json"), {"status": "ok", "reason": None} | counts)

    def time(self) -> None:
        """Time all that were converted, when the cluster is idle again."""
        names = [name for name in self._setting.variants if self._kept.status(name) == "ok"]
        digests = {name: self._digest(name) for name in names}
        key = fingerprint(shared=self._shared, models=digests, setting=asdict(self._setting.benchmark))
        if self._kept.has(BENCHMARK, key):
            self._bar.update()
        else:
            models = [self._nodes.put(self._model(name)) for name in names]
            arguments = (names, self._setting.benchmark, models, self._machine)
            task = self._nodes.start(worker.benchmark, *arguments, alone=True)
            try:
                failed, content = self._nodes.result(task)
                self.problems += failed
                # Kept to be adopted, and timed again by the next sweep if a variant could not be.
                self._end(BENCHMARK, "" if failed else key, None, content)
            except PipelineError as error:
                self._end(BENCHMARK, key, str(error), {})

    def source(self, name: str) -> str:
        """Digest of what is kept of a variant, or of the benchmark, and of why there is no more."""
        reasons = [reason for unit, reason in sorted(self.failed.items()) if unit.partition("@")[2] in ("", name)]
        return files.combine([files.tree_digest(self._kept.place / name), *reasons])

    def write_records(self, root: Path) -> None:
        """The records that the stages would write of this GPU model, with `root` for the checkout."""
        lost = {unit: {"status": "failed", "reason": reason} for unit, reason in self.failed.items()}
        files.write_json(root / paths.ENVIRONMENT, self._machine)
        for name in self._setting.variants:
            for stage in ("convert", "evaluate"):
                unit = f"{stage}@{name}"
                unpack(pack(self._kept.folder(unit), "reports"), root)
                if unit in lost:
                    files.write_json(root / paths.record(name, f"{stage}.json"), lost[unit])
        unpack(pack(self._kept.folder(BENCHMARK), str(paths.BENCHMARK)), root)
        if BENCHMARK in lost:
            found = {"variants": dict.fromkeys(self._setting.variants, lost[BENCHMARK])}
            files.write_json(root / paths.BENCHMARK, found)


def _images(setting: Params) -> str:
    """Where nodes find the files of data/evaluation."""
    return setting.execution.images or str(paths.EVALUATION.absolute())


def sweep(setting: Params) -> tuple[Sweep, list[str]]:
    """Sweep, write the records of all GPU models but home, and say what there is to adopt, and what failed."""
    models = files.read_json(paths.GPU_MODELS)
    worker.place_of(_images(setting))  # before hours of conversions
    found = _swept(setting, {models["home"]: files.read_json(paths.ENVIRONMENT)} | models["others"])
    _clean(paths.SWEEP, found)
    for name in found:
        _clean(Kept(name).place, (*setting.variants, BENCHMARK))
    home, others = found[models["home"]], {name: found[name] for name in models["others"]}
    with files.new_directory(paths.OTHER_GPUS) as folder:
        for name, other in others.items():
            other.write_records(folder / name)
    problems = home.problems + [f"on {name}: {problem}" for name, other in others.items() for problem in other.problems]
    sources: dict[str, str | None] = {name: home.source(name) for name in setting.variants}
    timed = home.source(BENCHMARK)
    return Sweep("ray", models["home"], LOCAL.sources | sources, timed, home.failed), problems


def _swept(setting: Params, machines: Mapping[str, Machine]) -> dict[str, Sweeping]:
    """The sweeps of all these GPU models, done."""
    units = len(machines) * (2 * len(setting.variants) + 1)
    with ray.joined(setting.execution) as parts, tqdm(desc="sweep", total=units, disable=None) as bar:
        if gone := sorted(set(machines) - set(parts)):
            raise PipelineError(f"the Ray cluster has lost the GPU model {', '.join(gone)}: run the same command again")
        found = {name: Sweeping(setting, Kept(name), parts[name], machine, bar) for name, machine in machines.items()}
        with _told_at_once():
            _side_by_side([sweeping.convert_and_evaluate for sweeping in found.values()])
            # Only now, since any node decodes images, one that times too.
            _side_by_side([sweeping.time for sweeping in found.values()])
    return found


@contextmanager
def _told_at_once() -> Iterator[None]:
    """Tell an error or Ctrl-C and end the process: threads are at work in Ray, which else ends it without a word."""
    try:
        yield
    except BaseException as error:
        errors.tell(error)
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()  # a cluster of this machine alone
        os._exit(1)


def _clean(folder: Path, names: Iterable[str]) -> None:
    """Remove all folders but these."""
    for stale in {path.name for path in folder.glob("*")} - set(names):
        shutil.rmtree(folder / stale)


def _side_by_side(works: Sequence[Callable[[], None]]) -> None:
    """Do them all at once; after an error, or Ctrl-C, nobody waits for what is under way."""
    pool = ThreadPoolExecutor(len(works))
    try:
        for future in [pool.submit(work) for work in works]:
            future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def main() -> None:
    """Read params, sweep if the engine is ray, and write models/sweep, reports/other_gpus and the record of it."""
    setting = document.load()
    if setting.execution.engine == "local":
        with files.new_directory(paths.SWEEP), files.new_directory(paths.OTHER_GPUS):
            write(LOCAL)
        return
    found, problems = sweep(setting)
    write(found)
    if problems:
        # DVC takes the stage for unfinished, and the next run tries again what failed, and that alone.
        raise PipelineError("; ".join(problems))


if __name__ == "__main__":
    errors.run(main)
