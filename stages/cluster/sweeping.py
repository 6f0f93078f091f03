"""One sweep on the nodes of one GPU model: what is started when, what is kept, and what failed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from stages.cluster import batches, worker
from stages.cluster.adopt import BENCHMARK, pack, unpack
from stages.cluster.batches import TABLE
from stages.cluster.kept import Kept
from stages.cluster.keys import Keys
from stages.cluster.ray import Cluster
from stages.contracts import codec, labels, system, timing
from stages.contracts.conversion import Conversion, Scalar, conversion_path
from stages.contracts.environment import ENVIRONMENT, Environment
from stages.contracts.evaluation import Evaluation, evaluation_path, predictions_path
from stages.contracts.images import CALIBRATION, EVALUATION, IMAGES
from stages.contracts.model import MODEL, ONNX, ONNX_RECORD, SAVED_MODEL, ModelRecord
from stages.contracts.predictions import Prediction
from stages.contracts.reference import ANSWERS
from stages.contracts.status import OK, Status
from stages.contracts.system import system_path
from stages.contracts.timing import TIMING, Timing, VariantTiming
from stages.contracts.training import QAT, QAT_RECORD
from stages.contracts.variant import Variant
from stages.core import files
from stages.core.errors import PipelineError
from stages.measurement import conversion, interleave
from stages.params.execution import ExecutionParams
from stages.params.measurement import BenchmarkParams
from stages.runtimes import predict

# What a worker needs of this checkout; the images are read where they lie.
INPUTS = (SAVED_MODEL, ONNX, QAT, CALIBRATION, MODEL, ANSWERS, QAT_RECORD, ONNX_RECORD, IMAGES)


@dataclass(frozen=True)
class Setting:
    """What params.yaml says; `options` has the runtimes' blocks."""

    variants: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    builds: int
    evaluation_batch_size: int
    benchmark: BenchmarkParams
    execution: ExecutionParams
    options: dict[str, dict[str, Scalar]]

    def conversion(self, name: str) -> conversion.Setting:
        """Of one variant."""
        return conversion.Setting(self.batch_sizes, self.builds, self.options[Variant.parse(name).runtime])

    @property
    def images(self) -> str:
        """Where nodes find the files of data/evaluation."""
        return self.execution.images or str(EVALUATION.absolute())


class Sweeping:
    """One sweep on the nodes of one GPU model."""

    def __init__(
        self, setting: Setting, kept: Kept, nodes: Cluster, environment: Environment, keys: Keys, bar: "tqdm[Any]"
    ) -> None:
        """Nothing is started yet."""
        self._setting = setting
        self._kept = kept
        self._nodes = nodes
        self._environment = environment
        self._keys = keys
        self._bar = bar
        self._size = setting.evaluation_batch_size
        self._preprocessing = codec.read(ModelRecord, MODEL).preprocessing
        self._decode = partial(worker.decode_batch, setting.images, self._preprocessing)
        self.failed: dict[str, str] = {}
        self.problems: list[str] = []

    def convert_and_evaluate(self) -> None:
        """Convert all, and evaluate each as soon as it is converted."""
        keys = {name: self._keys.convert(name, self._setting.conversion(name)) for name in self._setting.variants}
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
        first = next(batches.of_evaluation(labels.read_table(TABLE), self._size))
        return self._nodes.beside(worker.decode_batch, self._setting.images, self._preprocessing, first)

    def _start(self, names: Sequence[str]) -> dict[Any, str]:
        """Begin these conversions."""
        if not names:
            return {}
        inputs = self._nodes.put(pack(Path(), *map(str, INPUTS)))
        return {
            self._nodes.start(worker.convert, name, self._setting.conversion(name), self._environment, inputs): name
            for name in names
        }

    def _expect(self, first: Any) -> None:
        """PipelineError if a node could not read the first images: before hours of conversions."""
        try:
            error = self._nodes.result(first)["error"]
        except PipelineError:
            return  # a lost worker says nothing of the images, and those that follow may not be lost
        if error:
            raise PipelineError(error, code="first-images")

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
        return self._keys.evaluate(name, self._digest(name), self._size)

    def _is_evaluated(self, name: str) -> bool:
        """Or needs no evaluation, being converted into no model."""
        return not self._kept.has_model(name) or self._kept.has(f"evaluate@{name}", self._evaluated_key(name))

    def _evaluate(self, name: str, actors: int) -> None:
        """Nothing without a model, for the stage `evaluate` to tell."""
        unit = f"evaluate@{name}"
        if not self._kept.has_model(name):
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
        rows = list(batches.of_evaluation(table, self._size))
        arguments = (name, self._nodes.put(self._model(name)), self._preprocessing, self._environment)
        parts = min(len(rows), self._nodes.blocks(len(table)))
        answers = self._nodes.stream(rows, self._decode, worker.Classifier, *arguments, actors=actors, blocks=parts)
        return batches.in_order(answers, table, self._size)

    def _model(self, name: str) -> dict[str, bytes]:
        """The kept one, and the record of what it is of."""
        return pack(self._kept.folder(f"convert@{name}"), "models") | pack(Path(), str(MODEL))

    def _digest(self, name: str) -> str:
        """Of the kept model and of how it is to be run."""
        return files.tree_digest(self._kept.folder(f"convert@{name}") / "models")

    @staticmethod
    def _write(folder: Path, name: str, rows: Iterable[Prediction]) -> None:
        """What the stage `evaluate` writes; of the machines, which are many, Ray's own dashboard tells."""
        counts = predict.write(rows, folder / predictions_path(name), name)
        system.write([], folder / system_path(name, "evaluate"))
        codec.write(Evaluation(OK, counts), folder / evaluation_path(name))

    def time(self) -> None:
        """Time all that were converted, when the cluster is idle again."""
        names = [name for name in self._setting.variants if self._kept.has_model(name)]
        key = self._keys.benchmark({name: self._digest(name) for name in names}, self._setting.benchmark)
        if self._kept.has(BENCHMARK, key):
            self._bar.update()
        else:
            models = [self._nodes.put(self._model(name)) for name in names]
            arguments = (names, self._setting.benchmark, models, self._environment)
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
        codec.write(self._environment, root / ENVIRONMENT)
        for name in self._setting.variants:
            for stage in ("convert", "evaluate"):
                unpack(pack(self._kept.folder(f"{stage}@{name}"), "reports"), root)
        unpack(pack(self._kept.folder(BENCHMARK), "reports"), root)
        for unit, reason in self.failed.items():
            self._write_failure(root, unit, Status("failed", reason))

    def _write_failure(self, root: Path, unit: str, status: Status) -> None:
        stage, _, name = unit.partition("@")
        if stage == "convert":
            codec.write(Conversion(Variant.parse(name), status), root / conversion_path(name))
        elif stage == "evaluate":
            codec.write(Evaluation(status), root / evaluation_path(name))
        else:
            failed = dict.fromkeys(self._setting.variants, VariantTiming(status))
            codec.write(Timing(interleave.BLOCKS, failed), root / TIMING)
            timing.write_samples([], root / timing.SAMPLES)
