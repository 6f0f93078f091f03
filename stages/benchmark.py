"""Time all variants in one run; adopts what a cluster timed."""

from stages.cluster import adopt
from stages.contracts import codec
from stages.contracts.timing import TIMING, Timing
from stages.core import errors
from stages.core.errors import PipelineError
from stages.measurement import interleave
from stages.params import load
from stages.params.measurement import BenchmarkParams, variants


def main() -> None:
    """Read params, time every variant that has a model, and write benchmark.json and samples.csv."""
    names, setting = variants(), load.read(BenchmarkParams)
    sweep = adopt.read()
    reason = sweep.failed.get(adopt.BENCHMARK)
    if sweep.benchmark and not reason:
        sweep.adopt(adopt.BENCHMARK)
    elif reason:
        interleave.record_failure(interleave.ready(names), reason)
    else:
        interleave.run(interleave.ready(names), setting)
    failed = interleave.failures(codec.read(Timing, TIMING))
    if failed:
        raise PipelineError("; ".join(failed), code="not-timed")


if __name__ == "__main__":
    errors.run(main)
