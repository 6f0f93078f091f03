"""Convert the model into one variant, or record why it cannot be; adopts what a cluster converted."""

import argparse

from stages.cluster import adopt
from stages.contracts.variant import argument
from stages.core import errors
from stages.core.errors import PipelineError
from stages.measurement import conversion
from stages.params import load
from stages.params.data import EvaluationParams
from stages.params.measurement import BenchmarkParams, ConvertParams, engine_batch_sizes


def main() -> None:
    """Read params, convert one variant, and write its model folder, convert.json and convert_system.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", type=argument)
    variant = parser.parse_args().variant
    batch_sizes = engine_batch_sizes(load.read(BenchmarkParams), load.read(EvaluationParams).batch_size)
    name, options = variant.name, load.options(variant.runtime)
    setting = conversion.Setting(batch_sizes, load.read(ConvertParams).repeats, options)
    sweep, unit = adopt.read(), f"convert@{name}"
    if not sweep.sources.get(name):
        status = conversion.run(name, setting)
    elif unit in sweep.failed:
        status = conversion.record_failure(name, sweep.failed[unit])
    else:
        sweep.adopt(unit)
        return
    if status.state == "failed":
        raise PipelineError(f"{name} could not be converted: {status.reason}", code="not-converted", variant=name)


if __name__ == "__main__":
    errors.run(main)
