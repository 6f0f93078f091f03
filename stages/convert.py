"""Convert the model into one variant, or record why it cannot be; adopts what a cluster converted."""

import argparse

from stages.cluster import kept
from stages.core import errors
from stages.core.errors import PipelineError
from stages.measurement import conversion
from stages.params import document
from stages.runtimes.registry import VALID


def main() -> None:
    """Read params, convert one variant, and write its model folder, convert.json and convert_system.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", choices=VALID)
    name = parser.parse_args().variant
    setting = document.load()
    sweep, unit = kept.read(), f"convert@{name}"
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
