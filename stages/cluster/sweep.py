"""Convert, evaluate and time all variants on a Ray cluster, for the stages of the variants to adopt.

Of the GPU models of a cluster one is the primary, whose results they adopt; the others add rows to the report. What is
finished is kept at once, under a key of all it was made from: a sweep that was interrupted goes on from there.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace

import psutil
from tqdm import tqdm

from stages.cluster import adopt, ray, worker
from stages.cluster.adopt import BENCHMARK, SWEEP, Sweep
from stages.cluster.kept import Kept, clean
from stages.cluster.keys import Keys
from stages.cluster.sweeping import Setting, Sweeping
from stages.contracts import codec
from stages.contracts.environment import ENVIRONMENT, GPU_MODELS, OTHER_GPUS, Environment, GpuModels
from stages.contracts.training import QAT_RECORD, QatRecord
from stages.contracts.variant import Variant
from stages.core import errors, files
from stages.core.errors import PipelineError
from stages.runtimes.fingerprints import Digests


def sweep(setting: Setting) -> tuple[Sweep, list[str]]:
    """Sweep, write the records of all GPU models but the primary, and say what there is to adopt, and what failed."""
    models = codec.read(GpuModels, GPU_MODELS)
    worker.place_of(setting.images)  # before hours of conversions
    primary = str(models.primary)
    swept = _swept(setting, {primary: codec.read(Environment, ENVIRONMENT)} | models.others)
    clean(SWEEP, list(swept))
    for name in swept:
        clean(Kept(name).place, [*setting.variants, BENCHMARK])
    with files.new_directory(OTHER_GPUS) as folder:
        for name in models.others:
            swept[name].write_records(folder / name)
    adopted = swept[primary]
    theirs = [f"on {name}: {problem}" for name in models.others for problem in swept[name].problems]
    sources: dict[str, str | None] = {name: adopted.source(name) for name in setting.variants}
    record = Sweep("ray", primary, sources, adopted.source(BENCHMARK), adopted.failed)
    return record, adopted.problems + theirs


def with_training(record: Sweep, variants: tuple[str, ...]) -> Sweep:
    """With what each variant takes of models/qat, so that a training again converts those variants alone."""
    taking = {name for name in variants if Variant.parse(name).qat}
    digest = codec.read(QatRecord, QAT_RECORD).digest if taking else None
    return replace(record, trained={name: digest if name in taking else None for name in variants})


def _swept(setting: Setting, machines: Mapping[str, Environment]) -> dict[str, Sweeping]:
    """The sweeps of all these GPU models, done."""
    units = len(machines) * (2 * len(setting.variants) + 1)
    with ray.joined(setting.execution) as parts, tqdm(desc="sweep", total=units, disable=None) as bar:
        if gone := sorted(set(machines) - set(parts)):
            raise PipelineError(
                f"the Ray cluster has lost the GPU model {', '.join(gone)}: run the same command again",
                code="gpu-model-lost",
                gpu_model=gone[0],
            )
        swept = {
            name: Sweeping(setting, Kept(name), parts[name], machine, _keys(setting, machine), bar)
            for name, machine in machines.items()
        }
        with _ended_at_once(setting.variants):
            _side_by_side([sweeping.convert_and_evaluate for sweeping in swept.values()])
            # Only now, since any node decodes images, one that times too.
            _side_by_side([sweeping.time for sweeping in swept.values()])
    return swept


def _keys(setting: Setting, machine: Environment) -> Keys:
    """Made as `environment` makes reports/fingerprints.json, which has them of the primary GPU model."""
    return Keys(Digests(machine, setting.options).of(setting.variants))


@contextmanager
def _ended_at_once(variants: tuple[str, ...]) -> Iterator[None]:
    """Tell an error or Ctrl-C and end the process: threads are at work in Ray, which else ends it without a word."""
    try:
        yield
    except BaseException as error:
        errors.tell(error)
        if isinstance(error, PipelineError):
            adopt.write(adopt.lost(variants, str(error)))
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()  # a cluster of this machine alone
        os._exit(1)


def _side_by_side(works: Sequence[Callable[[], None]]) -> None:
    """Do them all at once; after an error, or Ctrl-C, nobody waits for what is under way."""
    pool = ThreadPoolExecutor(len(works))
    try:
        for future in [pool.submit(work) for work in works]:
            future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
