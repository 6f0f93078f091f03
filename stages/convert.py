"""Convert the model into one variant, or record why it cannot be; adopts what a cluster converted."""

import argparse

from stages.common import errors, params, sweeps, variants
from stages.common.errors import PipelineError
from stages.runtimes import conversion


def main() -> None:
    """Read params, convert one variant, and write its model folder, convert.json and convert_system.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", choices=variants.VALID)
    name = parser.parse_args().variant
    setting = params.load()
    sweep, unit = sweeps.read(), f"convert@{name}"
    failed = sweep.failed.get(unit)
    if not sweep.sources[name]:
        failed = conversion.run(name, setting)
    elif failed:
        conversion.lost(name, setting, failed)
    else:
        sweep.adopt(unit)
    if failed:
        raise PipelineError(f"{name} could not be converted: {failed}")


if __name__ == "__main__":
    errors.run(main)
