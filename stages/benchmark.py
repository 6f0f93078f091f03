"""Time all variants in one run; adopts what a cluster timed."""

from stages.cluster import kept
from stages.core import errors
from stages.core.errors import PipelineError
from stages.measurement import interleave
from stages.params import document


def main() -> None:
    """Read params, time every variant that has a model, and write benchmark.json and samples.csv."""
    setting = document.load()
    sweep = kept.read()
    if sweep.benchmark and kept.BENCHMARK not in sweep.failed:
        sweep.adopt(kept.BENCHMARK)
        failed = interleave.failures()
    else:
        names = interleave.ready(setting.variants)
        lost = sweep.failed.get(kept.BENCHMARK)
        failed = interleave.lost(names, lost) if lost else interleave.run(names, setting.benchmark)
    if failed:
        raise PipelineError("; ".join(failed))


if __name__ == "__main__":
    errors.run(main)
