"""Time all variants in one run; adopts what a cluster timed."""

from stages.common import errors, params, sweeps
from stages.common.errors import PipelineError
from stages.runtimes import interleaved


def main() -> None:
    """Read params, time every variant that has a model, and write benchmark.json and samples.csv."""
    setting = params.load()
    sweep = sweeps.read()
    if sweep.benchmark and sweeps.BENCHMARK not in sweep.failed:
        sweep.adopt(sweeps.BENCHMARK)
        failed = interleaved.failures()
    else:
        names = interleaved.ready(setting.variants)
        lost = sweep.failed.get(sweeps.BENCHMARK)
        failed = interleaved.lost(names, lost) if lost else interleaved.run(names, setting.benchmark)
    if failed:
        raise PipelineError("; ".join(failed))


if __name__ == "__main__":
    errors.run(main)
