"""Time all variants in one run; adopts what a cluster timed."""

from stages.cluster import adopt
from stages.contracts import codec
from stages.contracts.timing import TIMING, Timing
from stages.core import errors
from stages.core.errors import PipelineError
from stages.measurement import interleave
from stages.params import load
from stages.params.measurement import BenchmarkParams, variants

ENDED = "the stage ended before it had timed all variants: run the same command again"


def main() -> None:
    """Read params, time every variant that has a model, and write benchmark.json and samples.csv."""
    names, setting = interleave.ready(variants()), load.read(BenchmarkParams)
    sweep = adopt.read()
    reason = sweep.failed.get(adopt.BENCHMARK)
    # What stays if this process is ended: the rows then have an accuracy and no latency.
    interleave.record_failure(names, reason or ENDED)
    if sweep.benchmark and not reason:
        sweep.adopt(adopt.BENCHMARK)
    elif not reason:
        try:
            interleave.run(names, setting)
        except Exception as error:
            interleave.record_failure(names, errors.describe(error))
            raise
    failed = interleave.failures(codec.read(Timing, TIMING))
    if failed:
        raise PipelineError("; ".join(failed), code="not-timed")


if __name__ == "__main__":
    errors.run(main)
