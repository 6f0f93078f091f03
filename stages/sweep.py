"""Convert, evaluate and time all variants on a Ray cluster, if `execution.engine` is ray."""

from stages.cluster import adopt
from stages.cluster.sweep import sweep, with_training
from stages.cluster.sweeping import Setting
from stages.contracts.environment import OTHER_GPUS
from stages.core import errors, files
from stages.core.errors import PipelineError
from stages.params import load
from stages.params.data import EvaluationParams
from stages.params.execution import ExecutionParams
from stages.params.measurement import BenchmarkParams, ConvertParams, engine_batch_sizes, variants
from stages.runtimes import registry


def main() -> None:
    """Read params, sweep, and write models/sweep, reports/other_gpus and the record of it."""
    execution, names = load.read(ExecutionParams), variants()
    adopt.forget(names, registry.valid())
    if execution.engine == "local":
        with files.new_directory(adopt.SWEEP), files.new_directory(OTHER_GPUS):
            adopt.write(with_training(adopt.local(names), names))
        return
    benchmark, batch_size = load.read(BenchmarkParams), load.read(EvaluationParams).batch_size
    options = {runtime: load.options(runtime) for runtime in registry.RUNTIMES}
    sizes, builds = engine_batch_sizes(benchmark, batch_size), load.read(ConvertParams).repeats
    with files.new_directory(OTHER_GPUS):
        adopt.write(adopt.lost(names))  # what stays if this process is ended
    try:
        record, problems = sweep(Setting(names, sizes, builds, batch_size, benchmark, execution, options))
    except PipelineError as error:
        adopt.write(adopt.lost(names, str(error)))
        raise
    adopt.write(with_training(record, names))
    if problems:
        # DVC takes the stage for unfinished, and the next run tries again what failed, and that alone.
        raise PipelineError("; ".join(problems), code="sweep-failed")


if __name__ == "__main__":
    errors.run(main)
